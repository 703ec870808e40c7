"""The base of a kind node image: Debian with systemd, containerd and kind's own files.

It follows the Dockerfile of kind's `images/base`, step by step, with binaries built here and without a registry.
"""

import json
import shutil
from pathlib import Path

from tests.cluster import golang
from tests.cluster.cache import Cache
from tests.cluster.command import run
from tests.cluster.engine import Engine

PACKAGES = [
    "systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount", "kmod", "libseccomp2",
    "pigz", "e2fsprogs", "bash", "ca-certificates", "curl", "jq", "procps", "busybox-static",
]  # fmt: skip
_CHROOT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Units that make no sense in a container, by folder of the file system.
_UNITS_REMOVED = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
)


def chroot(root: Path, *command: str) -> str:
    """Run a program of the file system below `root` in it."""
    return run(["chroot", root, "/usr/bin/env", "-i", _CHROOT_PATH, *command])


def make(cache: Cache, engine: Engine, work: Path, debian_root: Path, name: str) -> None:
    """Make the image `name` on the engine.

    Args:
        cache: Where the binaries come from.
        engine: Where the image goes.
        work: A folder for temporary files.
        debian_root: Debian with `PACKAGES`; it stays as it is.
        name: Repository and tag.
    """
    root = work / "base"
    run(["cp", "--archive", debian_root, root])
    _add_kinds_files(root, golang.module_folder(golang.KIND) / "images" / "base" / "files")
    for pattern in _UNITS_REMOVED:
        for unit in root.glob(pattern):
            unit.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    init = root / "sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/usr/lib/systemd/systemd")
    chroot(root, "systemctl", "--quiet", "enable", "kubelet.service", "containerd.service", "undo-mount-hacks.service")
    chroot(root, "systemctl", "--quiet", "mask", "systemd-binfmt.service")
    _add_binaries(cache, root)
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(_container_spec(root)))
    tar = work / "base.tar"
    run(["tar", "--directory", root, "--numeric-owner", "--create", "--file", tar, "."])
    layer = f"{name}-layer"
    engine.docker("import", tar, layer)
    # `docker import` knows no stop signal, so the image's settings come from a build.
    dockerfile = f"""FROM {layer}
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
"""
    engine.build("--tag", name, "-", stdin=dockerfile)
    engine.docker("image", "rm", layer)
    tar.unlink()
    shutil.rmtree(root)


def _add_kinds_files(root: Path, files: Path) -> None:
    """Copy kind's files; Go's module cache has dropped their execute bits."""
    run(["cp", "--recursive", "--no-preserve=mode", f"{files}/.", root])
    for program in (
        root / "kind",
        root / "kind/bin",
        *(root / "kind/bin").iterdir(),
        *(root / "usr/local/bin").iterdir(),
    ):
        program.chmod(0o755)


def _add_binaries(cache: Cache, root: Path) -> None:
    for folder in ("etc/kubernetes/manifests", "opt/cni/bin"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for component, folder in (
        (golang.CONTAINERD, "usr/local/bin"),
        (golang.CRI_TOOLS, "usr/local/bin"),
        (golang.RUNC, "usr/local/sbin"),
        (golang.CNI_PLUGINS, "opt/cni/bin"),
    ):
        for binary in golang.binaries(golang.build(cache, component)):
            shutil.copy(binary, root / folder)


def _container_spec(root: Path) -> dict[str, object]:
    """What containers start from: containerd's own default, with kind's hook, and without limits of its own."""
    spec = json.loads(chroot(root, "ctr", "oci", "spec"))
    hooks = spec.setdefault("hooks", {}).setdefault("createContainer", [])
    hooks.append({"path": "/kind/bin/mount-product-files.sh"})
    spec["process"].pop("rlimits", None)
    return dict(spec)
