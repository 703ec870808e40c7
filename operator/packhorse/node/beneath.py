"""Files in folders that tasks can write to, handled so that no task can turn the agent against others.

Whatever lies in ``run``, ``workitems``, ``shared``, ``startup`` and ``fsmounts`` a task may replace at any moment: a
file or a folder by a symbolic link, a FIFO, a device, or by one of another content. The agent has what tasks have not,
the token for the node service and its own records. Had it followed such a link, a task could have read the token in its
own output, or had the records overwritten, or their folder's mode changed; a FIFO would have held it up for ever.

So a path is walked from a folder that tasks cannot replace, one name after the other, without following any link.
Nothing is opened before it is known to be what was expected: ``O_PATH`` gives hold of a thing without touching it, and
``/proc/self/fd`` opens just that thing, whatever has taken its place meanwhile. All functions raise ``OSError``.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

ASIDE = "aside-"
"""How the names of folders begin that were in the way; the supervisor removes them, with the tasks' own rights."""

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class NotExpectedError(OSError):
    """Something else lies where a file, a FIFO or a folder of ours should: a task put it there."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(errno.EINVAL, f"is no {expected}; a task put something else in its place", name)


@contextlib.contextmanager
def folder(base: Path, *names: str) -> Iterator[int]:
    """A descriptor of the folder ``base/names...``, to be used by the functions below.

    Args:
        base: A folder that no task can replace.
        names: The way from there.

    Raises:
        NotExpectedError: One of the names is a link, or no folder.
        OSError: There is no such folder, or it cannot be entered.
    """
    descriptor = os.open(base, _FOLDER)
    try:
        for name in names:
            inner = _open_folder(descriptor, name)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(parent: int, name: str, mode: int) -> None:
    """Have a folder there, with this mode; what is no folder goes. One that a task made stays as it is."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
    descriptor = _open_folder(parent, name)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            _again(descriptor).chmod(mode)
    finally:
        os.close(descriptor)


def make_fifo(parent: int, name: str, mode: int) -> None:
    """Have a FIFO of our own there, with this mode; anything else goes."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not (stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid()):
            remove(parent, name)
    except FileNotFoundError:
        pass
    with contextlib.suppress(FileExistsError):
        os.mkfifo(name, 0o600, dir_fd=parent)
    with _held(parent, name, stat.S_ISFIFO, "FIFO") as descriptor:
        _again(descriptor).chmod(mode)


def open_fifo(parent: int, name: str) -> int:
    """Open a FIFO for both directions, not to block; the descriptor is the caller's."""
    with _held(parent, name, stat.S_ISFIFO, "FIFO") as descriptor:
        return os.open(_again(descriptor), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def is_there(parent: int, name: str, descriptor: int) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def read_link(parent: int, name: str) -> str:
    """What a symbolic link says; nothing is followed. The supervisor tells exit codes so."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise NotExpectedError(name, "symbolic link") from error
        raise


def read_end(parent: int, name: str, limit: int) -> tuple[bytes, int]:
    """The end of a regular file, at most so many bytes, and how long it is as a whole."""
    with _regular(parent, name) as file:
        size = os.fstat(file).st_size
        return os.pread(file, limit, max(0, size - limit)), size


def modified(parent: int, name: str) -> int:
    """When a regular file was last written, in nanoseconds since 1970."""
    with _held(parent, name, stat.S_ISREG, "regular file") as descriptor:
        return os.fstat(descriptor).st_mtime_ns


def write(parent: int, name: str, content: bytes, mode: int) -> None:
    """Write a file so that a reader sees the old or the new one, whole."""
    temporary = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)
    create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, create, 0o600, dir_fd=parent), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def remove(parent: int, name: str) -> str | None:
    """Have nothing of this name there.

    Returns:
        The name that a folder with something in it has now: it may be of any depth, and not ours to look into.
    """
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError:
            aside = ASIDE + secrets.token_hex(8)
            os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
            return aside
    return None


def remove_folder(parent: int, name: str, files: tuple[str, ...]) -> str | None:
    """Remove a folder that should hold these files and no others. Returns as ``remove`` does."""
    with contextlib.suppress(OSError):
        descriptor = _open_folder(parent, name)
        try:
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file, dir_fd=descriptor)
        finally:
            os.close(descriptor)
    return remove(parent, name)


def _open_folder(parent: int, name: str) -> int:
    if "/" in name or name in {"", ".", ".."}:
        raise NotExpectedError(name, "name of a folder")
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except NotADirectoryError as error:
        raise NotExpectedError(name, "folder") from error


@contextlib.contextmanager
def _held(parent: int, name: str, check: Callable[[int], bool], expected: str) -> Iterator[int]:
    """Hold a thing of a certain kind without opening it."""
    descriptor = os.open(name, _HOLD, dir_fd=parent)
    try:
        if not check(os.fstat(descriptor).st_mode):
            raise NotExpectedError(name, expected)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _regular(parent: int, name: str) -> Iterator[int]:
    """Open a regular file to read; not to block, since somebody may hold a lease on it."""
    with _held(parent, name, stat.S_ISREG, "regular file") as descriptor:
        file = os.open(_again(descriptor), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _again(descriptor: int) -> Path:
    """A path to just that thing."""
    return Path(f"/proc/self/fd/{descriptor}")
