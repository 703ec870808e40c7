"""Programs that Debian's package manager brings to this machine."""

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
        run(["apt-get", "update", "-q"], env=_NO_QUESTIONS, log=cache.log("apt-update"), keep_locks=False)
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            env=_NO_QUESTIONS,
            log=cache.log("apt-install"),
            keep_locks=False,
        )
