"""The packages that are installed. They are made or fetched once and kept outside the checkout."""

import hashlib
import random
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cache import Cache
from tests.cluster.command import run
from tests.cluster.progress import say

BLENDER = "bpy==5.0.1"
MIB = 1 << 20
SMALL_FILES = 20_000


@dataclass(frozen=True)
class Load:
    """A package.

    Attributes:
        name: How it is chosen.
        path: The ZIP file.
        sha256: Its digest.
        files: How many files it holds.
        unpacked: Bytes of all of them.
    """

    name: str
    path: Path
    sha256: str
    files: int
    unpacked: int

    def __str__(self) -> str:
        size = self.path.stat().st_size
        return f"{self.name}: {size / 1e6:.0f} MB, {self.unpacked / 1e6:.0f} MB in {self.files} files"


def load(cache: Cache, name: str) -> Load:
    """Return one of ``LOADS``, made if need be.

    Raises:
        ClusterError: Blender cannot be fetched.
    """
    path = cache.root / "benchmark-packages" / f"{name}.zip"
    with cache.lock("benchmark-packages"):
        if not path.exists():
            say(f"Making the package {name}.")
            with cache.publish(path) as part:
                LOADS[name](cache, part)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    return Load(name, path, digest, len(entries), sum(entry.file_size for entry in entries))


def _blender(cache: Cache, target: Path) -> None:
    """Blender itself: a wheel is a ZIP file."""
    folder = target.with_name(".blender")
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--dest", folder,
         BLENDER],
        log=cache.log("blender"),
    )  # fmt: skip
    (wheel,) = folder.iterdir()
    wheel.rename(target)
    folder.rmdir()


def _small(_cache: Cache, target: Path) -> None:
    """Very many small files, as scripting languages bring them: 200 bytes to 20 KB of text."""
    chance = random.Random(1)  # noqa: S311  # Always the same.
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(2000)]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(SMALL_FILES):
            text = b" ".join(chance.choices(words, k=min(3000, int(chance.lognormvariate(5.5, 1.2)) + 30)))
            archive.writestr(f"lib/package{number // 400:03}/part{number % 400 // 20:02}/module{number:05}.py", text)


def _stored(_cache: Cache, target: Path) -> None:
    """1 GB that cannot be compressed, stored as it is: models, videos, packages in packages."""
    chance = random.Random(2)  # noqa: S311  # Always the same.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number in range(16):
            with archive.open(f"models/part{number:02}.bin", "w", force_zip64=True) as file:
                for _ in range(64):
                    file.write(chance.randbytes(MIB))


def _medium(_cache: Cache, target: Path) -> None:
    """64 MiB, for many nodes at once."""
    chance = random.Random(3)  # noqa: S311  # Always the same.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number in range(64):
            archive.writestr(f"part{number:02}.bin", chance.randbytes(MIB))


LOADS: dict[str, Callable[[Cache, Path], None]] = {
    "blender": _blender,
    "small": _small,
    "stored": _stored,
    "medium": _medium,
}
