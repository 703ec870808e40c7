"""Content that earlier deployments left on a node, and making room by removing what was used least recently.

A node keeps what it has, so that unchanged content is not fetched again. Only when a package does not find room,
content goes that nobody uses. When content was last used is told by its folder's time of modification.

Who uses content and who removes it agree by a lock on its folder itself: it takes no new file, for which a full disk
may have no room.
"""

import contextlib
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packhorse.node import durability
from packhorse.protocol import Package

APPLICATIONS = "applications"
SUFFIX = ".evicted"
"""Ends the names of folders, beside the installations in work, that are being removed."""
BLOCK = 512
"""Bytes that the number of a file's blocks counts in, whatever the file system's own blocks are."""

InUse = Callable[[], Collection[PurePosixPath]]
"""Tells the directories of packages that are in use or about to be, relative to the root, as ``Package.directory``.

It is called in the thread of the installation, once for all and again for each that is to go, just before it goes.
"""

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes and files: what is free, needed, or taken."""

    size: int
    files: int

    def covers(self, need: "Room") -> bool:
        """Whether it is enough."""
        return self.size >= need.size and self.files >= need.files

    def __add__(self, other: "Room") -> "Room":
        """Both together."""
        return Room(self.size + other.size, self.files + other.files)


@dataclass(frozen=True, slots=True)
class Content:
    """One unpacked package on the node.

    Attributes:
        directory: Relative to the root.
        used: When it was last used, in seconds since 1970.
        room: What it takes.
    """

    directory: PurePosixPath
    used: float
    room: Room

    @property
    def reference(self) -> str:
        """``id:version``, in lower case."""
        return ":".join(self.directory.parts[1:3])

    @property
    def key(self) -> str:
        """Names its installation."""
        return ".".join(self.directory.parts[1:])


@dataclass(frozen=True, slots=True)
class Eviction:
    """Content that went.

    Attributes:
        reference: ``id:version``, in lower case.
        directory: Where it was, relative to the root.
        freed: Bytes.
        reason: What it had to go for.
    """

    reference: str
    directory: PurePosixPath
    freed: int
    reason: str


def mark_used(root: Path, package: Package) -> bool:
    """Remember that a package is used now. Returns False if it is not there.

    What is marked does not go while it counts as in use (``InUse``): so first have it count, then mark it.
    """
    with _locked(root / package.directory, fcntl.LOCK_SH) as folder:
        if folder is None:
            return False
        # On a disk that went read-only the packages are good all the same.
        with contextlib.suppress(OSError):
            os.utime(folder)
        return True


def free_room(folder: Path) -> Room:
    """What is free on a folder's volume. Raises OSError."""
    volume = os.statvfs(folder)
    # Some file systems have no fixed number of files, and tell 0.
    return Room(volume.f_bavail * volume.f_frsize, volume.f_favail if volume.f_files else sys.maxsize)


def unused(root: Path, in_use: InUse) -> list[Content]:
    """All content that nobody uses, least recently used first. Raises OSError."""
    kept = set(in_use())
    found = []
    for directory in _directories(root):
        if directory in kept:
            continue
        # What vanishes meanwhile is gone already.
        with contextlib.suppress(FileNotFoundError):
            used = (root / directory).stat().st_mtime
            found.append(Content(directory, used, _taken(root / directory)))
    return sorted(found, key=lambda content: content.used)


def evict(root: Path, work: Path, content: Content, in_use: InUse, reason: str) -> Eviction | None:
    """Remove content, unless it is used by now. From one moment to the next nothing of it is to be seen.

    Args:
        root: The node's root directory.
        work: A folder on the same volume, where it is removed; what is left there after a crash is for ``sweep``.
        content: What is to go.
        in_use: Tells what has to stay.
        reason: What it has to go for.

    Returns:
        What went; None if it stays.

    Raises:
        OSError: It cannot be removed.
    """
    discard = work / f"{content.key}{SUFFIX}"
    with _locked(root / content.directory, fcntl.LOCK_EX) as folder:
        if folder is None or content.directory in in_use():
            return None
        if discard.exists():
            shutil.rmtree(discard)
        (root / content.directory).rename(discard)
    shutil.rmtree(discard)
    durability.unmark(work, content.key)
    return Eviction(content.reference, content.directory, content.room.size, reason)


def sweep(work: Path) -> None:
    """Remove what is left of removals that were interrupted. Raises OSError."""
    for discard in work.glob(f"*{SUFFIX}"):
        shutil.rmtree(discard)


def _directories(root: Path) -> Iterator[PurePosixPath]:
    for folder in (root / APPLICATIONS).glob("*/*/*"):
        if SHA256.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            yield PurePosixPath(folder.relative_to(root))


def _taken(folder: Path) -> Room:
    size = files = 0
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            size += Path(place, name).lstat().st_blocks * BLOCK
            files += 1
    return Room(size, files + 1)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[int | None]:
    """Hold a lock on a folder that is there, for a moment only. Gives its descriptor, or None if there is none."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        fcntl.flock(folder, kind)
        yield folder if _is_still(folder, path) else None
    finally:
        os.close(folder)


def _is_still(folder: int, path: Path) -> bool:
    """Whether a folder lies where it was opened: who had the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(folder), path.lstat())
    except FileNotFoundError:
        return False
