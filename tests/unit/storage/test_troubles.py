"""What an account in trouble is said to have, against servers that answer as they are told."""

import datetime
import socket
import ssl
import threading
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

import pytest
import requests
import urllib3
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from hypothesis import given
from hypothesis import strategies as st

from packhorse.archive import Limits
from packhorse.domain.packages import Blob, Content, Missing
from packhorse.storage import reader
from packhorse.storage.account import ROUNDS, TRIES, Account
from packhorse.storage.credentials import AccountConfiguration
from packhorse.storage.errors import LONGEST_PAUSE, UnavailableError, explained, retry_after
from packhorse.storage.reader import StoppedError
from tests.unit.storage.servers import ACCOUNT, KEY, Answer, Request, WebServer, package

Open = Callable[..., Account]
ETAG = '"0x1"'
KIND = Answer(200, {"x-ms-sku-name": "Standard_LRS", "x-ms-account-kind": "StorageV2", "x-ms-is-hns-enabled": "false"})


def failure(status: int, code: str = "", **headers: str) -> Answer:
    """An answer as storage accounts give it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"x-ms-error-code": code, **named} if code else named)


class Blobs:
    """An account with one blob.

    Attributes:
        faults: Answers that come first, one a request for the blob.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.faults: list[Answer] = []

    def __call__(self, request: Request) -> Answer:
        if "comp=properties" in request.path:
            return KIND
        if self.faults:
            return self.faults.pop(0)
        headers = {"ETag": ETAG, "Last-Modified": "Fri, 01 May 2026 12:00:00 GMT", "x-ms-blob-type": "BlockBlob"}
        if request.method == "HEAD":
            return Answer(200, {**headers, "Content-Length": str(len(self.data))})
        start, stop = (int(number) for number in request.headers["x-ms-range"].removeprefix("bytes=").split("-"))
        body = self.data[start : stop + 1]
        return Answer(206, {**headers, "Content-Range": f"bytes {start}-{stop}/{len(self.data)}"}, body)


@pytest.fixture
def account(server: WebServer, opened: Open) -> Account:
    return opened(server.configuration())


def refused(ask: Callable[[], object]) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        ask()
    return caught.value


ANSWERS = [
    (failure(403, "AuthenticationFailed"), "StorageAccessDenied", "the account key is wrong or was renewed"),
    (failure(403, "AuthorizationFailure"), "StorageAccessDenied", "its network rules or its credential forbid this"),
    (failure(403, "KeyBasedAuthenticationNotPermitted"), "StorageAccessDenied", "it does not allow account keys"),
    (failure(403, "AccountIsDisabled"), "StorageAccessDenied", "enable it in Azure"),
    (failure(401, "NoAuthenticationInformation"), "StorageAccessDenied", "the account key is wrong"),
    (failure(403), "StorageAccessDenied", "answered 403: the account key is wrong"),
    (failure(503, "ServerBusy", Retry_After="7"), "StorageThrottled", "it asks to be called less often"),
    (failure(429, Retry_After="7"), "StorageThrottled", "answered 429: it asks to be called less often"),
    (failure(500, "InternalError"), "StorageError", "it has troubles of its own"),
    (failure(502), "StorageError", "answered 502: it has troubles of its own"),
    (failure(409, "ContainerBeingDeleted"), "StorageContainerNotFound", "its container is being deleted"),
    (failure(404, "ResourceNotFound"), "StorageError", "there is no storage account at this address"),
    (failure(404), "StorageError", "answered 404: there is no storage account at this address"),
]


@pytest.mark.parametrize(("answer", "reason", "words"), ANSWERS)
def test_what_an_account_answers(server: WebServer, account: Account, answer: Answer, reason: str, words: str) -> None:
    blobs = server.answer = Blobs()
    for ask in (lambda: account.find("ns/a.zip"), lambda: account.list("ns/"), lambda: account.delete("ns/a.zip")):
        blobs.faults = [answer]
        error = refused(ask)
        assert (error.reason, error.account_wide) == (reason, True)
        assert words in str(error)
        assert str(error).startswith(f"the storage account {server.endpoint}/ answered {answer.status}")
        assert error.retry_after == (7 if "Retry-After" in answer.headers else 0)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (409, "BlobArchived", "rehydrate it"),
        (412, "LeaseIdMissing", "break the lease"),
        (409, "BlobImmutableDueToPolicy", "an immutability policy protects the blob"),
        (400, "InvalidUri", "it does not take this request"),
        (400, "<script>" + "x" * 100, "answered 400: it does not take this request"),
    ],
)
def test_the_trouble_of_one_blob_is_not_the_account_s(
    server: WebServer, account: Account, status: int, code: str, words: str
) -> None:
    blobs = server.answer = Blobs()
    blobs.faults = [failure(status, code)]
    error = refused(lambda: account.delete("ns/a.zip"))
    assert (error.reason, error.account_wide) == ("StorageError", False)
    assert words in str(error)


def test_no_such_blob_is_what_only_the_account_can_say(server: WebServer, account: Account) -> None:
    blobs = server.answer = Blobs()
    blobs.faults = [failure(404, "BlobNotFound")]
    assert account.find("ns/a.zip") == Missing()


def test_a_web_server_that_is_no_storage_account(server: WebServer, account: Account) -> None:
    server.answer = lambda _: Answer(200, {"Content-Type": "text/html"}, b"<html>log in here</html>")
    for ask in (
        lambda: account.find("ns/a.zip"),
        lambda: account.list("ns/"),
        lambda: account.verify("ns/a.zip", Limits()),
    ):
        error = refused(ask)
        assert (error.reason, error.account_wide) == ("StorageError", True)
        assert "does not answer as a storage account does" in str(error)


def test_nobody_is_sent_elsewhere(server: WebServer, account: Account) -> None:
    server.answer = lambda _: Answer(307, {"Location": f"{server.endpoint}/elsewhere"})
    error = refused(lambda: account.find("ns/a.zip"))
    assert "does not answer as a storage account does" in str(error)
    assert not any("elsewhere" in request.path for request in server.requests)


def test_a_hierarchical_namespace_is_refused_until_it_is_gone(server: WebServer, account: Account) -> None:
    kind = KIND
    blobs = Blobs(b"data")
    server.answer = lambda request: kind if "comp=properties" in request.path else blobs(request)
    kind = Answer(200, {**KIND.headers, "x-ms-is-hns-enabled": "true"})
    for ask in (lambda: account.find("ns/a.zip"), lambda: account.writable("ns/a.zip")):
        error = refused(ask)
        assert error.reason == "StorageHierarchicalNamespace"
        assert "has a hierarchical namespace (Data Lake Storage), which Batch does not take" in str(error)
    kind = KIND
    assert account.find("ns/a.zip") == Blob(ETAG, 4)


@pytest.mark.parametrize("answer", [failure(403, "AuthorizationPermissionMismatch"), failure(404, "ResourceNotFound")])
def test_who_may_not_see_the_kind_of_account_may_use_it(server: WebServer, account: Account, answer: Answer) -> None:
    blobs = Blobs(b"data")
    server.answer = lambda request: answer if "comp=properties" in request.path else blobs(request)
    assert account.find("ns/a.zip") == Blob(ETAG, 4)


def test_a_container_that_may_not_be_made(server: WebServer, account: Account) -> None:
    def answer(request: Request) -> Answer:
        if "comp=properties" in request.path:
            return KIND
        if request.method == "PUT":
            return failure(403, "AuthorizationPermissionMismatch")
        return failure(404, "ContainerNotFound")

    server.answer = answer
    error = refused(lambda: account.find("ns/a.zip"))
    assert error.reason == "StorageContainerNotFound"
    assert "has no container 'packages', and its credential may not make one; create the container" in str(error)


def test_a_container_that_somebody_else_has_made_meanwhile(server: WebServer, account: Account) -> None:
    blobs = Blobs(b"data")
    blobs.faults = [failure(404, "ContainerNotFound"), failure(409, "ContainerAlreadyExists")]
    server.answer = blobs
    assert account.find("ns/a.zip") == Blob(ETAG, 4)


# --- no answer -------------------------------------------------------------------------------------------------------


def test_nobody_listens(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    account = opened(AccountConfiguration(ACCOUNT, f"http://127.0.0.1:{port}/{ACCOUNT}", "packages", KEY))
    error = refused(lambda: account.find("ns/a.zip"))
    assert error.reason == "StorageUnreachable"
    assert f"nothing listens at 127.0.0.1:{port}" in str(error)


def test_no_tls_is_spoken(server: WebServer, opened: Open) -> None:
    endpoint = server.endpoint.replace("http:", "https:")
    error = refused(lambda: opened(AccountConfiguration(ACCOUNT, endpoint, "packages", KEY)).find("ns/a.zip"))
    assert error.reason == "StorageUnreachable"
    assert "does not speak TLS; check the endpoint's scheme and port" in str(error)


def wrapped(cause: Exception) -> Exception:
    """An error as the SDK raises it: the cause hides in three others."""
    pool: Any = None
    retries = urllib3.exceptions.MaxRetryError(pool, "/packages?sig=secret", cause)
    return ServiceRequestError("sig=secret", error=requests.exceptions.ConnectionError(retries))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (wrapped(socket.gaierror(-2, "Name or service not known")), "the name in account.example is not known"),
        (
            wrapped(urllib3.exceptions.NameResolutionError("account.example", None, socket.gaierror(-2, "no"))),  # type: ignore[arg-type]
            "account.example",
        ),
        (wrapped(ConnectionRefusedError("refused")), "nothing listens at account.example"),
        (wrapped(urllib3.exceptions.ConnectTimeoutError("late")), "account.example does not answer in time"),
        (ServiceResponseError("sig=secret", error=TimeoutError()), "account.example does not answer in time"),
        (wrapped(ssl.SSLError("WRONG_VERSION_NUMBER")), "does not speak TLS"),
        (urllib3.exceptions.ProtocolError("sig=secret"), "the connection to account.example broke (ProtocolError)"),
        (requests.exceptions.ChunkedEncodingError("sig=secret"), "broke (ChunkedEncodingError)"),
        (ConnectionResetError("sig=secret"), "broke (ConnectionResetError)"),
    ],
)
def test_what_else_can_be_between(error: Exception, words: str) -> None:
    def ask() -> None:
        with explained("https://account.example/", keyed=True):
            raise error

    told = refused(ask)
    assert (told.reason, told.account_wide) == ("StorageUnreachable", True)
    assert words in str(told)
    assert "secret" not in str(told)
    assert told.__cause__ is None
    assert told.__suppress_context__


def test_a_connection_that_was_closed_while_idle_is_replaced(opened: Open) -> None:
    """An account whose connections end after one answer each, without saying so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = []

        def serve() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    served.append(connection.recv(1 << 16))
                    head = f"ETag: {ETAG}\r\nLast-Modified: Fri, 01 May 2026 12:00:00 GMT\r\nx-ms-blob-type: BlockBlob"
                    connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        account = opened(
            AccountConfiguration(ACCOUNT, f"http://127.0.0.1:{listener.getsockname()[1]}/{ACCOUNT}", "packages", KEY)
        )
        assert account.find("ns/a.zip") == Blob(ETAG, 0)
        assert account.find("ns/a.zip") == Blob(ETAG, 0)
        thread.join()
    assert len(served) == 3


# --- trouble while a package is read ---------------------------------------------------------------------------------


class Pauses(threading.Event):
    """Is waited for without waiting, and writes down how long that would have taken."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(reader, "CHUNK", 1000)
    return package(b"content" * 500)


def test_reading_goes_on_after_a_while(server: WebServer, account: Account, data: bytes, pauses: Pauses) -> None:
    blobs = server.answer = Blobs(data)
    assert account.find("ns/a.zip") == Blob(ETAG, len(data))
    told: list[int] = []

    def progress(read: int, _total: int) -> None:
        told.append(read)
        if read == 1000:
            blobs.faults = [failure(503, "ServerBusy", Retry_After="40"), failure(500, "OperationTimedOut")]

    seen = account.verify("ns/a.zip", Limits(), progress, pauses)
    assert isinstance(seen, Content)
    assert told[-1] == len(data)
    assert 40 in pauses.asked
    assert all(0 < pause <= 40 for pause in pauses.asked)


def test_reading_ends_after_too_many_troubles(server: WebServer, account: Account, data: bytes, pauses: Pauses) -> None:
    blobs = Blobs(data)
    server.answer = lambda request: (
        failure(503) if request.method == "GET" and "comp" not in request.path else blobs(request)
    )
    error = refused(lambda: account.verify("ns/a.zip", Limits(), None, pauses))
    assert (error.reason, error.account_wide) == ("StorageThrottled", True)
    assert len(pauses.asked) >= TRIES - 1


@pytest.mark.parametrize("answer", [failure(403, "AuthenticationFailed"), failure(409, "BlobArchived")])
def test_what_waiting_does_not_mend_is_told_at_once(
    server: WebServer, account: Account, data: bytes, pauses: Pauses, answer: Answer
) -> None:
    blobs = Blobs(data)
    server.answer = lambda request: answer if request.method == "GET" and "comp" not in request.path else blobs(request)
    refused(lambda: account.verify("ns/a.zip", Limits(), None, pauses))
    assert pauses.asked == []


def test_waiting_for_an_account_ends_when_reading_is_told_to_stop(
    server: WebServer, account: Account, data: bytes, pauses: Pauses
) -> None:
    blobs = Blobs(data)

    def answer(request: Request) -> Answer:
        if request.method == "HEAD" or "comp" in request.path:
            return blobs(request)
        pauses.set()
        return failure(503)

    server.answer = answer
    with pytest.raises(StoppedError):
        account.verify("ns/a.zip", Limits(), None, pauses)


def test_a_blob_that_is_always_another_one(server: WebServer, account: Account, data: bytes) -> None:
    blobs = Blobs(data)
    looked = []

    def answer(request: Request) -> Answer:
        if request.method == "HEAD" or "comp" in request.path:
            looked.append(request.method)
            return blobs(request)
        assert request.headers["If-Match"] == ETAG
        return failure(412, "ConditionNotMet")

    server.answer = answer
    assert "was replaced 3 times" in str(refused(lambda: account.verify("ns/a.zip", Limits())))
    assert looked.count("HEAD") == ROUNDS


def test_a_proxy_that_cuts_ranges_short(server: WebServer, account: Account, data: bytes, pauses: Pauses) -> None:
    blobs = Blobs(data)

    def answer(request: Request) -> Answer:
        right = blobs(request)
        return (
            Answer(right.status, {**right.headers, "Content-Length": str(len(right.body[:-1]))}, right.body[:-1])
            if (request.method == "GET" and "comp" not in request.path)
            else right
        )

    server.answer = answer
    assert "does not answer as a storage account does" in str(
        refused(lambda: account.verify("ns/a.zip", Limits(), None, pauses))
    )


# --- Retry-After -----------------------------------------------------------------------------------------------------

NOW = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 7.5 "}, 7.5),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "-7"}, 0),
        ({"Retry-After": "999999999"}, LONGEST_PAUSE),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": "inf"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "Fri, 01 May 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Fri, 01 May 2026 12:00:30 -0000"}, 30),
        ({"Retry-After": "Fri, 01 May 2026 11:00:00 GMT"}, 0),
        ({"Retry-After": "Fri, 01 May 9999 11:00:00 GMT"}, LONGEST_PAUSE),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "Retry-After": "7"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "7"}, 0),
    ],
)
def test_how_long_an_account_asks_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers, NOW) == seconds


@given(st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "X-MS-Retry-After-MS"]), st.text()))
def test_whatever_it_says_the_wait_is_bounded(headers: dict[str, str]) -> None:
    assert 0 <= retry_after(headers, NOW) <= LONGEST_PAUSE


@given(st.integers(1, int(LONGEST_PAUSE)))
def test_seconds_and_dates_mean_the_same(seconds: int) -> None:
    date = format_datetime(NOW + datetime.timedelta(seconds=seconds), usegmt=True)
    for headers in ({"Retry-After": str(seconds)}, {"Retry-After": date}, {"retry-after-ms": str(seconds * 1000)}):
        assert retry_after(headers, NOW) == seconds
