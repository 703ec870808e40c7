"""Fetching one blob to a file: several ranges at a time, its digest computed while they land.

Ranges are large, since a blob serves only some hundred requests a second, however many nodes want it. A range that
breaks off goes on where it stopped. Whatever happens, there is an end: after the deadline, after too many failures in
a row, or at once where trying again cannot help.

No error and no log line has the query of a URL in it: it holds the signature.
"""

import email.utils
import errno
import hashlib
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from packhorse.protocol import Download

MIB = 1 << 20

CONNECTIONS = 4
RANGE_SIZE = 32 * MIB
SMALLEST_RANGE = 4 * MIB
"""Smaller blobs are divided among the connections as well, but not into less than this."""

CHUNK = MIB
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
# At DEBUG it logs whole URLs, signatures included.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class DownloadError(Exception):
    """A blob could not be fetched, and trying again at once would not help.

    Attributes:
        code: Azure's name for the kind of failure.
        reason: What happened, for a person.
    """

    code = "BlobDownloadMiscError"

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


class _StoppedError(Exception):
    """Another range failed for good."""


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
        deadline: When to give up, by ``time.monotonic()``; a server that is silent just then takes some seconds more.
        renew: Gets a new signature; called when the old one is refused after it was good, since it has expired then.
        connections: How many ranges are fetched at a time.
        range_size: Bytes of one request, at most.

    Raises:
        DownloadError: Or one of its subclasses; its reason names what happened last.
        OSError: The file cannot be written.
    """
    transfer = _Transfer(download, deadline, renew, connections)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        digest = transfer.run(file, _divide(download.size, connections, range_size))
        if digest != sha256:
            raise DigestMismatchError(
                f"{transfer.shown_url} has the SHA-256 {digest}, but the package was activated with {sha256}"
            )
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(file)


def _divide(size: int, connections: int, range_size: int) -> list[_Range]:
    share = max(SMALLEST_RANGE, -(-size // connections))
    step = min(range_size, share)
    return [_Range(start, min(start + step, size)) for start in range(0, size, step)]


class _Transfer:
    """One call of ``fetch``: what its threads share."""

    def __init__(
        self, download: Download, deadline: float, renew: Callable[[], Download] | None, connections: int
    ) -> None:
        self._download = download
        self._deadline = deadline
        self._renew = renew
        self._connections = connections
        self._pool = urllib3.PoolManager(maxsize=connections, retries=False)
        self._changed = threading.Condition()  # Guards everything below, and tells that bytes landed.
        self._stopped = threading.Event()
        self._waiting: list[_Range] = []
        self._landed = False  # Whether the present signature was good for anything.

    @property
    def shown_url(self) -> str:
        """The URL without its signature."""
        return self._download.url.partition("?")[0]

    def run(self, file: int, ranges: list[_Range]) -> str:
        """Fetch all ranges into an open file and return the SHA-256 of them all in order."""
        self._waiting = ranges[::-1]
        workers = max(1, min(self._connections, len(ranges)))
        with self._pool, ThreadPoolExecutor(workers + 1, "fetch") as pool:
            try:
                digest = pool.submit(self._hash, file, ranges)
                tasks: list[Future[Any]] = [digest, *(pool.submit(self._work, file) for _ in range(workers))]
                wait(tasks, return_when=FIRST_EXCEPTION)
            finally:
                self._stop()
            errors = [error for task in tasks if (error := task.exception()) is not None]
        for error in errors:
            if not isinstance(error, _StoppedError):
                raise error
        return digest.result()

    def _stop(self) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def _hash(self, file: int, ranges: list[_Range]) -> str:
        """Compute the digest behind the threads that write: what they wrote is still in the page cache."""
        digest = hashlib.sha256()
        for part in ranges:
            offset = part.start
            while offset < part.stop:
                landed = self._wait_for_more(part, offset)
                while offset < landed:
                    data = os.pread(file, min(CHUNK, landed - offset), offset)
                    digest.update(data)
                    offset += len(data)
        return digest.hexdigest()

    def _wait_for_more(self, part: _Range, offset: int) -> int:
        """Wait until more of a range landed than up to ``offset``, and return up to where."""
        with self._changed:
            self._changed.wait_for(lambda: part.position > offset or self._stopped.is_set())
            if part.position <= offset:
                raise _StoppedError
            return part.position

    def _work(self, file: int) -> None:
        try:
            while True:
                with self._changed:
                    if not self._waiting:
                        return
                    part = self._waiting.pop()
                self._fetch_range(file, part)
        except BaseException:
            self._stop()
            raise

    def _fetch_range(self, file: int, part: _Range) -> None:
        failures = 0
        while part.position < part.stop:
            before = part.position
            try:
                self._request(file, part)
            except _TransientError as error:
                failures = 1 if part.position > before else failures + 1
                if failures >= MAX_FAILURES:
                    raise DownloadError(f"{self.shown_url}: {error}, {failures} times in a row") from error
                self._pause(failures, error)

    def _pause(self, failures: int, error: _TransientError) -> None:
        backoff = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
        # Jitter, since hundreds of nodes may have failed in the same moment.
        pause = max(error.pause, 0.0) + backoff * random.uniform(0.5, 1.0)  # noqa: S311
        if time.monotonic() + pause >= self._deadline:
            raise DownloadTimedOutError(f"{self.shown_url}: {error}, and the time for the download is over") from error
        logger.warning("%s: %s; failure %d in a row, next try in %.1f s", self.shown_url, error, failures, pause)
        if self._stopped.wait(pause):
            raise _StoppedError

    def _request(self, file: int, part: _Range) -> None:
        """Ask for what is missing of a range, once, and write what comes."""
        remaining = self._remaining()
        download = self._download
        timeout = urllib3.Timeout(connect=min(CONNECT_TIMEOUT, remaining), read=min(READ_TIMEOUT, remaining))
        headers = {
            "Range": f"bytes={part.position}-{part.stop - 1}",
            "If-Match": download.etag,
            "Accept-Encoding": "identity",
        }
        try:
            response = self._pool.request(
                "GET", download.url, headers=headers, timeout=timeout, preload_content=False, redirect=False
            )
        except urllib3.exceptions.LocationValueError as error:
            raise DownloadError(f"{self.shown_url} is not a URL that can be fetched ({type(error).__name__})") from None
        except urllib3.exceptions.HTTPError as error:
            raise _TransientError(_describe(error)) from None
        with closing(response):
            if response.status in (401, 403):
                self._renew_or_refuse(download, response)
                return
            self._check(response, download, part)
            self._receive(response, file, part)

    def _remaining(self) -> float:
        if self._stopped.is_set():
            raise _StoppedError
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise DownloadTimedOutError(f"{self.shown_url}: the time for the download is over")
        return remaining

    def _renew_or_refuse(self, refused: Download, response: urllib3.BaseHTTPResponse) -> None:
        """Get a new signature if the refused one was good before; other threads then use it too."""
        with self._changed:
            if self._download is not refused:
                return
            if self._renew is None or not self._landed:
                raise BlobAccessDeniedError(
                    f"{self.shown_url}: the storage account denies access ({_status(response)}); "
                    "look at its firewall, its keys, and whether the clocks are right"
                )
            logger.info("%s: the signature has expired, asking for a new one", self.shown_url)
            renewed = self._renew()
            if (renewed.etag, renewed.size) != (refused.etag, refused.size):
                raise BlobChangedError(f"{self.shown_url}: the blob was replaced during the download")
            self._download, self._landed = renewed, False

    def _check(self, response: urllib3.BaseHTTPResponse, download: Download, part: _Range) -> None:
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

    def _receive(self, response: urllib3.BaseHTTPResponse, file: int, part: _Range) -> None:
        while part.position < part.stop:
            self._remaining()
            try:
                # read1 returns with what there is: so a slow sender cannot hold us beyond the deadline.
                data = response.read1(min(CHUNK, part.stop - part.position), decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise _TransientError(_describe(error)) from None
            if not data:
                raise _TransientError("the connection ended too early")
            _write_fully(file, data, part.position)
            with self._changed:
                part.position += len(data)
                self._landed = True
                self._changed.notify_all()


def _status(response: urllib3.BaseHTTPResponse) -> str:
    """Return the status with the storage service's own name for it, which it sends in a header."""
    return " ".join(filter(None, [str(response.status), response.headers.get("x-ms-error-code") or response.reason]))


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Return the seconds that the server wants us to wait, 0 if it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0


def _describe(error: Exception) -> str:
    """Say what happened to a connection. urllib3's own messages have the URL in them, and with it the signature."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "the storage account's host name cannot be resolved"
    if isinstance(error, urllib3.exceptions.SSLError):
        return "the storage account's certificate is not trusted, or TLS failed"
    # Before timeouts, which urllib3 counts it among.
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no connection to the storage account"
    if isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return "the storage account does not answer in time"
    return f"the connection broke off ({type(error).__name__})"


def _write_fully(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view = view[written:]
        offset += written
