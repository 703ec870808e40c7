"""The data of one entry, unpacked piece by piece and checked."""

from collections.abc import Iterator

from isal import igzip_lib, isal_zlib

from packhorse.archive.end import ReadAt
from packhorse.archive.entries import STORED, Entry
from packhorse.archive.errors import ArchiveError

CHUNK_IN = 1 << 18
CHUNK_OUT = 1 << 20
"""Bytes at a time: large enough that several threads seldom wait for the interpreter, small enough for small nodes."""


def read_contents(read_at: ReadAt, entry: Entry) -> Iterator[bytes]:
    """Yield an entry's data, unpacked, in pieces that are never empty, and never more than the directory promised.

    Raises:
        ArchiveError: The data are damaged, or their size or checksum is not the promised one. It comes after the last
            piece at the latest, so what was yielded is good only when the iterator has ended.
    """
    pieces = _stored(read_at, entry) if entry.method == STORED else _inflated(read_at, entry)
    crc = size = 0
    for piece in pieces:
        size += len(piece)
        if size > entry.size:
            raise ArchiveError(f"holds more than the {entry.size} bytes that it claims", entry=entry.name)
        if piece:
            crc = isal_zlib.crc32(piece, crc)
            yield piece
    if size != entry.size:
        raise ArchiveError(f"holds {size} bytes and claims {entry.size}", entry=entry.name)
    if crc != entry.crc:
        raise ArchiveError("is damaged: its checksum is not the promised one", entry=entry.name)


def inflate(packed: bytes, entry: Entry) -> bytes:
    """Return an entry's data at once, from all of its bytes in the ZIP file: for small ones, where it saves much.

    Raises:
        ArchiveError: As ``read_contents`` does.
    """
    data = packed if entry.method == STORED else _inflated_at_once(packed, entry.size)
    if data is not None and len(data) == entry.size and isal_zlib.crc32(data) == entry.crc:
        return data
    # Something is wrong: the long way tells what.
    start = entry.data_offset
    return b"".join(read_contents(lambda offset, length: packed[offset - start : offset - start + length], entry))


def _inflated_at_once(packed: bytes, size: int) -> bytes | None:
    decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    try:
        data: bytes = decompressor.decompress(packed, size + 1)
    except igzip_lib.IsalError:  # type: ignore[misc]  # declared as an instance by mistake
        return None
    return data if decompressor.eof and not decompressor.unused_data else None


def _stored(read_at: ReadAt, entry: Entry) -> Iterator[bytes]:
    for offset in range(0, entry.size, CHUNK_OUT):
        yield read_at(entry.data_offset + offset, min(CHUNK_OUT, entry.size - offset))


def _inflated(read_at: ReadAt, entry: Entry) -> Iterator[bytes]:
    decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    position, stop = entry.data_offset, entry.data_offset + entry.compressed
    produced = 0
    while not decompressor.eof:
        data = b""
        hungry = decompressor.needs_input
        if hungry:
            data = read_at(position, min(CHUNK_IN, stop - position))
            position += len(data)
        # One byte more than promised is asked for: so a lie is found when it is one byte long.
        wanted = min(CHUNK_OUT, entry.size - produced + 1)
        try:
            piece = decompressor.decompress(data, wanted)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # declared as an instance by mistake
            raise ArchiveError(f"is damaged ({error})", entry=entry.name) from error
        # A call without input may well yield nothing and only then ask for more: that is no end yet.
        if not data and not piece and hungry is decompressor.needs_input and not decompressor.eof:
            raise ArchiveError("is damaged: its compressed data have no end", entry=entry.name)
        produced += len(piece)
        yield piece
    if position != stop or decompressor.unused_data:
        raise ArchiveError("has more after its compressed data", entry=entry.name)
