"""Fetching a blob from a server that fails in every way that a storage account does."""

import email.utils
import hashlib
import logging
import random
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from packhorse.node import download as module
from packhorse.node.download import (
    BlobAccessDeniedError,
    BlobChangedError,
    BlobNotFoundError,
    DigestMismatchError,
    DownloadError,
    DownloadTimedOutError,
    StoppedError,
    fetch,
    fetching,
)
from packhorse.protocol import Download
from tests.unit.node.blobs import ETAG, BlobServer, Fault, Request

KIB = 1024
CONTENT = random.Random(1).randbytes(1000 * KIB + 123)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SECRET = "top-secret"


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with BlobServer(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ranges, and pauses too short to notice."""
    monkeypatch.setattr(module, "SMALLEST_RANGE", 16 * KIB)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.002)


def fetch_all(server: BlobServer, path: Path, *, seconds: float = 60, range_size: int = 100 * KIB) -> None:
    fetch(server.download(), path, sha256=SHA256, deadline=time.monotonic() + seconds, range_size=range_size)


def test_ranges_in_parallel(server: BlobServer, tmp_path: Path) -> None:
    fetch_all(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    ranges = sorted((request.start, request.stop) for request in server.requests)
    assert ranges == [(start, min(start + 100 * KIB, len(CONTENT))) for start in range(0, len(CONTENT), 100 * KIB)]
    assert {request.if_match for request in server.requests} == {ETAG}


def test_a_blob_smaller_than_a_range_is_divided(server: BlobServer, tmp_path: Path) -> None:
    fetch_all(server, tmp_path / "file", range_size=32 * KIB * KIB)
    assert len(server.requests) == 4


def test_an_empty_blob(tmp_path: Path) -> None:
    with BlobServer(b"") as server:
        digest = hashlib.sha256(b"").hexdigest()
        fetch(server.download(), tmp_path / "file", sha256=digest, deadline=time.monotonic() + 60)
    assert (tmp_path / "file").read_bytes() == b""


TRANSIENT = {
    "503": Fault(503),
    "503 with seconds": Fault(503, {"Retry-After": "0"}),
    "503 with a date": Fault(503, {"Retry-After": email.utils.formatdate(1_000_000_000, usegmt=True)}),
    "503 with nonsense": Fault(503, {"Retry-After": "soon"}),
    "500": Fault(500),
    "429": Fault(429),
    "cut": Fault(keep=7000),
    "cut at once": Fault(keep=0),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_transient_faults(server: BlobServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    server.faults = [fault, fault, fault]
    fetch_all(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 3
    assert SECRET not in caplog.text


def test_a_range_that_breaks_off_goes_on_where_it_stopped(server: BlobServer, tmp_path: Path) -> None:
    server.faults = [Fault(keep=7000)]
    fetch_all(server, tmp_path / "file", range_size=2000 * KIB)
    first = server.requests[0]
    assert any((request.start, request.stop) == (first.start + 7000, first.stop) for request in server.requests)


def test_retry_after_is_honoured(server: BlobServer, tmp_path: Path) -> None:
    """A pause beyond the deadline shows, without waiting for it, that the pause is the server's and not ours."""
    server.faults = [Fault(503, {"Retry-After": "3600"})]
    with pytest.raises(DownloadTimedOutError, match=r"503 .*time for the download is over"):
        fetch_all(server, tmp_path / "file", range_size=2000 * KIB, seconds=600)


def test_failures_in_a_row_come_to_an_end(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(503) if request.start == 0 else None
    with pytest.raises(DownloadError, match=r"503 Service Unavailable, 8 times in a row") as caught:
        fetch_all(server, tmp_path / "file")
    assert sum(request.start == 0 for request in server.requests) == module.MAX_FAILURES
    assert caught.value.code == "BlobDownloadMiscError"
    assert list(tmp_path.iterdir()) == []


FINAL = {
    "404": (Fault(404, {"x-ms-error-code": "BlobNotFound"}), BlobNotFoundError, "no such blob .404 BlobNotFound"),
    "403": (Fault(403, {"x-ms-error-code": "AuthenticationFailed"}), BlobAccessDeniedError, "AuthenticationFailed"),
    "401": (Fault(401), BlobAccessDeniedError, "denies access"),
    "412": (Fault(412), BlobChangedError, "not the one that was activated"),
    "416": (Fault(416), BlobChangedError, "not the one that was activated"),
    "another etag": (Fault(headers={"ETag": '"0xBAD"'}), BlobChangedError, "not the one that was activated"),
    "another size": (Fault(headers={"Content-Range": "bytes 0-102399/5"}), BlobChangedError, "has 5 bytes"),
    "another range": (Fault(headers={"Content-Range": "bytes 1-9/10"}), DownloadError, "another range"),
    "the whole blob": (Fault(200), DownloadError, "answered 200 OK to a request for a range"),
    "redirect": (Fault(302, {"Location": "/elsewhere"}), DownloadError, "answered 302"),
    "400": (Fault(400), DownloadError, "answered 400"),
}


@pytest.mark.parametrize(("fault", "kind", "reason"), FINAL.values(), ids=FINAL)
def test_final_faults(server: BlobServer, tmp_path: Path, fault: Fault, kind: type[DownloadError], reason: str) -> None:
    server.decide = lambda request: fault if request.start == 0 else None
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch_all(server, tmp_path / "file")
    assert type(caught.value) is kind
    assert sum(request.start == 0 for request in server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_blob_replaced_meanwhile(server: BlobServer, tmp_path: Path) -> None:
    def replace(request: Request) -> None:
        if len(server.requests) == 6:
            server.etag = '"0xNEW"'

    server.decide = replace
    with pytest.raises(BlobChangedError):
        fetch_all(server, tmp_path / "file")


def test_another_digest(server: BlobServer, tmp_path: Path) -> None:
    server.content = b"x" + CONTENT[1:]
    with pytest.raises(DigestMismatchError, match=f"activated with {SHA256}"):
        fetch_all(server, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_expired_signature_is_renewed(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(403) if len(server.requests) > 4 and "fresh" not in request.path else None
    renewals: list[str] = []

    def renew() -> Download:
        renewals.append("fresh")
        return server.download(signature="sig=fresh")

    deadline = time.monotonic() + 60
    fetch(
        server.download(),
        tmp_path / "file",
        sha256=SHA256,
        deadline=deadline,
        range_size=50 * KIB,
        connections=1,
        renew=renew,
    )
    assert renewals == ["fresh"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_signature_that_never_was_good_is_not_renewed(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(403)
    with pytest.raises(BlobAccessDeniedError):
        fetch(
            server.download(),
            tmp_path / "file",
            sha256=SHA256,
            deadline=time.monotonic() + 60,
            renew=server.download,
        )


def test_a_renewal_for_another_blob_is_refused(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(403) if len(server.requests) > 2 else None
    with pytest.raises(BlobChangedError, match="replaced during the download"):
        fetch(
            server.download(),
            tmp_path / "file",
            sha256=SHA256,
            deadline=time.monotonic() + 60,
            range_size=50 * KIB,
            connections=1,
            renew=lambda: msgspec.structs.replace(server.download(), etag='"0xNEW"'),
        )


def test_a_silent_server(server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.05)
    server.faults = [Fault(silent=True)]
    fetch_all(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_deadline(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(silent=True)
    with pytest.raises(DownloadTimedOutError, match="time for the download is over"):
        fetch_all(server, tmp_path / "file", seconds=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://127.0.0.1:1/blob?sig={SECRET}", "no connection to the storage account"),
        (f"http://[not-a-host/blob?sig={SECRET}", "not a URL"),
        (f"ftp://127.0.0.1/blob?sig={SECRET}", "not a URL"),
    ],
)
def test_no_error_shows_the_signature(tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, reason: str) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch(Download(url, ETAG, 10), tmp_path / "file", sha256=SHA256, deadline=time.monotonic() + 60)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text


def test_no_log_shows_the_signature(server: BlobServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = [Fault(503), Fault(keep=5)]
    fetch_all(server, tmp_path / "file")
    assert caplog.records
    assert SECRET not in caplog.text


def test_an_existing_file_is_left_alone(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        fetch_all(server, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_deadline_holds_for_a_server_that_sends_a_byte_now_and_then(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(trickle=True)
    with pytest.raises(DownloadTimedOutError, match="time for the download is over"):
        fetch_all(server, tmp_path / "file", seconds=0.2)
    assert list(tmp_path.iterdir()) == []


def test_the_end_is_there_before_the_rest(server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ZIP file's directory in hand, unpacking begins with what lands next."""
    monkeypatch.setattr(module, "TAIL", 10 * KIB)
    go_on = threading.Event()
    last = len(CONTENT) - 10 * KIB

    def hold(request: Request) -> None:
        if request.start != last:
            assert go_on.wait(60)

    server.decide = hold
    deadline = time.monotonic() + 60
    with fetching(server.download(), tmp_path / "file", sha256=SHA256, deadline=deadline) as transfer:
        assert transfer.read_at(last, 100) == CONTENT[last : last + 100]
        assert transfer.read_at(len(CONTENT) - 5, 100) == CONTENT[-5:]
        assert transfer.missing >= last
        go_on.set()
        assert transfer.read_at(0, len(CONTENT)) == CONTENT
        transfer.finish()
        assert transfer.missing == 0
    assert len({request.start for request in server.requests}) == len(server.requests) == 5


def test_who_reads_what_never_lands_is_told(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(404) if request.start == 0 else Fault(silent=True)
    deadline = time.monotonic() + 60
    with fetching(server.download(), tmp_path / "file", sha256=SHA256, deadline=deadline) as transfer:
        with pytest.raises(StoppedError):
            transfer.read_at(500 * KIB, 10)
        with pytest.raises(BlobNotFoundError):
            transfer.finish()


def test_what_landed_is_not_good_before_its_digest_was_compared(server: BlobServer, tmp_path: Path) -> None:
    server.content = b"x" + CONTENT[1:]
    deadline = time.monotonic() + 60
    with fetching(server.download(), tmp_path / "file", sha256=SHA256, deadline=deadline) as transfer:
        assert transfer.read_at(0, 3) == b"x" + CONTENT[1:3]
        with pytest.raises(DigestMismatchError):
            transfer.finish()


def test_a_server_that_ends_connections_after_each_answer(server: BlobServer, tmp_path: Path) -> None:
    server.decide = lambda request: Fault(headers={"Connection": "close"})
    fetch_all(server, tmp_path / "file", range_size=20 * KIB)
    assert (tmp_path / "file").read_bytes() == CONTENT
