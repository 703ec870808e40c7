"""The images that a Kubernetes cluster itself runs, in the release archive that `kind build node-image` takes."""

import shutil
from pathlib import Path

from tests.cluster import golang
from tests.cluster.cache import Cache
from tests.cluster.command import run
from tests.cluster.dockerarchive import Image, architecture, write
from tests.cluster.nodebase import chroot

_FILES = Path(__file__).parent / "files"
# The names that kind v0.33.0 looks for (its pkg/build/nodeimage/const_cni.go and const_storage.go).
_KINDNETD = "docker.io/kindest/kindnetd:v20260820-69b56db7"
_LOCAL_PATH = "docker.io/kindest/local-path-provisioner:v20260820-69b56db7"
_LOCAL_PATH_HELPER = "docker.io/kindest/local-path-helper:v20260131-7181c60a"
_PAUSES = ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10.1")  # kind's containerd and kubeadm each want one
_SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_PROXY_PROGRAMS = ("usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/sbin/conntrack", "usr/bin/kmod")


def release(cache: Cache, work: Path, debian_root: Path) -> Path:
    """Make the archive of a Kubernetes release, as its `kubernetes-server-linux-*.tar.gz` is.

    Args:
        cache: Where the binaries come from.
        work: A folder for temporary files.
        debian_root: The Debian whose iptables and busybox the images get.

    Returns:
        The archive, in `work`.
    """
    kubernetes = golang.build(cache, golang.KUBERNETES)
    tree = work / "release" / "kubernetes"
    target = tree / "server" / "bin"
    target.mkdir(parents=True)
    version = golang.KUBERNETES.version
    (tree / "version").write_text(version)
    for program in ("kubeadm", "kubelet", "kubectl"):
        shutil.copy(kubernetes / program, target)
    for server in _SERVERS:
        root = _root(work / server, {"usr/local/bin": [kubernetes / server]})
        write(target / f"{server}.tar", [Image(f"registry.k8s.io/{server}:{version}", root)])
    # kind reads four archives and no others, so all further images travel in the fourth.
    proxy = Image(f"registry.k8s.io/kube-proxy:{version}", _proxy_root(work / "proxy", kubernetes, debian_root))
    write(target / "kube-proxy.tar", [proxy, *_further_images(cache, work, debian_root)])
    archive = work / f"kubernetes-server-linux-{architecture()}.tar.gz"
    run(
        ["tar", "--directory", work / "release", "--create", "--gzip", "--file", archive, "kubernetes"],
        env={"GZIP": None},
    )
    return archive


def _further_images(cache: Cache, work: Path, debian_root: Path) -> list[Image]:
    etcd = golang.build(cache, golang.ETCD)
    coredns = golang.build(cache, golang.COREDNS)
    local_path = golang.build(cache, golang.LOCAL_PATH)
    pause = _root(work / "pause", {})
    run(["gcc", "-Os", "-static", "-s", "-o", pause / "pause", _FILES / "pause.c"])
    busybox = _busybox_root(work / "busybox", debian_root)
    kindnetd = work / "kindnetd"
    run(["cp", "--archive", busybox, kindnetd])
    (kindnetd / "usr/local/bin").mkdir(parents=True)
    shutil.copy(golang.build(cache, golang.KUBERNETES) / "kubectl", kindnetd / "usr/local/bin")
    shutil.copy(_FILES / "kindnetd", kindnetd / "bin")
    return [
        Image(f"registry.k8s.io/etcd:{golang.ETCD.version.removeprefix('v')}-0",
              _root(work / "etcd", {"usr/local/bin": [etcd / "server"]}, {"server": "etcd"})),
        Image(f"registry.k8s.io/coredns/coredns:{golang.COREDNS.version}",
              _root(work / "coredns", {".": [coredns / "coredns"]}), ["/coredns"]),
        *[Image(name, pause, ["/pause"]) for name in _PAUSES],
        Image(_KINDNETD, kindnetd, ["/bin/kindnetd"]),
        Image(_LOCAL_PATH, _root(work / "local-path", {"usr/local/bin": [local_path / "local-path-provisioner"]})),
        Image(_LOCAL_PATH_HELPER, busybox),
        Image("docker.io/library/busybox:1", busybox),
    ]  # fmt: skip


def _root(root: Path, files: dict[str, list[Path]], renamed: dict[str, str] | None = None) -> Path:
    """A file system of these files, by folder, and an empty /tmp."""
    (root / "tmp").mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc").mkdir()
    for folder, sources in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, root / folder / (renamed or {}).get(source.name, source.name))
    return root


def _busybox_root(root: Path, debian_root: Path) -> Path:
    _root(root, {"bin": [debian_root / "bin/busybox"]})
    run(["chroot", root, "/bin/busybox", "--install", "-s", "/bin"])
    return root


def _proxy_root(root: Path, kubernetes: Path, debian_root: Path) -> Path:
    """What kube-proxy runs: iptables on nftables, conntrack and modprobe, with the libraries that they load."""
    libraries = debian_root / "usr/lib/x86_64-linux-gnu"
    _root(root, {"usr/local/bin": [kubernetes / "kube-proxy"], "usr/bin": [debian_root / "bin/busybox"]})
    for folder in ("usr/sbin", "usr/lib64", "usr/lib/x86_64-linux-gnu", "run", "var"):
        (root / folder).mkdir(parents=True)
    for link in ("sbin", "bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    shutil.copytree(libraries / "xtables", root / "usr/lib/x86_64-linux-gnu/xtables", symlinks=True)
    plugins = [f"usr/lib/x86_64-linux-gnu/xtables/{file.name}" for file in (libraries / "xtables").glob("*.so")]
    for program in (*_PROXY_PROGRAMS, *plugins):
        if program not in plugins:
            shutil.copy(debian_root / program, root / program)
        for word in chroot(debian_root, "ldd", f"/{program}").split():
            if word.startswith("/"):
                # Debian's /lib is a link to /usr/lib, in the image as well.
                shutil.copy(debian_root / word.lstrip("/"), root / word.lstrip("/"))
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"):
        (root / "usr/sbin" / name).symlink_to("xtables-nft-multi")
    (root / "usr/sbin/modprobe").symlink_to("../bin/kmod")
    (root / "usr/bin/sh").symlink_to("busybox")
    for program in ("iptables", "conntrack", "nft"):
        run(["chroot", root, f"/usr/sbin/{program}", "--version"])
    return root
