"""Makes ZIP files byte by byte, so that each of their fields can lie."""

import binascii
import struct
import zlib
from dataclasses import dataclass

STORED, DEFLATED = 0, 8
UNIX = 3
UTF8 = 0x0800
DESCRIPTOR = 0x0008
REGULAR, FOLDER, LINK = 0o100000, 0o040000, 0o120000


@dataclass(frozen=True, kw_only=True)
class Item:
    """An entry; what is None is derived from the rest."""

    name: str | bytes
    data: bytes = b""
    method: int = DEFLATED
    mode: int = REGULAR | 0o644
    host: int = UNIX
    dos_attributes: int = 0
    flags: int = 0
    packed: bytes | None = None
    size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    dos_time: int = 0x21 << 16  # 1980-01-01
    # The header before the data
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_size: int | None = None
    local_crc: int | None = None
    local_extra: bytes = b""
    before: bytes = b""
    descriptor: bytes | None = None
    # The record in the directory
    offset: int | None = None
    disk: int = 0

    @property
    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def all_flags(self) -> int:
        return self.flags | (0 if self.raw_name.isascii() or isinstance(self.name, bytes) else UTF8)

    def pack(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == DEFLATED else self.data

    def true_size(self) -> int:
        return len(self.data) if self.size is None else self.size

    def true_crc(self) -> int:
        return binascii.crc32(self.data) if self.crc is None else self.crc


def deflate(data: bytes, level: int = 6) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def extra(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def local_record(item: Item) -> bytes:
    packed = item.pack()
    name = item.raw_name if item.local_name is None else item.local_name
    late = item.descriptor is not None
    header = struct.pack(
        "<4s5H3L2H",
        b"PK\3\4",
        20,
        (item.all_flags | (DESCRIPTOR if late else 0)) if item.local_flags is None else item.local_flags,
        item.method if item.local_method is None else item.local_method,
        item.dos_time & 0xFFFF,
        item.dos_time >> 16,
        (0 if late else item.true_crc()) if item.local_crc is None else item.local_crc,
        0 if late else len(packed),
        (0 if late else item.true_size()) if item.local_size is None else item.local_size,
        len(name),
        len(item.local_extra),
    )
    return item.before + header + name + item.local_extra + packed + (item.descriptor or b"")


def central_record(item: Item, offset: int, comment: bytes = b"") -> bytes:
    return (
        struct.pack(
            "<4s2B5H3L5H2L",
            b"PK\1\2",
            20,
            item.host,
            20,
            item.all_flags | (DESCRIPTOR if item.descriptor is not None else 0),
            item.method,
            item.dos_time & 0xFFFF,
            item.dos_time >> 16,
            item.true_crc(),
            len(item.pack()),
            item.true_size(),
            len(item.raw_name),
            len(item.extra),
            len(comment),
            item.disk,
            0,
            item.mode << 16 | item.dos_attributes,
            offset if item.offset is None else item.offset,
        )
        + item.raw_name
        + item.extra
        + comment
    )


def end_record(entries: int, size: int, offset: int, comment: bytes = b"", disk: int = 0) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\5\6", disk, 0, entries, entries, size, offset, len(comment)) + comment


def end64_records(entries: int, size: int, offset: int, *, extensible: bytes = b"") -> bytes:
    length = 44 + len(extensible)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, 0, 0, entries, entries, size, offset) + extensible
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)


def build(
    *items: Item, prefix: bytes = b"", gap: bytes = b"", suffix: bytes = b"", comment: bytes = b"", zip64: bool = False
) -> bytes:
    """Return a ZIP file; ``gap`` comes before the directory, and ``prefix`` is counted in all offsets."""
    body = prefix
    directory = b""
    for item in items:
        directory += central_record(item, len(body) + len(item.before))
        body += local_record(item)
    body += gap
    if not zip64:
        return body + directory + end_record(len(items), len(directory), len(body), comment) + suffix
    ends = end64_records(len(items), len(directory), len(body))
    return body + directory + ends + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, comment) + suffix
