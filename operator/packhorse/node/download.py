"""Fetching one blob to a file: several ranges at a time, its digest computed while they land.

Ranges are large, since a blob serves only some hundred requests a second, however many nodes want it. A range that
breaks off goes on where it stopped. Whatever happens, there is an end: after the deadline, after too many failures in
a row, or at once where trying again cannot help.

What has landed can be read while the rest is on its way. The end of the blob comes first, since a ZIP file has its
directory there.

No error and no log line has the query of a URL in it: it holds the signature.
"""

import email.utils
import errno
import hashlib
import http.client
import logging
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from packhorse.node.link import Link, describe
from packhorse.protocol import Download

MIB = 1 << 20

CONNECTIONS = 4
RANGE_SIZE = 32 * MIB
SMALLEST_RANGE = 4 * MIB
"""Smaller blobs are divided among the connections as well, but not into less than this."""

TAIL = MIB
"""Bytes at the end of the blob that are asked for first."""

CHUNK = MIB // 4
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 20.0
"""Seconds without a single byte."""

MAX_FAILURES = 8
"""Failures in a row, without a byte between them, that one range may have."""

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0

TRY_AGAIN = {408, 429, 500, 502, 503, 504}
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

logger = logging.getLogger(__name__)


class DownloadError(Exception):
    """A blob could not be fetched, and trying again at once would not help.

    Attributes:
        code: Azure's name for the kind of failure.
        busy: Asking for the blob again, after a while, may help.
        reason: What happened, for a person.
    """

    code = "BlobDownloadMiscError"
    busy = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BlobNotFoundError(DownloadError):
    """There is no such blob any more."""

    code = "BlobNotFound"


class BlobAccessDeniedError(DownloadError):
    """The storage account refuses the signature."""

    code = "BlobAccessDenied"


class BlobChangedError(DownloadError):
    """The blob is not the one that was activated."""

    code = "ConditionNotMet"


class DownloadTimedOutError(DownloadError):
    """The deadline passed."""

    code = "BlobDownloadTimedOut"


class DigestMismatchError(DownloadError):
    """The blob was fetched, but its SHA-256 is not the pinned one."""

    code = "Sha256Mismatch"


class _TransientError(Exception):
    """Trying again may help, after at least ``pause`` seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class StoppedError(Exception):
    """The transfer has ended, and these bytes have not landed: ``Transfer.finish`` says why."""


@dataclass(slots=True)
class _Range:
    """Bytes from ``start`` to before ``stop``; those before ``position`` have landed."""

    start: int
    stop: int
    position: int = field(init=False)

    def __post_init__(self) -> None:
        self.position = self.start


def fetch(
    download: Download,
    path: Path,
    *,
    sha256: str,
    deadline: float,
    renew: Callable[[], Download] | None = None,
    connections: int = CONNECTIONS,
    range_size: int = RANGE_SIZE,
) -> None:
    """Fetch a blob into a new file and compare its digest. It takes a few MiB of memory, whatever the blob's size.

    Args:
        download: The blob.
        path: The file to create; after a failure it is gone.
        sha256: The digest that the blob must have, in lower-case hexadecimal digits.
        deadline: When to give up, by ``time.monotonic()``.
        renew: Gets a new signature; called when the old one is refused after it was good, since it has expired then.
        connections: How many ranges are fetched at a time.
        range_size: Bytes of one request, at most.

    Raises:
        DownloadError: Or one of its subclasses; its reason names what happened last.
        OSError: The file cannot be written.
    """
    try:
        with fetching(
            download,
            path,
            sha256=sha256,
            deadline=deadline,
            renew=renew,
            connections=connections,
            range_size=range_size,
        ) as transfer:
            transfer.finish()
    except FileExistsError:
        raise
    except BaseException:
        path.unlink()
        raise


@contextmanager
def fetching(
    download: Download,
    path: Path,
    *,
    sha256: str,
    deadline: float,
    renew: Callable[[], Download] | None = None,
    connections: int = CONNECTIONS,
    range_size: int = RANGE_SIZE,
) -> "Iterator[Transfer]":
    """Fetch a blob while the context lasts; arguments as for ``fetch``, but the file stays whatever happens.

    Raises:
        OSError: The file cannot be created.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        transfer = Transfer(file, download, sha256, deadline, renew)
        ranges = _divide(download.size, connections, range_size)
        try:
            transfer.start(ranges, connections)
            yield transfer
        finally:
            transfer.close()
    finally:
        os.close(file)


def _divide(size: int, connections: int, range_size: int) -> list[_Range]:
    share = max(SMALLEST_RANGE, -(-size // connections))
    step = min(range_size, share)
    # A blob of one range comes by one request; of a larger one the end comes by a request of its own.
    stop = size - TAIL if size > max(step, TAIL) else size
    ranges = [_Range(start, min(start + step, stop)) for start in range(0, stop, step)]
    return ranges if stop == size else [*ranges, _Range(stop, size)]


class Transfer:
    """A blob on its way into a file: what the threads that fetch it share.

    Attributes:
        landed: When the last byte so far landed, by ``time.monotonic()``.
    """

    def __init__(
        self, file: int, download: Download, sha256: str, deadline: float, renew: Callable[[], Download] | None
    ) -> None:
        self._file = file
        self._download = download
        self._sha256 = sha256
        self._deadline = deadline
        self._renew = renew
        self._context: ssl.SSLContext | None = None
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()  # Guards everything below, and tells that bytes landed.
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._ranges: list[_Range] = []
        self._waiting: list[_Range] = []
        self._links: list[Link] = []
        self._good = False  # Whether the present signature was good for anything.
        self._digest: str | None = None
        self.landed = 0.0

    @property
    def shown_url(self) -> str:
        """The URL without its signature."""
        return self._download.url.partition("?")[0]

    @property
    def missing(self) -> int:
        """Bytes that have not landed yet."""
        with self._changed:
            return sum(part.stop - part.position for part in self._ranges)

    def start(self, ranges: list[_Range], connections: int) -> None:
        """Begin to fetch ranges, which are in order and make up the blob."""
        self._ranges = ranges
        # Taken from the end of the list: first the last one, then from the beginning on.
        self._waiting = [*ranges[-2::-1], *ranges[-1:]]
        works = [self._hash, *[self._work] * max(1, min(connections, len(ranges)))]
        for number, work in enumerate(works):
            thread = threading.Thread(target=self._guarded, args=(work,), name=f"fetch-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def read_at(self, offset: int, length: int) -> bytes:
        """Read so many bytes of the blob, as soon as they have landed. Nothing of it is verified before ``finish``.

        Raises:
            StoppedError: They never will.
        """
        self._wait_for(offset, min(offset + length, self._download.size))
        return os.pread(self._file, length, offset)

    def finish(self) -> None:
        """Wait for the whole blob, and compare its digest.

        Raises:
            DownloadError: Or one of its subclasses; its reason names what happened last.
            OSError: The file cannot be written.
        """
        with self._changed:
            self._wait(lambda: self._digest is not None)
        if self._error is not None:
            raise self._error
        if self._digest != self._sha256:
            raise DigestMismatchError(
                f"{self.shown_url} has the SHA-256 {self._digest}, but the package was activated with {self._sha256}"
            )

    def close(self) -> None:
        """End all threads, whatever they wait for."""
        self._stop()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread's work; its failure is the transfer's."""
        try:
            work()
        except StoppedError:
            self._stop()
        except BaseException as error:  # It is raised again by finish.
            self._stop(error)

    def _stop(self, error: BaseException | None = None) -> None:
        with self._changed:
            if self._error is None and not self._stopped.is_set():
                self._error = error
            self._stopped.set()
            for link in self._links:
                link.abort()
            self._changed.notify_all()

    def _wait(self, reached: Callable[[], bool]) -> None:
        """Wait for something, or for the end of the transfer; the lock is held.

        At the deadline the transfer ends, also where a server sends a byte now and then.
        """
        while not (reached() or self._stopped.is_set()):
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                self._stop(DownloadTimedOutError(f"{self.shown_url}: the time for the download is over"))
            else:
                self._changed.wait(remaining)

    def _hash(self) -> None:
        """Compute the digest behind the threads that write: what they wrote is still in the page cache."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK))
        for part in self._ranges:
            offset = part.start
            while offset < part.stop:
                landed = self._wait_for(offset, offset + 1)
                while offset < landed:
                    count = os.preadv(self._file, [buffer[: landed - offset]], offset)
                    digest.update(buffer[:count])
                    offset += count
        with self._changed:
            self._digest = digest.hexdigest()
            self._changed.notify_all()

    def _wait_for(self, offset: int, stop: int) -> int:
        """Wait until the bytes from ``offset`` to before ``stop`` have landed. Returns up to where there are more."""
        landed = offset
        for part in self._ranges:
            if part.stop <= offset:
                continue
            if part.start >= stop:
                break
            wanted = min(stop, part.stop)
            if part.position < wanted:
                with self._changed:
                    self._wait(partial(_landed, part, wanted))
                if part.position < wanted:
                    raise StoppedError
            landed = part.position
        return landed

    def _work(self) -> None:
        link = Link(self._context_for)
        with self._changed:
            self._links.append(link)
        buffer = memoryview(bytearray(CHUNK))
        with link:
            while True:
                with self._changed:
                    if not self._waiting:
                        return
                    part = self._waiting.pop()
                self._fetch_range(link, part, buffer)

    def _context_for(self) -> ssl.SSLContext:
        """What certificates are checked by; loaded once, and only where there are any."""
        with self._changed:
            if self._context is None:
                self._context = ssl.create_default_context()
            return self._context

    def _fetch_range(self, link: Link, part: _Range, buffer: memoryview) -> None:
        failures = 0
        while part.position < part.stop:
            before = part.position
            try:
                self._request(link, part, buffer)
            except _TransientError as error:
                link.close()
                failures = 1 if part.position > before else failures + 1
                if failures >= MAX_FAILURES:
                    raise DownloadError(f"{self.shown_url}: {error}, {failures} times in a row") from error
                self._pause(failures, error)

    def _pause(self, failures: int, error: _TransientError) -> None:
        if self._stopped.is_set():
            raise StoppedError
        pause = max(error.pause, 0.0) + backoff(failures)
        if time.monotonic() + pause >= self._deadline:
            raise DownloadTimedOutError(f"{self.shown_url}: {error}, and the time for the download is over") from error
        logger.warning("%s: %s; failure %d in a row, next try in %.1f s", self.shown_url, error, failures, pause)
        if self._stopped.wait(pause):
            raise StoppedError

    def _request(self, link: Link, part: _Range, buffer: memoryview) -> None:
        """Ask for what is missing of a range, once, and write what comes."""
        remaining = self._remaining()
        download = self._download
        headers = {
            "Range": f"bytes={part.position}-{part.stop - 1}",
            "If-Match": download.etag,
            "Accept-Encoding": "identity",
        }
        try:
            response = link.get(download.url, headers, min(CONNECT_TIMEOUT, remaining), min(READ_TIMEOUT, remaining))
        except ValueError as error:
            raise DownloadError(f"{self.shown_url} is not a URL that can be fetched ({type(error).__name__})") from None
        except (http.client.HTTPException, OSError) as error:
            raise _TransientError(describe(error, connecting=not link.connected)) from None
        if response.status in (401, 403):
            link.close()
            self._renew_or_refuse(download, response)
            return
        self._check(response, download, part)
        self._receive(response, part, buffer)

    def _remaining(self) -> float:
        if self._stopped.is_set():
            raise StoppedError
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise DownloadTimedOutError(f"{self.shown_url}: the time for the download is over")
        return remaining

    def _renew_or_refuse(self, refused: Download, response: http.client.HTTPResponse) -> None:
        """Get a new signature if the refused one was good before; other threads then use it too."""
        with self._changed:
            if self._download is not refused:
                return
            if self._renew is None or not self._good:
                raise BlobAccessDeniedError(
                    f"{self.shown_url}: the storage account denies access ({_status(response)}); "
                    "look at its firewall, its keys, and whether the clocks are right"
                )
            logger.info("%s: the signature has expired, asking for a new one", self.shown_url)
            renewed = self._renew()
            if (renewed.etag, renewed.size) != (refused.etag, refused.size):
                raise BlobChangedError(f"{self.shown_url}: the blob was replaced during the download")
            self._download, self._good = renewed, False

    def _check(self, response: http.client.HTTPResponse, download: Download, part: _Range) -> None:
        """Raise unless this is an answer with the bytes that were asked for."""
        status = _status(response)
        if response.status in TRY_AGAIN:
            raise _TransientError(f"the storage account answered {status}", _retry_after(response))
        if response.status == 404:
            raise BlobNotFoundError(f"{self.shown_url}: there is no such blob ({status}); upload the package again")
        etag = response.headers.get("ETag", download.etag)
        if response.status in (412, 416) or etag.strip('"') != download.etag.strip('"'):
            raise BlobChangedError(
                f"{self.shown_url}: the blob is not the one that was activated ({status}); activate it again"
            )
        if response.status != 206:
            raise DownloadError(f"{self.shown_url}: the storage account answered {status} to a request for a range")
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != part.position:
            raise DownloadError(f"{self.shown_url}: the storage account sent another range than the one asked for")
        if int(match[2]) != download.size:
            raise BlobChangedError(f"{self.shown_url}: the blob has {match[2]} bytes, not {download.size}")

    def _receive(self, response: http.client.HTTPResponse, part: _Range, buffer: memoryview) -> None:
        while part.position < part.stop:
            self._remaining()
            try:
                count = response.readinto(buffer[: part.stop - part.position])
            except (http.client.HTTPException, OSError) as error:
                raise _TransientError(describe(error)) from None
            if not count:
                raise _TransientError("the connection ended too early")
            _write_fully(self._file, buffer[:count], part.position)
            with self._changed:
                part.position += count
                self.landed = time.monotonic()
                self._good = True
                self._changed.notify_all()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: with jitter, since hundreds of nodes may fail in one moment."""
    longest: float = FIRST_PAUSE * 2.0 ** min(failures, 16)
    return min(LONGEST_PAUSE, longest) * random.uniform(0.5, 1.0)  # noqa: S311


def _landed(part: _Range, stop: int) -> bool:
    return part.position >= stop


def _status(response: http.client.HTTPResponse) -> str:
    """Return the status with the storage service's own name for it, which it sends in a header."""
    return " ".join(filter(None, [str(response.status), response.headers.get("x-ms-error-code") or response.reason]))


def _retry_after(response: http.client.HTTPResponse) -> float:
    """Return the seconds that the server wants us to wait, 0 if it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0


def _write_fully(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = data[written:]
        offset += written
