"""Locks that are files: the kernel lets them go if the process that holds one dies."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_POLL = 0.05
"""Seconds between two tries of a lock: a blocking one would know no deadline."""


class LockTimeoutError(Exception):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold a lock on a file of this name, which goes when it is let go; tried once at least.

    Raises:
        LockTimeoutError: Somebody else still has it at the deadline.
    """
    while (file := _try_lock(path)) is None:
        if time.monotonic() + LOCK_POLL > deadline:
            raise LockTimeoutError("another installation of the same package has not ended in time")
        time.sleep(LOCK_POLL)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _try_lock(path: Path) -> int | None:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before may have removed the file after we opened it: then others lock another one.
        if os.fstat(file).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None
