"""A folder as a ZIP file, always in the same way: the same folder gives the same bytes, whenever and wherever.

Entries are sorted by name, times are fixed, and of the modes only the owner's execute bit counts. Who owns the files,
when they were written, and in which order the file system lists them does not show. What is compressed already is
stored.
"""

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from packhorse.archive import ArchiveError, Limits
from packhorse.archive.entries import Kind
from packhorse.archive.errors import shown
from packhorse.archive.tree import Tree
from packhorse.cli.errors import CliError
from packhorse.cli.progress import Advance, meter
from packhorse.cli.whole import written_whole

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can tell
_UNIX = 3
_READ = 1 << 20
_SAMPLE = 1 << 18  # bytes of a file by which it is decided whether compressing is worth the time
_WORTH = 0.95  # compressed size over size
_NO_SPACE = "Set the variable TMPDIR to a folder with enough space."

_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class _Item:
    """Something in the folder.

    Attributes:
        name: Path in the folder, with slashes, without one at its end.
        kind: What it is.
        size: Bytes of a file, else 0.
        mark: What changes when the item is changed.
        target: Where a symbolic link points to, else empty.
        executable: Whether its owner may execute it.
    """

    name: str
    kind: Kind
    size: int
    mark: tuple[int, ...]
    target: str = ""
    executable: bool = False


@contextmanager
def packed(path: Path) -> Iterator[Path]:
    """The ZIP file that a path means: itself, or a temporary one where it is a folder, removed in the end.

    Raises:
        CliError: The folder cannot be packed; the message says why.
    """
    if not path.is_dir():
        yield path
        return
    # TMPDIR says where there is space; the folder's own place may be read-only.
    with _writable(Path(tempfile.gettempdir()), _NO_SPACE):
        place = Path(tempfile.mkdtemp(prefix="packhorse-"))
    try:
        target = place / f"{path.resolve().name or 'package'}.zip"
        with _readable(path), _writable(target, _NO_SPACE), target.open("xb") as file:
            _pack(path, file)
        yield target
    finally:
        shutil.rmtree(place, ignore_errors=True)


def pack(folder: Path, target: Path) -> None:
    """Pack a folder as a ZIP file, which is there as a whole or not at all.

    Raises:
        CliError: The folder cannot be packed, or the file cannot be written.
    """
    if not folder.is_dir():
        raise CliError(f"{folder} is no folder.")
    if folder.resolve() in target.resolve().parents:
        raise CliError(f"{target} would be inside of {folder}, and so a part of itself.", "Write it elsewhere.")
    with _readable(folder), _writable(target, ""), written_whole(target) as (file, _):
        _pack(folder, file)


class _SourceError(Exception):
    """The folder cannot be read; the cause is an OSError."""


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        raise CliError(f"{folder} cannot be a package. {error}") from error
    except _SourceError as error:
        raise CliError(f"{folder} cannot be packed: {error}.") from error


@contextmanager
def _writable(target: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror or error}.", hint) from error


def _pack(folder: Path, file: BinaryIO) -> None:
    items = _list(folder)
    _judge(items)
    total = sum(item.size for item in items)
    with (
        meter(f"Packing {folder.resolve().name}", total, "bytes", quiet=True) as advance,
        zipfile.ZipFile(file, "w") as package,
    ):
        done = 0
        for item in items:
            _add(package, folder, item, advance, done)
            done += item.size
    changed = set(items) ^ set(_list(folder))
    if changed:
        raise _changed(min(item.name for item in changed))


def _list(folder: Path) -> list[_Item]:
    """All that is in a folder, sorted by name as bytes."""
    found = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            entries = list(os.scandir(folder / prefix))
        except OSError as error:
            raise _SourceError(f"{shown(prefix or '.')}: {error.strerror}") from error
        for entry in entries:
            item = _item(prefix + entry.name, entry)
            found.append(item)
            if item.kind is Kind.FOLDER:
                waiting.append(f"{item.name}/")
    return sorted(found, key=lambda item: item.name.encode())


def _item(name: str, entry: "os.DirEntry[str]") -> _Item:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ArchiveError("has a name that is not valid UTF-8", entry=name, remedy="Rename it.") from None
    try:
        found = entry.stat(follow_symlinks=False)
        target = os.readlink(entry.path) if stat.S_ISLNK(found.st_mode) else ""  # noqa: PTH115
    except OSError as error:
        raise _SourceError(f"{shown(name)}: {error.strerror}") from error
    kind = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        what = _SPECIAL.get(stat.S_IFMT(found.st_mode), "something else")
        raise ArchiveError(
            f"is {what}", entry=name, remedy="Leave it out: packages hold files, folders and symbolic links only."
        )
    if kind is Kind.FOLDER:  # its times change with what is in it, which is looked at by itself
        return _Item(name, kind, 0, (found.st_ino,))
    size = found.st_size if kind is Kind.FILE else 0
    return _Item(name, kind, size, _mark(found), target, bool(found.st_mode & stat.S_IXUSR))


def _mark(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _judge(items: list[_Item]) -> None:
    """Refuse, before anything is read, what the rules for packages refuse of names and links."""
    tree = Tree(Limits())
    for item in items:
        tree.add(item.name, item.kind)
    for item in items:
        if item.kind is Kind.LINK:
            try:
                item.target.encode()
            except UnicodeEncodeError:
                raise ArchiveError("is a symbolic link to a path that is not valid UTF-8", entry=item.name) from None
            tree.add_target(item.name, item.target)
    tree.check_links()


def _add(package: zipfile.ZipFile, folder: Path, item: _Item, advance: Advance, done: int) -> None:
    if item.kind is Kind.FOLDER:
        package.writestr(_entry(f"{item.name}/", stat.S_IFDIR | 0o755), b"")
    elif item.kind is Kind.LINK:
        package.writestr(_entry(item.name, stat.S_IFLNK | 0o777), item.target.encode())
    else:
        _add_file(package, folder, item, advance, done)


def _add_file(package: zipfile.ZipFile, folder: Path, item: _Item, advance: Advance, done: int) -> None:
    entry = _entry(item.name, stat.S_IFREG | (0o755 if item.executable else 0o644))
    with _opened(folder / item.name, item) as source:
        piece = _read(source, item)
        if _compresses(piece[:_SAMPLE]):
            entry.compress_type = zipfile.ZIP_DEFLATED
        entry.file_size = item.size  # a large one gets 64-bit fields by this
        read = 0
        with package.open(entry, "w") as target:
            while piece:
                target.write(piece)
                read += len(piece)
                if read > item.size:  # a log, say, that grows as fast as it is read
                    break
                advance(done + read)
                piece = _read(source, item)
        if read != item.size or _mark(os.fstat(source.fileno())) != item.mark:
            raise _changed(item.name)


@contextmanager
def _opened(path: Path, item: _Item) -> Iterator[BinaryIO]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _changed(item.name) from None
    except OSError as error:
        raise _SourceError(f"{shown(item.name)}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if _mark(os.fstat(descriptor)) != item.mark:
            raise _changed(item.name)
        yield file


def _read(source: BinaryIO, item: _Item) -> bytes:
    try:
        return source.read(_READ)
    except OSError as error:
        raise _SourceError(f"{shown(item.name)}: {error.strerror}") from error


def _changed(name: str) -> ArchiveError:
    return ArchiveError("was changed while it was packed", entry=name, remedy="Try again when nothing writes there.")


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = _UNIX
    entry.external_attr = mode << 16 | (0x10 if stat.S_ISDIR(mode) else 0)
    return entry


def _compresses(sample: bytes) -> bool:
    return len(zlib.compress(sample, 1)) < _WORTH * len(sample)
