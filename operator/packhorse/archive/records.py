"""The records that describe an entry of a ZIP file: one in the central directory, one before its data.

They are read as they are on disk (PKWARE's APPNOTE 6.3, numbers are little-endian); other modules judge them.
"""

import binascii
import struct
from collections.abc import Iterator
from typing import NamedTuple

from packhorse.archive.end import U16_MAX, U32_MAX, End, ReadAt
from packhorse.archive.errors import ArchiveError

CENTRAL = struct.Struct("<4s2B5H3L5H2L")
CENTRAL_SIGNATURE = b"PK\1\2"
LOCAL = struct.Struct("<4s5H3L2H")
LOCAL_SIGNATURE = b"PK\3\4"
BLOCK = struct.Struct("<2H")

EXTRA_ZIP64 = 0x0001
EXTRA_PKWARE_UNIX = 0x000D
EXTRA_TIMESTAMP = 0x5455
EXTRA_ASI_UNIX = 0x756E
EXTRA_UNICODE_PATH = 0x7075

FLAG_ENCRYPTED = 0x0001
FLAG_DESCRIPTOR = 0x0008
FLAG_PATCH = 0x0020
FLAG_STRONG_ENCRYPTION = 0x0040
FLAG_UTF8 = 0x0800
FLAG_MASKED = 0x2000

CHUNK = 1 << 18
GUESSED_EXTRA = 64
"""Bytes of extra fields that are read along with a local header; longer ones take a second read."""


class CentralRecord(NamedTuple):
    """What the central directory says of an entry; ``name`` is ``raw_name`` decoded, ``host`` the system it is from."""

    raw_name: bytes
    name: str
    host: int
    flags: int
    method: int
    dos_time: int
    crc: int
    compressed: int
    size: int
    attributes: int
    offset: int
    extra: dict[int, bytes]


class LocalHeader(NamedTuple):
    """What the header before an entry's data says of it; ``length`` is that of the whole header in bytes."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    length: int


def central_records(read_at: ReadAt, end: End) -> Iterator[CentralRecord]:
    """Yield the records of the central directory, which is read piece by piece.

    Raises:
        ArchiveError: It is damaged, or its records take more or fewer bytes than the end record says.
    """
    buffer, start = b"", 0
    position, stop = end.offset, end.offset + end.size
    for _ in range(end.entries):
        length = CENTRAL.size
        # First for the fixed part, which tells the length of the rest.
        for _ in range(2):
            if len(buffer) - start < length:
                more = read_at(position, min(max(CHUNK, length), stop - position))
                position += len(more)
                buffer, start = buffer[start:] + more, 0
            if len(buffer) - start < length:
                raise ArchiveError("has a damaged central directory")
            name_length, extra_length, comment_length = CENTRAL.unpack_from(buffer, start)[11:14]
            length = CENTRAL.size + name_length + extra_length + comment_length
        yield _central_record(buffer[start : start + length])
        start += length
    if start != len(buffer) or position != stop:
        raise ArchiveError("has more in its central directory than its end record says")


def _central_record(record: bytes) -> CentralRecord:
    fields = CENTRAL.unpack_from(record)
    signature, _, host, _, flags, method, time, date, crc, compressed, size = fields[:11]
    name_length, extra_length, _, disk, _, attributes, offset = fields[11:]
    if signature != CENTRAL_SIGNATURE:
        raise ArchiveError("has a damaged central directory")
    name_end = CENTRAL.size + name_length
    raw_name = record[CENTRAL.size : name_end]
    extra = _extra_fields(record[name_end : name_end + extra_length], raw_name) if extra_length else {}
    if EXTRA_ZIP64 in extra:
        size, compressed, offset, disk = _zip64(
            extra, ((size, U32_MAX, 8), (compressed, U32_MAX, 8), (offset, U32_MAX, 8), (disk, U16_MAX, 4)), raw_name
        )
    if disk:
        raise ArchiveError("is one part of several", remedy="Make one ZIP file of it.")
    return CentralRecord(
        raw_name=raw_name,
        name=_decode_name(raw_name, flags, extra),
        host=host,
        flags=flags,
        method=method,
        dos_time=date << 16 | time,
        crc=crc,
        compressed=compressed,
        size=size,
        attributes=attributes,
        offset=offset,
        extra=extra,
    )


def plain_header_length(data: bytes, expected: tuple[int, int, int, int, int], raw_name: bytes) -> int | None:
    """Return the length of a local header if it is just what was expected, without extra fields; else None.

    Args:
        data: The ZIP file from where the header should begin, of any length.
        expected: Flags, method, checksum, compressed and unpacked size.
        raw_name: The name expected.
    """
    if len(data) < LOCAL.size:
        return None
    signature, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = LOCAL.unpack_from(data)
    length: int = LOCAL.size + name_length
    plain = signature == LOCAL_SIGNATURE and extra_length == 0 and data[LOCAL.size : length] == raw_name
    return length if plain and (flags, method, crc, compressed, size) == expected else None


def read_local_header(read_at: ReadAt, offset: int, name_length: int) -> LocalHeader | None:
    """Read the header at ``offset``, or None if there is none.

    Args:
        read_at: The ZIP file.
        offset: Where the header should begin.
        name_length: The length of its name that is expected; another one only costs another read.

    Raises:
        ArchiveError: There is one, but it is damaged.
    """
    data = read_at(offset, LOCAL.size + name_length + GUESSED_EXTRA)
    if len(data) < LOCAL.size or not data.startswith(LOCAL_SIGNATURE):
        return None
    _, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = LOCAL.unpack_from(data)
    length = LOCAL.size + name_length + extra_length
    if len(data) < length:
        data = read_at(offset, length)
    name_end = LOCAL.size + name_length
    raw_name = data[LOCAL.size : name_end]
    extra = _extra_fields(data[name_end:length], raw_name)
    size, compressed = _zip64(extra, ((size, U32_MAX, 8), (compressed, U32_MAX, 8)), raw_name)
    return LocalHeader(
        raw_name=raw_name,
        name=_decode_name(raw_name, flags, extra),
        flags=flags,
        method=method,
        crc=crc,
        compressed=compressed,
        size=size,
        length=length,
    )


def _extra_fields(data: bytes, raw_name: bytes) -> dict[int, bytes]:
    """Return the extra fields by kind. Fewer than four bytes at the end are padding, as some tools write it."""
    fields: dict[int, bytes] = {}
    position = 0
    while len(data) - position >= BLOCK.size:
        kind, length = BLOCK.unpack_from(data, position)
        position += BLOCK.size
        if position + length > len(data):
            raise ArchiveError("has a damaged extra field", entry=_rough_name(raw_name))
        if kind in fields and kind in (EXTRA_ZIP64, EXTRA_UNICODE_PATH):
            raise ArchiveError("has two extra fields of one kind", entry=_rough_name(raw_name))
        fields[kind] = data[position : position + length]
        position += length
    return fields


def _zip64(extra: dict[int, bytes], numbers: tuple[tuple[int, int, int], ...], raw_name: bytes) -> list[int]:
    """Replace the numbers that did not fit into a record by those in its ZIP64 extra field.

    Args:
        extra: The record's extra fields.
        numbers: Of each number its value, the value that stands for "see the extra field", and its bytes there.
        raw_name: The entry's name, for errors.
    """
    field = extra.get(EXTRA_ZIP64)
    if field is None:
        return [value for value, _, _ in numbers]
    result: list[int] = []
    position = 0
    for value, marker, length in numbers:
        if value != marker:
            result.append(value)
            continue
        if position + length > len(field):
            raise ArchiveError("has a damaged ZIP64 extra field", entry=_rough_name(raw_name))
        result.append(int.from_bytes(field[position : position + length], "little"))
        position += length
    return result


def _decode_name(raw_name: bytes, flags: int, extra: dict[int, bytes]) -> str:
    """Decode a name: as UTF-8 where the entry says so or the bytes allow it, else as the format's code page 437."""
    if raw_name.isascii() and EXTRA_UNICODE_PATH not in extra:
        return raw_name.decode("ascii")
    if not flags & FLAG_UTF8:
        unicode_path = extra.get(EXTRA_UNICODE_PATH, b"")
        # Version 1, then the checksum of the name it replaces, since a tool that renames may leave the field alone.
        if unicode_path[:1] == b"\1" and unicode_path[1:5] == binascii.crc32(raw_name).to_bytes(4, "little"):
            raw_name, flags = unicode_path[5:], FLAG_UTF8
    try:
        return raw_name.decode("utf-8")
    except UnicodeDecodeError:
        if flags & FLAG_UTF8:
            raise ArchiveError("has a name that is not valid UTF-8", entry=_rough_name(raw_name)) from None
        return raw_name.decode("cp437")


def _rough_name(raw_name: bytes) -> str:
    return raw_name.decode("utf-8", "backslashreplace")
