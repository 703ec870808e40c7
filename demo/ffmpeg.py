"""The input: a program that anybody can have, in two versions, as packages that anybody could have made."""

import sys
import zipfile
from pathlib import Path

from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError, run

VERSIONS = ("4.2.2", "7.0.2")
_REQUIREMENTS = Path(__file__).parent
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_MANYLINUX = ("manylinux2014", "manylinux2010")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input gives the same ZIP file, on whatever day


def package(cache: Cache, folder: Path, version: str, architecture: str) -> Path:
    """A ZIP file with ``bin/ffmpeg`` in it, made unless it is there.

    Args:
        cache: Its lock keeps two demos from making it at once.
        folder: Where the ZIP file, and the wheel that it is made from, are kept.
        version: One of ``VERSIONS``.
        architecture: That of the cluster's nodes, in Kubernetes' words.

    Raises:
        ClusterError: There is no ffmpeg for these nodes, or it cannot be fetched.
    """
    if architecture not in _MACHINES:
        raise ClusterError(f"The demo has an ffmpeg for {' and '.join(_MACHINES)}, not for the nodes' {architecture}.")
    target = folder / architecture / f"ffmpeg-{version}.zip"
    with cache.lock("demo"):
        if not target.exists():
            wheel = _fetch(folder / architecture / f"wheel-{version}", version, _MACHINES[architecture])
            with cache.publish(target) as part:
                _pack(wheel, part)
    return target


def _fetch(folder: Path, version: str, machine: str) -> Path:
    """The wheel of that version; pip compares its digest with the one that is checked in."""
    platforms = [word for name in _MANYLINUX for word in ("--platform", f"{name}_{machine}")]
    run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--require-hashes", *platforms, "--dest", str(folder)),
            *("--requirement", str(_REQUIREMENTS / f"ffmpeg-{version}.txt")),
        ],
        timeout=600,
    )
    return next(folder.glob("imageio_ffmpeg-*.whl"))


def _pack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w") as package_:
        names = [name for name in source.namelist() if "/binaries/ffmpeg-linux" in name]
        if len(names) != 1:
            raise ClusterError(f"{wheel.name} holds {len(names)} programs where one is expected.")
        entry = zipfile.ZipInfo("bin/ffmpeg", _EPOCH)
        entry.create_system = 3  # Unix, so that the mode counts
        entry.external_attr = 0o100755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        package_.writestr(entry, source.read(names[0]))
