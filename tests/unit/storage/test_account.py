"""An account by its key, against Azurite."""

import base64
import datetime
import hashlib
import logging
import random
import re
import ssl
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobClient, BlobServiceClient, ContentSettings

from packhorse.archive import Limits
from packhorse.domain.packages import Blob, Content, Missing, Refused
from packhorse.storage import reader
from packhorse.storage.account import Account
from packhorse.storage.errors import UnavailableError
from packhorse.storage.reader import StoppedError
from tests.unit.storage.servers import ACCOUNT, KEY, Azurite, package

Open = Callable[..., Account]


@pytest.fixture
def authority(azurite: Azurite, tmp_path: Path) -> str:
    """Path of the certificate to check Azurite's by."""
    path = tmp_path / "ca.crt"
    path.write_text(azurite.authority.certificate)
    return str(path)


@pytest.fixture
def owner(azurite: Azurite, authority: str, container: str, account: Account) -> Any:
    """The container as the account's owner sees it."""
    assert isinstance(account.find("makes the container"), Missing)
    service = BlobServiceClient(
        azurite.endpoint,
        {"account_name": ACCOUNT, "account_key": KEY},
        transport=RequestsTransport(connection_verify=authority),
        retry_total=0,
    )
    with service:
        yield service.get_container_client(container)


@pytest.fixture
def by_url(authority: str) -> Any:
    """Whoever has a URL and nothing else."""
    clients: list[BlobClient] = []

    def client(url: str) -> BlobClient:
        transport = RequestsTransport(connection_verify=authority)
        clients.append(BlobClient.from_blob_url(url, transport=transport, retry_total=0))
        return clients[-1]

    yield client
    for opened in clients:
        opened.close()


NAMES = ("ns/a.zip", "ns/with space+plus%41 #?&=.zip", "ns/ünïcode-東京.zip", "ns/a/b/c..zip", "ns/UPPER.zip")


@pytest.mark.parametrize("name", NAMES)
def test_a_blob_is_found_listed_read_and_deleted_by_its_path(account: Account, owner: Any, name: str) -> None:
    data = package(b"hello")
    assert account.find(name) == Missing()
    assert account.list("ns/") == {}
    put = owner.upload_blob(name, data)
    found = account.find(name)
    assert found == Blob(put.get_blob_properties().etag, len(data))
    assert re.fullmatch(r'"[^"]+"', found.etag)
    assert account.list("ns/") == {name: found}
    assert account.verify(name, Limits()) == Content(found, hashlib.sha256(data).hexdigest(), 1, 5)
    account.delete(name)
    assert account.find(name) == Missing()


def test_a_listing_has_all_pages_of_one_folder(account: Account, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packhorse.storage.account.PAGE", 2)
    for number in range(5):
        owner.upload_blob(f"one/{number}", b"x" * number)
    owner.upload_blob("one-more/1", b"")
    listed = account.list("one/")
    assert listed == {f"one/{number}": account.find(f"one/{number}") for number in range(5)}
    assert account.list("one/", most=5) == listed
    assert account.list("one/", most=4) is None
    assert account.list("none/") == {}


def test_what_is_not_committed_is_not_there(account: Account, owner: Any) -> None:
    owner.get_blob_client("ns/a.zip").stage_block("aaaa", b"half")
    assert account.find("ns/a.zip") == Missing()
    assert account.list("ns/") == {}


def test_a_blob_is_deleted_with_its_snapshots(account: Account, owner: Any) -> None:
    owner.upload_blob("ns/a.zip", b"1").create_snapshot()
    account.delete("ns/a.zip")
    account.delete("ns/a.zip")
    assert list(owner.list_blobs(include=["snapshots"])) == []


def test_a_blob_that_is_leased_is_not_deleted(account: Account, owner: Any) -> None:
    owner.upload_blob("ns/a.zip", b"1").acquire_lease()
    with pytest.raises(UnavailableError, match="somebody holds a lease on the blob; break the lease") as caught:
        account.delete("ns/a.zip")
    assert (caught.value.reason, caught.value.account_wide) == ("StorageError", False)


def test_the_container_is_made_where_it_is_missing(account: Account, owner: Any) -> None:
    for ask in (lambda: account.find("a"), lambda: account.list("a/"), lambda: account.verify("a", Limits())):
        owner.delete_container()
        ask()
        assert owner.exists()
    owner.delete_container()
    account.delete("a")


def test_who_may_upload_finds_the_container(azurite: Azurite, opened: Open, container: str, by_url: Any) -> None:
    by_url(opened(azurite.configuration(container)).writable("ns/a.zip")).upload_blob(b"first")


def test_a_url_to_write_is_good_for_one_blob_and_for_resuming_its_upload(account: Account, by_url: Any) -> None:
    url = account.writable("ns/a b.zip")
    blob = by_url(url)
    blob.stage_block("aaaa", b"one")
    assert [block.id for block in blob.get_block_list("uncommitted")[1]] == ["aaaa"]
    blob.commit_block_list([*blob.get_block_list("uncommitted")[1]])
    blob.upload_blob(b"another", overwrite=True)
    assert blob.download_blob().readall() == b"another"
    with pytest.raises(HttpResponseError) as caught:
        blob.delete_blob()
    assert caught.value.status_code == 403
    with pytest.raises(HttpResponseError) as caught:
        by_url(url.replace("a%20b.zip", "c.zip")).upload_blob(b"")
    assert caught.value.status_code == 403


def test_a_url_to_read_is_good_for_nothing_else(account: Account, owner: Any, by_url: Any) -> None:
    owner.upload_blob("ns/a.zip", b"content")
    blob = by_url(account.readable("ns/a.zip"))
    assert blob.download_blob().readall() == b"content"
    with pytest.raises(HttpResponseError) as caught:
        blob.upload_blob(b"", overwrite=True)
    assert caught.value.status_code == 403


def test_urls_end_in_time_and_work_with_tls_only(azurite: Azurite, opened: Open, container: str) -> None:
    then = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
    account = opened(azurite.configuration(container), clock=lambda: then)
    assert account.can_sign()
    expected = "st=2026-05-01T11%3A55%3A00Z&se=2026-05-01T12%3A15%3A00Z"
    url = account.readable("ns/a.zip")
    assert expected in url
    assert {"sp=r", "spr=https", "sr=b"} <= set(url.partition("?")[2].split("&"))
    assert url.startswith(f"{account.container_url}/ns/a.zip?")
    longer = account.readable("ns/a.zip", datetime.timedelta(hours=4))
    assert "se=2026-05-01T16%3A00%3A00Z" in longer
    written = account.writable("ns/a.zip").partition("?")[2].split("&")
    assert {"sp=rcw", "se=2026-05-01T16%3A00%3A00Z"} <= set(written)


def test_a_wrong_key_is_told_and_shows_no_secret(
    azurite: Azurite, opened: Open, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = base64.b64encode(b"another key").decode()
    configuration = azurite.configuration(container, wrong)
    account = opened(configuration)
    asked: list[Callable[[], object]] = [
        lambda: account.find("ns/a.zip"),
        lambda: account.list("ns/"),
        lambda: account.verify("ns/a.zip", Limits()),
        lambda: account.delete("ns/a.zip"),
        lambda: account.writable("ns/a.zip"),
    ]
    for ask in asked:
        with pytest.raises(UnavailableError, match="the account key is wrong or was renewed") as caught:
            ask()
        assert (caught.value.reason, caught.value.account_wide) == ("StorageAccessDenied", True)
        shown = "".join(traceback.format_exception(caught.value)) + repr(configuration) + caplog.text
        assert wrong not in shown
        assert "SharedKey packhorse:" not in shown
        assert not re.search(r"sig(nature)?['\"=: ]+[A-Za-z0-9+/%]{20}", shown, re.IGNORECASE)


def test_an_authority_that_is_not_given_is_not_trusted(azurite: Azurite, opened: Open) -> None:
    public = opened(type(azurite.configuration("c"))(ACCOUNT, azurite.endpoint, "packages", KEY))
    with pytest.raises(UnavailableError, match=r"TLS certificate is not trusted .* under the key ca\.crt") as caught:
        public.find("ns/a.zip")
    assert caught.value.reason == "StorageUnreachable"


def test_an_account_that_is_not_there(azurite: Azurite, opened: Open) -> None:
    endpoint = azurite.endpoint.replace(ACCOUNT, "another")
    configuration = type(azurite.configuration("c"))(
        "another", endpoint, "packages", KEY, azurite.authority.certificate
    )
    with pytest.raises(UnavailableError) as caught:
        opened(configuration).find("ns/a.zip")
    assert caught.value.account_wide


# --- reading a package -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(reader, "CHUNK", 1000)
    return 1000


def test_a_package_of_many_chunks(account: Account, owner: Any, small_chunks: int) -> None:
    contents = [bytes([number]) * 700 for number in range(20)]
    data = package(*contents)
    owner.upload_blob("ns/a.zip", data)
    told: list[tuple[int, int]] = []
    seen = account.verify("ns/a.zip", Limits(), lambda read, total: told.append((read, total)))
    assert seen == Content(account.find("ns/a.zip"), hashlib.sha256(data).hexdigest(), 20, 14000)  # type: ignore[arg-type]
    assert told == [(min(end, len(data)), len(data)) for end in range(small_chunks, len(data) + 1000, small_chunks)]


def resident(field: str) -> int:
    """Bytes of memory that this process has (VmRSS), or had at most since the mark was reset (VmHWM)."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_a_large_package_takes_little_memory(account: Account, owner: Any) -> None:
    size = 40 * reader.CHUNK
    data = package(random.Random(1).randbytes(size))
    owner.upload_blob("ns/a.zip", data)
    digest = hashlib.sha256(data).hexdigest()
    del data
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the mark
    seen = account.verify("ns/a.zip", Limits())
    grown = resident("VmHWM") - before
    assert isinstance(seen, Content)
    assert seen.sha256 == digest
    assert grown < reader.MEMORY + (16 << 20) < size


def test_what_is_no_package(account: Account, owner: Any) -> None:
    for data, reason in ((b"", "has no central directory"), (b"text", "has no central directory")):
        owner.upload_blob("ns/a.zip", data, overwrite=True)
        seen = account.verify("ns/a.zip", Limits())
        assert isinstance(seen, Refused)
        assert reason in seen.message
        assert seen.blob == account.find("ns/a.zip")
    owner.upload_blob("ns/a.zip", package(b"abc", b"def"), overwrite=True)
    refused = account.verify("ns/a.zip", Limits(files=1))
    assert isinstance(refused, Refused)
    assert "the limit is 1" in refused.message


def test_a_blob_that_claims_an_encoding_is_read_as_it_is(account: Account, owner: Any) -> None:
    data = package(b"hello" * 100)
    owner.upload_blob("ns/a.zip", data, content_settings=ContentSettings(content_encoding="gzip"))
    seen = account.verify("ns/a.zip", Limits())
    assert isinstance(seen, Content)
    assert seen.sha256 == hashlib.sha256(data).hexdigest()


def test_a_blob_that_is_replaced_meanwhile_is_looked_at_anew(
    account: Account, owner: Any, small_chunks: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new = package(*[b"old" * 400] * 10), package(*[b"new" * 400] * 10)
    owner.upload_blob("ns/a.zip", old)
    replaced: list[object] = []

    def progress(read: int, _total: int) -> None:
        if read > 2 * small_chunks and not replaced:
            replaced.append(owner.upload_blob("ns/a.zip", new, overwrite=True))

    seen = account.verify("ns/a.zip", Limits(), progress)
    assert isinstance(seen, Content)
    assert (seen.blob, seen.sha256) == (account.find("ns/a.zip"), hashlib.sha256(new).hexdigest())
    assert "the blob 'ns/a.zip' was replaced or deleted while it was read" in caplog.text


def test_a_blob_that_is_replaced_again_and_again(account: Account, owner: Any, small_chunks: int) -> None:
    data = package(*[b"same" * 400] * 10)
    owner.upload_blob("ns/a.zip", data)

    def progress(read: int, _total: int) -> None:
        if read == small_chunks:
            owner.upload_blob("ns/a.zip", data, overwrite=True)

    with pytest.raises(UnavailableError, match="was replaced 3 times while it was being read") as caught:
        account.verify("ns/a.zip", Limits(), progress)
    assert (caught.value.reason, caught.value.account_wide) == ("StorageError", False)


def test_a_blob_that_is_deleted_meanwhile(account: Account, owner: Any, small_chunks: int) -> None:
    owner.upload_blob("ns/a.zip", package(*[b"gone" * 400] * 10))

    def progress(read: int, _total: int) -> None:
        if read == small_chunks:
            owner.delete_blob("ns/a.zip")

    assert account.verify("ns/a.zip", Limits(), progress) == Missing()


def test_reading_stops_when_it_is_told_to(account: Account, owner: Any, small_chunks: int) -> None:
    owner.upload_blob("ns/a.zip", package(*[b"long" * 400] * 10))
    stopped = threading.Event()
    told: list[int] = []

    def stop(read: int, _total: int) -> None:
        told.append(read)
        stopped.set()

    with pytest.raises(StoppedError):
        account.verify("ns/a.zip", Limits(), stop, stopped)
    assert told == [small_chunks]

    def refuse(_read: int, _total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        account.verify("ns/a.zip", Limits(), refuse)


def test_the_urls_of_azurite_are_those_of_plain_http_clients(account: Account, owner: Any, authority: str) -> None:
    """Whatever characters a name has: curl and the nodes take the URL as it is."""
    context = ssl.create_default_context(cafile=authority)
    for name in NAMES:
        owner.upload_blob(name, name.encode())
        with urllib.request.urlopen(account.readable(name), context=context) as response:  # noqa: S310
            assert response.read() == name.encode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{account.container_url}/{NAMES[0]}", context=context)  # noqa: S310
    caught.value.close()
    assert caught.value.code in {403, 404}
