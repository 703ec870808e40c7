"""The entries of a ZIP file, read from its central directory and compared with the file itself.

Every byte of the file has to belong to one entry or to the directory, in the order of their offsets. So entries cannot
overlap, nothing hides between them, and a reader that goes from header to header sees what we see.
"""

import calendar
import functools
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from packhorse.archive import records
from packhorse.archive.end import End, ReadAt
from packhorse.archive.errors import ArchiveError
from packhorse.archive.records import CentralRecord, LocalHeader

STORED = 0
DEFLATED = 8

METHODS = {
    1: "Shrink",
    6: "Implode",
    9: "Deflate64",
    12: "bzip2",
    14: "LZMA",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
    99: "AES encryption",
}
HOSTS_WITH_MODES = (3, 19)
"""Unix and macOS: only there do the permission bits mean something."""

MSDOS_FOLDER = 0x10
UNSUPPORTED_FLAGS = records.FLAG_ENCRYPTED | records.FLAG_STRONG_ENCRYPTION | records.FLAG_MASKED
COMPARED_FLAGS = UNSUPPORTED_FLAGS | records.FLAG_DESCRIPTOR | records.FLAG_PATCH

DESCRIPTOR_SIGNATURE = b"PK\7\x08"
DESCRIPTORS = {12: "<LLL", 16: "<4xLLL", 20: "<LQQ", 24: "<4xLQQ"}
"""Forms of the record after an entry's data, by length: with and without signature, with long sizes or short."""


class Kind(Enum):
    """What an entry becomes on disk."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"


KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}


@dataclass(slots=True)
class Entry:
    """One entry.

    Attributes:
        name: Path inside the package, no slash at its end; not yet judged.
        other_name: The same as it is in the file, where that is not just the name; a folder's has a slash at its end.
        kind: What it becomes.
        executable: Whether somebody may execute it; None if the ZIP file does not tell.
        modified: Seconds since 1970, None if unknown. Without a time zone in the ZIP file, UTC is taken.
        flags: As in the file.
        method: ``STORED`` or ``DEFLATED``.
        crc: Checksum of its data, unpacked.
        compressed: Bytes in the ZIP file.
        size: Bytes unpacked.
        offset: Where its header begins.
        data_offset: Where its data begin; known after ``check_layout``.
    """

    name: str
    other_name: bytes | None
    kind: Kind
    executable: bool | None
    modified: int | None
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    data_offset: int = -1

    @property
    def raw_name(self) -> bytes:
        """Its name as it is in the file."""
        return self.name.encode("ascii") if self.other_name is None else self.other_name


def read_entries(read_at: ReadAt, end: End) -> Iterator[Entry]:
    """Yield the entries as the central directory has them.

    Raises:
        ArchiveError: The directory is damaged, or has something that is neither file, folder nor symbolic link, is
            encrypted, or is compressed by a method other than deflate.
    """
    for record in records.central_records(read_at, end):
        yield _entry(record)


def _entry(record: CentralRecord) -> Entry:
    if not record.name.rstrip("/"):
        raise ArchiveError("has an entry without a name")
    kind = _kind(record)
    _check_method(record)
    if kind is Kind.FOLDER and record.size:
        raise ArchiveError("is a folder with data of its own", entry=record.name)
    # A name of ASCII that is used as it is.
    plain = kind is not Kind.FOLDER and record.raw_name.isascii() and record.raw_name == record.name.encode()
    permissions = stat.S_IMODE(record.attributes >> 16) if record.host in HOSTS_WITH_MODES else 0
    return Entry(
        name=record.name.removesuffix("/"),
        # There may be very many entries: what can be told again is not kept.
        other_name=None if plain else record.raw_name,
        kind=kind,
        executable=bool(permissions & 0o111) if permissions else None,
        modified=_modified(record),
        flags=record.flags,
        method=record.method,
        crc=record.crc,
        compressed=record.size if record.compressed == record.size else record.compressed,
        size=record.size,
        offset=record.offset,
    )


def _kind(record: CentralRecord) -> Kind:
    # File types are believed whatever system the entry claims to be from, since other readers do the same.
    file_type = stat.S_IFMT(record.attributes >> 16)
    slash = record.name.endswith("/")
    kind = KINDS.get(file_type) if file_type else Kind.FOLDER if slash else Kind.FILE
    if kind is None:
        raise ArchiveError(
            "is a device, a FIFO or a socket", entry=record.name, remedy="Leave it out: packages hold files only."
        )
    # PKWARE's and ASi's Unix fields end in the target of a hard link, or in the numbers of a device.
    pkware = record.extra.get(records.EXTRA_PKWARE_UNIX, b"")
    asi = record.extra.get(records.EXTRA_ASI_UNIX, b"")
    if len(pkware) > 12 or (len(asi) > 14 and kind is not Kind.LINK):
        raise ArchiveError("is a hard link or a device", entry=record.name, remedy="Pack it as a file of its own.")
    if slash is not (kind is Kind.FOLDER):
        raise ArchiveError("is a folder by its name or by its mode, but not by both", entry=record.name)
    if record.attributes & MSDOS_FOLDER and kind is not Kind.FOLDER:
        raise ArchiveError("is a folder by its attributes, but not by its name", entry=record.name)
    return kind


def _check_method(record: CentralRecord) -> None:
    if record.flags & UNSUPPORTED_FLAGS:
        raise ArchiveError("is encrypted", entry=record.name, remedy="Make the ZIP file without a password.")
    if record.flags & records.FLAG_PATCH:
        raise ArchiveError("is a patch of another file", entry=record.name)
    if record.method not in (STORED, DEFLATED):
        method = METHODS.get(record.method, f"method {record.method}")
        raise ArchiveError(
            f"is compressed by {method}",
            entry=record.name,
            remedy="Make the ZIP file with Deflate, for example by 'zip -r' or '7z a -tzip -mm=Deflate'.",
        )
    if record.method == STORED and record.compressed != record.size:
        raise ArchiveError("is stored as it is, but in another size than its own", entry=record.name)


def _modified(record: CentralRecord) -> int | None:
    timestamp = record.extra.get(records.EXTRA_TIMESTAMP, b"")
    if len(timestamp) >= 5 and timestamp[0] & 1:
        seconds: int = struct.unpack_from("<l", timestamp, 1)[0]
        return seconds
    return _dos_time(record.dos_time)


@functools.lru_cache(maxsize=4096)
def _dos_time(stamp: int) -> int | None:
    date, time = divmod(stamp, 1 << 16)
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return calendar.timegm((year, month, day, time >> 11, time >> 5 & 63, (time & 31) * 2))


def read_layout(read_at: ReadAt, entries: list[Entry], end: End) -> Iterator[Entry]:
    """Compare all entries with their local headers, one after the other, and set where their data begin.

    Args:
        read_at: The ZIP file; it is read once from its beginning to its end, some bytes an entry.
        entries: All entries; they are left sorted by offset.
        end: Where the central directory lies.

    Yields:
        Each entry as soon as its header was read and before what follows its data is, so that who reads the data then
        reads the file forwards. What was yielded is good only when the iterator has ended.

    Raises:
        ArchiveError: A header is missing or tells another story, entries overlap, or bytes belong to none of them.
    """
    entries.sort(key=lambda entry: entry.offset)
    position = 0
    for number, entry in enumerate(entries):
        if entry.offset > position:
            raise ArchiveError("comes after bytes that belong to no entry", entry=entry.name)
        entry.data_offset = entry.offset + _header_length(read_at, entry)
        position = entry.data_offset + entry.compressed
        following = entries[number + 1].offset if number + 1 < len(entries) else end.offset
        # Before its data are read: an entry cannot take what belongs to the next one.
        if position > following:
            _overlap(entry, number, entries)
        yield entry
        if entry.flags & records.FLAG_DESCRIPTOR:
            _check_descriptor(entry, read_at(position, max(0, min(following - position, max(DESCRIPTORS) + 1))))
            position = following
    if position < end.offset:
        raise ArchiveError("has bytes that belong to no entry before its central directory")


def check_layout(read_at: ReadAt, entries: list[Entry], end: End) -> None:
    """The same for who reads the data later. Raises ArchiveError."""
    for _ in read_layout(read_at, entries, end):
        pass


def _overlap(entry: Entry, number: int, entries: list[Entry]) -> None:
    if number + 1 < len(entries):
        raise ArchiveError("overlaps another entry", entry=entries[number + 1].name)
    raise ArchiveError("overlaps the central directory", entry=entry.name)


def _header_length(read_at: ReadAt, entry: Entry) -> int:
    """Compare an entry with the header before its data, and return its length. Raises ArchiveError."""
    # Most are plain, and there may be very many.
    if not entry.flags & records.FLAG_DESCRIPTOR and entry.other_name is None:
        raw_name = entry.raw_name
        data = read_at(entry.offset, records.LOCAL.size + len(raw_name))
        expected = (entry.flags, entry.method, entry.crc, entry.compressed, entry.size)
        length = records.plain_header_length(data, expected, raw_name)
        if length is not None:
            return length
    header = records.read_local_header(read_at, entry.offset, len(entry.raw_name))
    if header is None:
        raise ArchiveError("is in the central directory, but not in the file", entry=entry.name)
    _compare(entry, header)
    return header.length


def _compare(entry: Entry, header: LocalHeader) -> None:
    if header.raw_name != entry.raw_name or header.name.removesuffix("/") != entry.name:
        raise ArchiveError("has another name in the file than in the central directory", entry=entry.name)
    if header.method != entry.method or (header.flags ^ entry.flags) & COMPARED_FLAGS:
        raise ArchiveError("has other properties in the file than in the central directory", entry=entry.name)
    # Before a descriptor, a header may leave out what was not known when it was written.
    unknown = (0,) if entry.flags & records.FLAG_DESCRIPTOR else ()
    pairs = ((header.crc, entry.crc), (header.compressed, entry.compressed), (header.size, entry.size))
    for local, central in pairs:
        if local != central and local not in unknown:
            raise ArchiveError("has another size or checksum in the file than in the directory", entry=entry.name)


def _check_descriptor(entry: Entry, data: bytes) -> None:
    layout = DESCRIPTORS.get(len(data))
    if layout is None or (len(data) in (16, 24) and not data.startswith(DESCRIPTOR_SIGNATURE)):
        raise ArchiveError("is followed by bytes that belong to no entry", entry=entry.name)
    if struct.unpack(layout, data) != (entry.crc, entry.compressed, entry.size):
        raise ArchiveError("has another size or checksum after its data than in the directory", entry=entry.name)
