"""Reading blobs of any size in little memory."""

import hashlib
import io
import random
import threading
import tracemalloc
import zipfile
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.archive import verify
from packhorse.storage import reader
from packhorse.storage.reader import AHEAD, CHUNK, KEPT, MEMORY, BlobReader, StoppedError

PATIENCE = 30.0
"""Seconds until something that does not happen fails a test."""


class Source:
    """A blob that counts how often each piece of it is fetched."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fetched: Counter[int] = Counter()
        self.told: list[tuple[int, int]] = []
        self.stopped = threading.Event()

    def fetch(self, offset: int, length: int) -> bytes:
        assert offset % reader.CHUNK == 0
        assert length > 0
        piece = self.data[offset : offset + length]
        assert len(piece) == length
        self.fetched[offset // reader.CHUNK] += 1
        return piece

    def reader(self) -> BlobReader:
        return BlobReader(self.fetch, len(self.data), lambda *told: self.told.append(told), self.stopped)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CHUNK", 10)


def archive(*sizes: int) -> bytes:
    """A ZIP file with files of these sizes, stored as they are."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for number, size in enumerate(sizes):
            file.writestr(str(number), random.Random(number).randbytes(size))
    return data.getvalue()


@given(
    data=st.binary(max_size=120),
    reads=st.lists(st.tuples(st.integers(0, 130), st.integers(0, 130)), max_size=12),
)
def test_any_reads_give_the_same_as_the_blob_itself_and_its_digest(data: bytes, reads: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "CHUNK", 10)
        source = Source(data)
        with source.reader() as blob:
            for offset, length in reads:
                assert blob.read_at(offset, length) == data[offset : offset + length]
            assert blob.sha256() == hashlib.sha256(data).hexdigest()
    chunks = -(-len(data) // 10)
    assert source.told == [(min(10 * number, len(data)), len(data)) for number in range(1, chunks + 1)]


def test_a_zip_file_is_fetched_once_but_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = 70_000
    monkeypatch.setattr(reader, "CHUNK", chunk)
    data = archive(*[30_000, 300_000, 1, 0, 99_999] * 3)
    source = Source(data)
    with source.reader() as blob:
        assert verify(blob.read_at, len(data)).files == 15
        assert blob.sha256() == hashlib.sha256(data).hexdigest()
    last = (len(data) - 1) // chunk
    end = min(data.index(b"PK\1\2"), len(data) - (1 << 16)) // chunk  # from where on its end is looked for
    assert source.fetched == {number: 1 + (end <= number < last) for number in range(last + 1)}


@pytest.mark.parametrize("chunks", range(KEPT + 2))
@pytest.mark.usefixtures("tiny")
def test_a_small_blob_is_fetched_once_in_any_order(chunks: int) -> None:
    source = Source(bytes(range(10 * chunks)))
    with source.reader() as blob:
        for offset in (*range(10 * chunks, 0, -3), *range(0, 10 * chunks, 3)):
            blob.read_at(offset, 3)
        blob.sha256()
    assert source.fetched == dict.fromkeys(range(chunks), 1)


def test_pieces_are_fetched_ahead_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CHUNK", 10)
    source = Source(bytes(200))
    together = threading.Barrier(AHEAD, timeout=PATIENCE)

    def fetch(offset: int, length: int) -> bytes:
        if 0 < offset <= 10 * AHEAD:  # none of these ends before all have begun
            together.wait()
        return source.fetch(offset, length)

    with BlobReader(fetch, 200, lambda *_: None, source.stopped) as blob:
        blob.sha256()
    assert source.fetched == dict.fromkeys(range(20), 1)


def test_memory_does_not_grow_with_the_blob() -> None:
    piece = random.Random(1).randbytes(CHUNK)

    def fetch(_offset: int, length: int) -> bytes:
        # As clients do: small pieces, which are then joined.
        return b"".join([piece[start : min(start + (1 << 18), length)] for start in range(0, length, 1 << 18)])

    peaks = []
    for chunks in (20, 100):
        size = chunks * CHUNK - 7
        tracemalloc.start()
        with BlobReader(fetch, size, lambda *_: None, threading.Event()) as blob:
            blob.read_at(size - 70_000, 70_000)
            for offset in range(0, size, 1 << 20):
                blob.read_at(offset, 1 << 20)
            blob.sha256()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert all(peak < MEMORY + (1 << 20) for peak in peaks)


@pytest.mark.usefixtures("tiny")
def test_it_stops_while_it_waits() -> None:
    source = Source(bytes(100))
    asked, release = threading.Event(), threading.Event()

    def fetch(offset: int, length: int) -> bytes:
        asked.set()
        assert release.wait(PATIENCE)
        return source.fetch(offset, length)

    def stop() -> None:
        asked.wait(PATIENCE)
        source.stopped.set()

    other = threading.Thread(target=stop)
    other.start()
    with (
        BlobReader(fetch, 100, lambda *_: None, source.stopped) as blob,
        pytest.raises(StoppedError),
    ):
        blob.sha256()
    assert not source.fetched
    release.set()
    other.join()


@pytest.mark.usefixtures("tiny")
def test_what_fetching_or_telling_raises_is_passed_on() -> None:
    def fail(offset: int, length: int) -> bytes:
        if offset >= 50:
            raise TimeoutError("no answer")  # looks like waiting for the piece, but is not
        return bytes(length)

    with (
        BlobReader(fail, 100, lambda *_: None, threading.Event()) as blob,
        pytest.raises(TimeoutError, match="no answer"),
    ):
        blob.sha256()

    def refuse(read: int, _total: int) -> None:
        if read >= 50:
            raise LookupError("enough")

    with (
        BlobReader(lambda _, length: bytes(length), 100, refuse, threading.Event()) as blob,
        pytest.raises(LookupError, match="enough"),
    ):
        blob.sha256()
