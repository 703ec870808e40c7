"""File systems for images, made of Debian's packages."""

import os
import platform
import shutil
from pathlib import Path

from tests.cluster import apt
from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError, run


def mirror(suite: str) -> list[str]:
    """The mirror that this machine's apt takes `suite` from, as debootstrap's argument; empty where it names none."""
    if not shutil.which("apt-get"):
        return []
    targets = run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
    for line in targets.splitlines():
        site, release, component = line.split()
        if (release, component) == (suite, "main") and site.startswith("http"):
            return [site]
    return []


def make(cache: Cache, root: Path, packages: list[str]) -> None:
    """Make a minimal Debian 12 with these packages in the folder `root`, without documents and package lists.

    Raises:
        ClusterError: It takes root, and an x86-64 processor, for which what goes into the images is named.
    """
    if os.geteuid() != 0:
        raise ClusterError("No container registry answers, and making images without one takes root: run this as root.")
    if platform.machine() != "x86_64":
        raise ClusterError(
            f"No container registry answers, and images can be made without one on x86-64 only, not on "
            f"{platform.machine()}. Let Docker reach a registry, or name a cluster of yours by --kubeconfig."
        )
    apt.install(cache, {"debootstrap": "debootstrap"}, "Making images without a container registry")
    downloads = cache.root / "debian"
    include = [f"--include={','.join(packages)}"] if packages else []
    with cache.lock("debootstrap"):
        downloads.mkdir(exist_ok=True)
        # In a mount namespace of its own: what it mounts goes with it, also when it is killed.
        run(
            ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--cache-dir={downloads}", *include,
             "bookworm", root, *mirror("bookworm")],
            log=cache.log("debootstrap"),
        )  # fmt: skip
    for folder in ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/log"):
        _empty(root / folder)
    for folder in ("doc", "locale", "man", "info"):
        _empty(root / "usr/share" / folder)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
