"""Programs built from the Go module proxy: each from a go.mod and go.sum of its own, checked in below `go/`."""

import dataclasses
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.cache import Cache, content_key
from tests.cluster.command import ClusterError, CommandError, run
from tests.cluster.progress import say

MODULES = Path(__file__).parent / "go"
_OLDEST_GO = (1, 21)  # from here on Go fetches by itself the newer Go that a go.mod asks for


@dataclasses.dataclass(frozen=True)
class Component:
    """Some commands of one Go module.

    Attributes:
        name: What it is called in the cache and in what is printed.
        module: The module whose version go.mod fixes.
        commands: The packages to build, below the module.
        folder: The folder of its go.mod, below `go/`.
        version_flags: What the linker sets, with `{version}` (v1.2.3) and `{number}` (1.2.3) to be filled in.
        tags: Build tags.
        cgo: Whether it takes a C compiler.
        seconds: How long it takes about on 2 cores, with nothing cached.
    """

    name: str
    module: str
    commands: tuple[str, ...]
    folder: str
    version_flags: str = ""
    tags: str = ""
    cgo: bool = False
    seconds: int = 30

    @property
    def version(self) -> str:
        """The version that go.mod fixes, like v1.2.3."""
        return required_version((MODULES / self.folder / "go.mod").read_text(), self.module)

    @property
    def key(self) -> str:
        """The key of its binaries: what goes into them, and for which processor."""
        fields = dataclasses.astuple(dataclasses.replace(self, seconds=0))
        return content_key([MODULES / self.folder, repr(fields), os.uname().machine])


_KUBE = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins"
_CRI_TOOLS = "sigs.k8s.io/cri-tools"
_KUBE_FLAGS = (
    f"-X {_KUBE}.gitVersion={{version}} -X {_KUBE}.gitMajor=1 -X {_KUBE}.gitMinor=34 "
    f"-X {_KUBE}.gitCommit=unknown -X {_KUBE}.gitTreeState=clean"
)

KIND = Component("kind", "sigs.k8s.io/kind", ("",), "kind", seconds=20)
HELM = Component("helm", "helm.sh/helm/v3", ("cmd/helm",), "helm", seconds=80)
KUBECTL = Component("kubectl", "k8s.io/kubernetes", ("cmd/kubectl",), "kubernetes", _KUBE_FLAGS, seconds=120)
KUBERNETES = Component(
    "kubernetes", "k8s.io/kubernetes",
    tuple(f"cmd/{command}" for command in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
                                           "kubelet", "kubectl", "kubeadm")),
    "kubernetes", _KUBE_FLAGS, seconds=300,
)  # fmt: skip
ETCD = Component("etcd", "go.etcd.io/etcd/server/v3", ("",), "etcd", seconds=25)
COREDNS = Component("coredns", "github.com/coredns/coredns", ("",), "coredns", seconds=90)
CONTAINERD = Component(
    "containerd", _CONTAINERD, ("cmd/containerd", "cmd/ctr", "cmd/containerd-shim-runc-v2"), "containerd",
    f"-X {_CONTAINERD}/version.Version={{version}} -X {_CONTAINERD}/version.Package={_CONTAINERD}",
    tags="no_aufs,no_zfs,no_btrfs,no_devmapper", seconds=50,
)  # fmt: skip
RUNC = Component(
    "runc", "github.com/opencontainers/runc", ("",), "runc", "-X main.version={number}", tags="seccomp", cgo=True
)
CNI_PLUGINS = Component(
    "cni-plugins", _CNI,
    ("plugins/ipam/host-local", "plugins/main/loopback", "plugins/main/ptp", "plugins/meta/portmap"),
    "cni-plugins", f"-X {_CNI}/pkg/utils/buildversion.BuildVersion={{version}}",
)  # fmt: skip
CRI_TOOLS = Component(
    "cri-tools", _CRI_TOOLS, ("cmd/crictl",), "cri-tools", f"-X {_CRI_TOOLS}/pkg/version.Version={{version}}"
)
LOCAL_PATH = Component(
    "local-path-provisioner", "github.com/rancher/local-path-provisioner", ("",), "local-path-provisioner", seconds=60
)


def required_version(go_mod: str, module: str) -> str:
    """The version of `module` that the text of a go.mod requires.

    Raises:
        ClusterError: It requires none.
    """
    if found := re.search(rf"^(?:require)?\s+{re.escape(module)} (v\S+)", go_mod, re.MULTILINE):
        return found[1]
    raise ClusterError(f"No version of {module} is required by its go.mod.")


def built(cache: Cache, component: Component) -> Path:
    """The folder where the component's binaries are, or will be."""
    return cache.root / "go" / f"{component.name}-{component.version}-{component.key}"


def build(cache: Cache, component: Component) -> Path:
    """Build the component unless the cache has it; the folder with its binaries, named as the commands are.

    Raises:
        ClusterError: There is no Go that can do it, or it fails.
    """
    target = built(cache, component)
    if target.exists():
        return target
    with cache.lock(f"go-{component.name}"):
        if target.exists():
            return target
        _check_go()
        say(f"Building {component.name} {component.version} (about {component.seconds} s).")
        packages = [f"{component.module}/{command}".rstrip("/") for command in component.commands]
        flags = component.version_flags.format(version=component.version, number=component.version.removeprefix("v"))
        with cache.publish(target) as part:
            part.mkdir()
            run(
                ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", f"-tags={component.tags}",
                 f"-ldflags=-s -w {flags}", "-o", f"{part}/", *packages],
                cwd=MODULES / component.folder,
                env={"CGO_ENABLED": "1" if component.cgo else "0", "GOWORK": "off", "GOFLAGS": None, "GOBIN": None},
                log=cache.log(f"go-{component.name}"),
            )  # fmt: skip
    return target


def module_folder(component: Component) -> Path:
    """Where Go keeps the sources of the component's module."""
    _check_go()
    folder = run(
        ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", component.module],
        cwd=MODULES / component.folder,
        env={"GOWORK": "off", "GOFLAGS": None},
    )
    return Path(folder.strip())


def new_enough(go_version: str) -> bool:
    """Whether the Go that calls itself `go_version` (like "go1.26.8") can build the components."""
    found = re.match(r"go(\d+)\.(\d+)", go_version)
    return bool(found) and (int(found[1]), int(found[2])) >= _OLDEST_GO if found else False


def _check_go() -> None:
    advice = (
        "Install Go 1.26.3 or newer (https://go.dev/dl; from 1.21 on Go fetches that by itself) and put it on the "
        "PATH. It builds the tools and the node image where they cannot be had ready-made."
    )
    if not shutil.which("go"):
        raise ClusterError(f"There is no Go here. {advice}")
    try:
        version = run(["go", "env", "GOVERSION"], cwd=MODULES).strip()
    except CommandError as error:
        raise ClusterError(f"Go does not work here. {advice}\n{error}") from error
    if not new_enough(version):
        raise ClusterError(f"Go here is {version or 'older than 1.21'}. {advice}")


def binaries(folder: Path) -> Sequence[Path]:
    """The binaries in a folder that `build` returned."""
    return sorted(folder.iterdir())
