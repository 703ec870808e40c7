"""Published packages on their way to the disk.

Nobody waits for the disk before a package is used: on a slow one that would take longer than all the rest. Instead a
mark is made, and is on the disk, before anything of a package is published; it goes when the whole package is on the
disk as well. While the machine runs, a published package is whole, whatever process ends. When the machine went down,
a mark of an earlier boot tells that its package may have holes: it is removed then, before anybody uses it, and fetched
again. So a package is never taken for good because half of it survived a power failure.
"""

import contextlib
import ctypes
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUFFIX = ".unsynced"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start of the machine; the same in all containers on it."""
FAILED = "failed"
"""Stands for the boot in the mark of a package that the disk did not take."""

_running: set[threading.Thread] = set()
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def marking(work: Path, key: str) -> Iterator[None]:
    """Make a package's mark while the context lasts: when it ends well, the mark is on the disk. Raises OSError."""
    with ThreadPoolExecutor(1, "mark") as pool:
        made = pool.submit(_make_mark, work, key)
        yield
        made.result()


def unmark(work: Path, key: str) -> None:
    """Remove a package's mark, if there is one: the package is on the disk, or gone. Raises OSError."""
    _mark(work, key).unlink(missing_ok=True)


def settle(work: Path, key: str) -> None:
    """Bring a published package to the disk, in the background; a process that ends normally waits for it."""
    thread = threading.Thread(target=_settle, args=(work, key), name=f"settle-{key[:40]}")
    _running.add(thread)
    thread.start()


def wait_until_settled() -> None:
    """Wait for all that was begun by ``settle`` in this process."""
    for thread in tuple(_running):
        thread.join()


def recover(work: Path, key: str, target: Path) -> None:
    """Judge what an earlier process published; its installation is locked.

    If the machine ran all the time, the package is brought to the disk now. If not, it is removed.

    Args:
        work: Folder of the marks.
        key: Of the package.
        target: Where the package was published, if it was.

    Raises:
        OSError: The package cannot be removed, or the disk does not take it.
    """
    try:
        boot = _mark(work, key).read_text()
    except FileNotFoundError:
        return
    if target.is_dir():
        if boot == BOOT_ID.read_text():
            sync_volume(work)
        else:
            logger.warning("The machine went down before %s was on the disk: it is fetched again", target)
            discard = work / key
            target.rename(discard)
            shutil.rmtree(discard)
    unmark(work, key)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk: of a folder only which names it has. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_volume(path: Path) -> None:
    """Bring all that was written on a volume to its disk: one call, where a package may have 100,000 files.

    Raises:
        OSError: The disk did not take it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(folder) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(folder)


def _settle(work: Path, key: str) -> None:
    try:
        sync_volume(work)
        unmark(work, key)
    except OSError as error:
        logger.error("The disk does not take what was written to it: %s", error)  # noqa: TRY400  # It says it all.
        # The kernel tells such an error only once: the mark remembers it.
        with contextlib.suppress(OSError):
            _mark(work, key).write_text(FAILED)
    finally:
        _running.discard(threading.current_thread())


def _make_mark(work: Path, key: str) -> None:
    path = _mark(work, key)
    path.write_text(BOOT_ID.read_text())
    for changed in (path, work, work.parent):
        sync(changed)


def _mark(work: Path, key: str) -> Path:
    return work / f"{key}{SUFFIX}"
