"""The end of a ZIP file, where reading it begins: one record, two more if the file is large (ZIP64)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from packhorse.archive.errors import ArchiveError

ReadAt = Callable[[int, int], bytes]
"""Reads so many bytes (second argument) at an offset (first argument); fewer only at the end of the file."""

U16_MAX = 0xFFFF
U32_MAX = 0xFFFFFFFF

END = struct.Struct("<4s4H2LH")
END_SIGNATURE = b"PK\5\6"
END64 = struct.Struct("<4sQ2H2L4Q")
END64_SIGNATURE = b"PK\6\6"
LOCATOR64 = struct.Struct("<4sLQL")
LOCATOR64_SIGNATURE = b"PK\6\7"

# What each number of the short record says when it stands in the ZIP64 record.
SEE_END64 = (U16_MAX, U16_MAX, U16_MAX, U16_MAX, U32_MAX, U32_MAX)


@dataclass(frozen=True, slots=True)
class End:
    """Where the central directory lies: it begins at ``offset``, is ``size`` bytes long, and has ``entries``."""

    offset: int
    size: int
    entries: int


def find_end(read_at: ReadAt, file_size: int) -> End:
    """Find the record that ends a ZIP file, and its ZIP64 form where there is one.

    Raises:
        ArchiveError: There is none, there are two, or more data follow it.
    """
    tail_offset = max(0, file_size - END.size - U16_MAX)
    tail = read_at(tail_offset, file_size - tail_offset)
    position = tail.rfind(END_SIGNATURE)
    if position < 0:
        raise ArchiveError("has no central directory: it is no ZIP file, or its end is missing")
    if not _reaches_end(tail, position):
        raise ArchiveError("has data after its end")
    earlier = tail.find(END_SIGNATURE)
    while earlier != position:
        if _reaches_end(tail, earlier):
            raise ArchiveError("has two ends, so that two readers would see two contents")
        earlier = tail.find(END_SIGNATURE, earlier + 1)
    numbers = END.unpack_from(tail, position)[1:7]
    end_offset = tail_offset + position
    locator_offset = end_offset - LOCATOR64.size
    if locator_offset >= 0:
        locator = read_at(locator_offset, LOCATOR64.size)
        if locator.startswith(LOCATOR64_SIGNATURE):
            return _read_end64(read_at, locator, locator_offset, numbers)
    return _checked(numbers, end_offset)


def _reaches_end(tail: bytes, position: int) -> bool:
    """Tell whether a record at this position, with its comment, is the last thing in the file."""
    if len(tail) - position < END.size:
        return False
    comment_length: int = END.unpack_from(tail, position)[-1]
    return position + END.size + comment_length == len(tail)


def _read_end64(read_at: ReadAt, locator: bytes, locator_offset: int, short_numbers: tuple[int, ...]) -> End:
    _, disk, offset, disks = LOCATOR64.unpack(locator)
    record = read_at(offset, END64.size) if offset + END64.size <= locator_offset else b""
    if disk != 0 or disks > 1 or not record.startswith(END64_SIGNATURE):
        raise ArchiveError("has a damaged ZIP64 end record")
    _, length, _, _, *numbers = END64.unpack(record)
    if offset + 12 + length != locator_offset:
        raise ArchiveError("has a ZIP64 end record of a wrong length")
    for short, number, see_end64 in zip(short_numbers, numbers, SEE_END64, strict=True):
        if short not in (number, see_end64):
            raise ArchiveError("has two end records that contradict each other")
    return _checked(tuple(numbers), offset)


def _checked(numbers: tuple[int, ...], end_offset: int) -> End:
    disk, start_disk, disk_entries, entries, size, offset = numbers
    if disk or start_disk or disk_entries != entries:
        raise ArchiveError("is one part of several", remedy="Make one ZIP file of it.")
    if offset + size != end_offset:
        raise ArchiveError("was cut, or has data before its beginning or between its parts")
    return End(offset, size, entries)
