"""Reading a blob of any size in little memory, while its SHA-256 is computed on the way."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType

CHUNK = 2 << 20
"""Bytes of a request: large enough that its latency hardly counts."""
AHEAD = 3
"""Chunks that are fetched before they are asked for."""
KEPT = 2
"""Chunks that are kept after they were read, beside the last one of the blob."""
MEMORY = (1 + KEPT + 3 * AHEAD) * CHUNK
"""Bytes that a reader holds at most: of a chunk that is on its way there are up to three copies."""

_POLL = 0.2
"""Seconds after which waiting for a chunk looks whether it should stop."""

Progress = Callable[[int, int], None]
"""Told how many bytes were read, and of how many. What it raises ends the reading."""
Fetch = Callable[[int, int], bytes]
"""Fetches exactly so many bytes (second argument) from an offset on (first argument)."""


class StoppedError(Exception):
    """Reading was told to stop."""


class BlobReader:
    """Random access to a blob that is mostly read forwards. Close it after use.

    What is read forwards from the beginning is hashed as it comes, and fetched ahead. The last chunk is kept, since a
    ZIP file is read from its end first: 64 KiB are searched for the end record, then comes the directory. Only what
    they take beside the last chunk is fetched twice, and nothing of a blob of up to ``KEPT`` + 1 chunks.

    Args:
        fetch: Called in threads, ``AHEAD`` at a time; a blob of one chunk is fetched in the reading thread.
        size: Bytes of the blob.
        progress: Called in the reading thread.
        stopped: Ends the reading soon after it is set.
    """

    def __init__(self, fetch: Fetch, size: int, progress: Progress, stopped: threading.Event) -> None:
        self._fetch = fetch
        self._size = size
        self._progress = progress
        self._stopped = stopped
        self._count = -(-size // CHUNK)
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._coming: dict[int, Future[bytes]] = {}
        self._hash = hashlib.sha256()
        self._hashed = 0  # chunks
        self._pool = ThreadPoolExecutor(AHEAD, "blob")

    def __enter__(self) -> "BlobReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes from an offset on; fewer than asked for only at the end of the blob.

        Raises:
            StoppedError: It was told to stop.
            Exception: What ``fetch`` or ``progress`` raise.
        """
        stop = min(offset + length, self._size)
        pieces = []
        while offset < stop:
            index, start = divmod(offset, CHUNK)
            piece = self._chunk(index)[start : start + stop - offset]
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def sha256(self) -> str:
        """The digest of the whole blob, in hexadecimal; what was not read yet is read now. Raises as ``read_at``."""
        while self._hashed < self._count:
            self._chunk(self._hashed)
        return self._hash.hexdigest()

    def _chunk(self, index: int) -> bytes:
        if self._stopped.is_set():
            raise StoppedError
        data = self._kept.get(index)
        if data is None:
            data = self._arrived(index)
            self._kept[index] = data
        self._kept.move_to_end(index)
        if index == self._hashed:
            self._hash.update(data)
            self._hashed += 1
            self._progress(min(self._hashed * CHUNK, self._size), self._size)
            self._look_ahead()
        self._forget()
        return data

    def _arrived(self, index: int) -> bytes:
        if self._count == 1:
            return self._fetch(0, self._size)  # nothing to do meanwhile, so no other thread
        coming = self._coming.pop(index, None) or self._request(index)
        while True:
            try:
                return coming.result(_POLL)
            except FutureTimeoutError:
                # either nothing has come yet, or this is the request's own error
                if coming.done():
                    return coming.result()
            if self._stopped.is_set():
                raise StoppedError

    def _request(self, index: int) -> Future[bytes]:
        offset = index * CHUNK
        return self._pool.submit(self._fetch, offset, min(CHUNK, self._size - offset))

    def _look_ahead(self) -> None:
        for index in range(self._hashed, min(self._hashed + AHEAD, self._count)):
            if index not in self._kept and index not in self._coming:
                self._coming[index] = self._request(index)

    def _forget(self) -> None:
        older = [index for index in self._kept if index != self._count - 1]
        for index in older[:-KEPT]:
            del self._kept[index]
