"""Judging a package as a whole, without unpacking it to disk."""

import os
from dataclasses import dataclass, field
from typing import BinaryIO

from packhorse.archive.contents import read_contents
from packhorse.archive.end import End, ReadAt, find_end
from packhorse.archive.entries import Entry, Kind, check_layout, read_entries, read_layout
from packhorse.archive.errors import ArchiveError
from packhorse.archive.limits import Limits, Summary
from packhorse.archive.tree import Tree


def inspect(file: BinaryIO, limits: Limits | None = None, *, unpack: bool = False) -> Summary:
    """Judge a ZIP file by the rules for packages.

    Args:
        file: Seekable. It is read at its end, and then from its beginning on, some bytes an entry: over a network, put
            a buffer in between. Memory is bounded by ``limits``: about 500 bytes an entry.
        limits: How much it may hold; the default limits if None.
        unpack: Also unpack every file, and throw the result away: this finds damaged data and false sizes as well, at
            the cost of as much CPU time as unpacking takes.

    Raises:
        ArchiveError: It is damaged, or not fit for a package.
        OSError: It cannot be read.
    """

    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        return _read_fully(file, length)

    size = file.seek(0, os.SEEK_END)
    return verify(read_at, size, limits) if unpack else _judge(read_at, size, limits or Limits())


def verify(read_at: ReadAt, file_size: int, limits: Limits | None = None) -> Summary:
    """Judge a ZIP file by the rules for packages, and unpack every file, and throw the result away.

    Args:
        read_at: The ZIP file. It is read at its end, where the central directory lies, and then once from its beginning
            to its end, in pieces of up to 1 MiB: over a network, put a buffer in between. Memory as for ``inspect``.
        file_size: Bytes of it.
        limits: How much it may hold; the default limits if None.

    Raises:
        ArchiveError: It is damaged, or not fit for a package.
        Exception: What ``read_at`` raises.
    """
    limits = limits or Limits()
    directory = read_directory(read_at, file_size, limits)
    for entry in read_layout(read_at, directory.entries, directory.end):
        if entry.kind is Kind.LINK:
            directory.add_target(read_at, entry, limits)
            continue
        for _ in read_contents(read_at, entry):
            pass
    directory.check_links()
    return directory.summary


def _read_fully(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    while 0 < len(data) < length:
        more = file.read(length - len(data))
        if not more:
            break
        data += more
    return data


@dataclass(slots=True)
class Directory:
    """What the central directory says: each entry by itself is fit for a package, and their names fit together.

    Attributes:
        end: Where it lies.
        entries: Not yet compared with the headers in the file; folders may or may not be among them.
        tree: The names of all.
        summary: How much it is.
        targets: Where each symbolic link points to, by its path, as far as they were added.
    """

    end: End
    entries: list[Entry]
    tree: Tree
    summary: Summary
    targets: dict[str, str] = field(default_factory=dict)

    def add_target(self, read_at: ReadAt, link: Entry, limits: Limits) -> None:
        """Read where a symbolic link points to. Raises ArchiveError."""
        self.targets[link.name] = _read_target(read_at, link, limits)
        self.tree.add_target(link.name, self.targets[link.name])

    def check_links(self) -> None:
        """Follow all links, once all targets were added. Raises ArchiveError where one leads astray."""
        self.tree.check_links()


def read_directory(read_at: ReadAt, file_size: int, limits: Limits) -> Directory:
    """Read the directory of a ZIP file, which lies at its end, and judge it.

    Raises:
        ArchiveError: It is damaged, or not fit for a package.
    """
    end = find_end(read_at, file_size)
    _check_directory_size(end, limits)
    tree = Tree(limits)
    entries: list[Entry] = []
    total = files = 0
    for entry in read_entries(read_at, end):
        tree.add(entry.name, entry.kind)
        total += entry.size
        files += entry.kind is not Kind.FOLDER
        _check_sizes(entry, total, file_size, limits)
        entries.append(entry)
    return Directory(end, entries, tree, Summary(files, total))


def _judge(read_at: ReadAt, file_size: int, limits: Limits) -> Summary:
    """Read the directory of a ZIP file and judge it, all its headers, and its symbolic links. Raises ArchiveError."""
    directory = read_directory(read_at, file_size, limits)
    check_layout(read_at, directory.entries, directory.end)
    for entry in directory.entries:
        if entry.kind is Kind.LINK:
            directory.add_target(read_at, entry, limits)
    directory.check_links()
    return directory.summary


def _check_directory_size(end: End, limits: Limits) -> None:
    # Before anything is read: what the end record claims bounds what follows.
    if end.entries > limits.files:
        raise ArchiveError(
            f"holds {end.entries} entries, the limit is {limits.files}", remedy="Pack fewer, or have the limit raised."
        )
    if end.size > limits.directory_size:
        raise ArchiveError(
            f"has a central directory of {end.size} bytes, the limit is {limits.directory_size}",
            remedy="Pack fewer files, or have the limit raised.",
        )


def _check_sizes(entry: Entry, total: int, file_size: int, limits: Limits) -> None:
    remedy = "Pack less, or have the limit raised."
    if entry.size > limits.file_size:
        reason = f"is {entry.size} bytes long unpacked, the limit is {limits.file_size}"
        raise ArchiveError(reason, entry=entry.name, remedy=remedy)
    if total > limits.total_size:
        raise ArchiveError(f"holds more than {limits.total_size} bytes unpacked, the limit", remedy=remedy)
    if total > limits.ratio * file_size:
        raise ArchiveError(
            f"grows to more than {limits.ratio} times its size, the limit; it may be meant to fill the disk",
            remedy=remedy,
        )


def _read_target(read_at: ReadAt, entry: Entry, limits: Limits) -> str:
    if entry.size > limits.path_length:
        raise ArchiveError("is a symbolic link to a path beyond the limit", entry=entry.name, remedy="Shorten it.")
    target = b"".join(read_contents(read_at, entry))
    try:
        return target.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError("is a symbolic link to a path that is not valid UTF-8", entry=entry.name) from None
