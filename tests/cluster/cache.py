"""What is costly to make is kept outside the checkout, named by what it is made of, published whole or not at all."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.cluster.command import held_locks
from tests.cluster.progress import say

_KEY = 16  # hexadecimal digits of a key: 64 bits


def default_root(env: Mapping[str, str]) -> Path:
    """The cache's folder: PACKHORSE_CACHE, or `packhorse` in the user's cache folder."""
    if chosen := env.get("PACKHORSE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "packhorse"


def content_key(parts: Iterable[Path | str]) -> str:
    """The key of something made of these texts, files and folders; where the files lie does not count.

    A folder counts with the names, execute bits and contents of the files in it, Python's caches apart. The order of
    the parts counts.
    """
    digest = hashlib.sha256()

    def add(*fields: bytes) -> None:
        for field in fields:
            digest.update(f"{len(field)}:".encode())
            digest.update(field)

    for part in parts:
        if isinstance(part, str):
            add(b"text", part.encode())
        elif part.is_dir():
            files = sorted(file for file in part.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
            add(b"folder", str(len(files)).encode())
            for file in files:
                add(str(file.relative_to(part)).encode(), _executable(file), file.read_bytes())
        else:
            add(b"file", part.name.encode(), _executable(part), part.read_bytes())
    return digest.hexdigest()[:_KEY]


def _executable(file: Path) -> bytes:
    return b"x" if file.stat().st_mode & 0o100 else b"-"


class Cache:
    """A folder of finished things.

    Attributes:
        root: The folder itself. It holds nothing that cannot be made again.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root(os.environ)
        self.root.mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> Path:
        """Where the output of a long step goes."""
        return self.root / "log" / f"{name}.log"

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that other processes respect; it ends with this process and what it runs, however they end."""
        path = self.root / "lock" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                say(f"Waiting for process {file.read().strip() or '?'}, which is at work on {name}.")
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            held_locks.add(file.fileno())
            try:
                yield
            finally:
                held_locks.remove(file.fileno())

    @contextlib.contextmanager
    def publish(self, target: Path) -> Iterator[Path]:
        """Give a new path, to be made a file or folder, that becomes `target` at the end, or vanishes on an error.

        The caller holds the lock of whatever makes `target`: leftovers of an interrupted earlier try are removed.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        remove(part)
        try:
            yield part
            part.rename(target)
        finally:
            remove(part)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
