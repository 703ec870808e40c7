"""What Debian's package manager does for us: programs on this machine, and file systems for images."""

import os
import shutil
from pathlib import Path

from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError, run
from tests.cluster.progress import say

_NO_QUESTIONS = {"DEBIAN_FRONTEND": "noninteractive"}


def can_install() -> bool:
    """Whether packages can be installed here: Debian or a child of it, as root."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def install(cache: Cache, wanted: dict[str, str | Path], purpose: str) -> None:
    """Install what is missing of the packages `wanted`, a mapping from a package to a program or file it brings.

    Raises:
        ClusterError: Something is missing and cannot be installed here.
    """
    missing = [
        package
        for package, sign in wanted.items()
        if not (sign.exists() if isinstance(sign, Path) else shutil.which(sign))
    ]
    if not missing:
        return
    names = " ".join(missing)
    if not can_install():
        raise ClusterError(
            f"{purpose} needs what these Debian packages bring: {names}. Install them, or run this as root on Debian."
        )
    with cache.lock("apt"):
        say(f"Installing Debian's {names}.")
        run(["apt-get", "update", "-q"], env=_NO_QUESTIONS, log=cache.log("apt-update"))
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            env=_NO_QUESTIONS,
            log=cache.log("apt-install"),
        )


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


def bootstrap(cache: Cache, root: Path, packages: list[str]) -> None:
    """Make a minimal Debian 12 with these packages in the folder `root`, without documents and package lists."""
    install(cache, {"debootstrap": "debootstrap"}, "Making images without a container registry")
    if os.geteuid() != 0:
        raise ClusterError("No container registry answers, and making images without one takes root: run this as root.")
    downloads = cache.root / "debian"
    downloads.mkdir(exist_ok=True)
    include = [f"--include={','.join(packages)}"] if packages else []
    run(
        ["debootstrap", "--variant=minbase", f"--cache-dir={downloads}", *include, "bookworm", root, *mirror("bookworm")],
        log=cache.log(f"debootstrap-{root.name.strip('.')}"),
    )
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
