"""Verifying a package reads it forwards, so that it can come over a network and be of any size."""

import dataclasses
import struct

from packhorse.archive import Limits, Summary, verify
from tests.unit.archive.zips import FOLDER, LINK, STORED, Item, build

END = 22 + 0xFFFF
"""Bytes in which the end of a ZIP file is looked for."""


def test_a_package_is_read_once_from_its_beginning_to_its_end_after_its_directory() -> None:
    described = Item(name="descriptor", data=b"more" * 9, method=STORED)
    descriptor = struct.pack("<LLL", described.true_crc(), 36, 36)
    content = build(
        Item(name="folder/", mode=FOLDER | 0o755),
        Item(name="folder/large", data=bytes(range(256)) * 2000, method=STORED),
        Item(name="link", data=b"folder/large", mode=LINK | 0o777),
        Item(name="packed", data=b"text" * 100_000),
        dataclasses.replace(described, descriptor=descriptor),
        Item(name="last", data=b"x" * 70_000, method=STORED),
    )
    directory = content.index(b"PK\1\2")
    reads: list[tuple[int, int]] = []

    def read_at(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return content[offset : offset + length]

    assert verify(read_at, len(content), Limits()) == Summary(5, 512_000 + 12 + 400_000 + 36 + 70_000)
    first = next(number for number, (offset, _) in enumerate(reads) if offset == 0)
    assert all(offset >= min(directory, len(content) - END) for offset, _ in reads[:first])
    forwards = [offset for offset, _ in reads[first:]]
    assert forwards == sorted(forwards)
    assert max(length for _, length in reads[first:]) <= 1 << 20
