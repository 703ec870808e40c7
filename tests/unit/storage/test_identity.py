"""An account by the operator's own identity, against Azurite, which checks tokens (but not who signed them)."""

import base64
import datetime
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from ssl import SSLContext, create_default_context
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.storage.blob import UserDelegationKey

from packhorse.archive import Limits
from packhorse.domain.packages import Blob, Missing, Refused
from packhorse.storage import identity, signing
from packhorse.storage.account import Account
from packhorse.storage.credentials import AccountConfiguration
from packhorse.storage.errors import NotLinkedError, UnavailableError
from packhorse.storage.identity import ExplainedCredential, workload_identity
from packhorse.storage.signing import DelegationSigner
from tests.unit.storage.servers import Azurite

Open = Callable[..., Account]
HOUR = datetime.timedelta(hours=1)


class Identity:
    """Gives tokens as Microsoft Entra ID does, signed by nobody.

    Attributes:
        audience: Whom they are for.
        error: Raised in place of giving one.
    """

    def __init__(self) -> None:
        self.audience = "https://storage.azure.com"
        self.scopes: list[tuple[str, ...]] = []
        self.error: Exception | None = None

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        if self.error is not None:
            raise self.error
        self.scopes.append(scopes)
        now = int(datetime.datetime.now(datetime.UTC).timestamp())
        claims = {
            "aud": self.audience, "iss": "https://sts.windows.net/a-tenant/", "iat": now, "nbf": now - 60,
            "exp": now + 3600, "oid": "an-object", "tid": "a-tenant",
        }  # fmt: skip
        parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims))
        token = ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "unsigned"])
        return AccessToken(token, now + 3600)


class Clock:
    """A clock that is turned by hand, and begins with the present."""

    def __init__(self) -> None:
        self.now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def caller() -> Identity:
    return Identity()


@pytest.fixture
def account(azurite: Azurite, opened: Open, container: str, caller: Identity, clock: Clock) -> Account:
    credential = ExplainedCredential(caller)
    return opened(azurite.configuration(container, None), identity=credential, clock=clock)


@pytest.fixture
def trust(azurite: Azurite) -> SSLContext:
    return create_default_context(cadata=azurite.authority.certificate)


def send(url: str, trust: SSLContext, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data, method="PUT" if data is not None else "GET")  # noqa: S310
    if data is not None:
        request.add_header("x-ms-blob-type", "BlockBlob")
    with urllib.request.urlopen(request, context=trust) as response:  # noqa: S310
        content: bytes = response.read()
    return content


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_blobs_are_found_listed_read_and_deleted(account: Account, caller: Identity, trust: SSLContext) -> None:
    assert account.find("ns/a.zip") == Missing()
    send(account.writable("ns/a.zip"), trust, b"content")
    found = account.find("ns/a.zip")
    assert isinstance(found, Blob)
    assert account.list("ns/") == {"ns/a.zip": found}
    assert isinstance(account.verify("ns/a.zip", Limits()), Refused)
    assert send(account.readable("ns/a.zip"), trust) == b"content"
    account.delete("ns/a.zip")
    assert account.find("ns/a.zip") == Missing()
    assert set(caller.scopes) == {("https://storage.azure.com/.default",)}


def test_a_url_to_read_cannot_write(account: Account, trust: SSLContext) -> None:
    account.writable("ns/a.zip")
    with pytest.raises(urllib.error.HTTPError) as caught:
        send(account.readable("ns/a.zip"), trust, b"other")
    caught.value.close()
    assert caught.value.code == 403


def test_one_key_signs_many_urls_until_it_is_renewed_early(account: Account, clock: Clock) -> None:
    assert not account.can_sign()
    first = query(account.readable("ns/a.zip"))
    assert account.can_sign()
    clock.now += signing.KEY_LIFETIME - signing.KEY_RENEWAL
    assert account.can_sign()
    assert query(account.writable("ns/b.zip"))["ske"] == first["ske"]
    clock.now += datetime.timedelta(seconds=1)
    assert not account.can_sign()
    later = query(account.readable("ns/a.zip"))
    assert later["ske"] > first["ske"]
    assert account.can_sign()


class Keys:
    """The part of an account that gives out keys.

    Attributes:
        given: When each key that was given ends.
        shorten: By how much a key ends earlier than it was asked for.
        error: Raised in place of giving one.
    """

    def __init__(self) -> None:
        self.given: list[datetime.datetime] = []
        self.shorten = datetime.timedelta()
        self.error: Exception | None = None

    def get_user_delegation_key(self, start: datetime.datetime, end: datetime.datetime) -> UserDelegationKey:
        if self.error is not None:
            raise self.error
        key = UserDelegationKey()  # type: ignore[no-untyped-call]
        self.given.append(end - self.shorten)
        key.signed_start, key.signed_expiry = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (start, self.given[-1]))
        key.signed_oid = key.signed_tid = key.signed_version = "x"
        key.signed_service, key.value = "b", base64.b64encode(b"secret").decode()
        return key


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def signer(keys: Keys, clock: Clock) -> DelegationSigner:
    configuration = AccountConfiguration("account", "https://account.blob.core.windows.net", "packages", None)
    return DelegationSigner(configuration, keys, clock)  # type: ignore[arg-type]


def sign(signer: DelegationSigner, lifetime: datetime.timedelta) -> dict[str, str]:
    return query(f"?{signer.sign('ns/a.zip', signing.READ, lifetime)}")


def test_the_old_key_serves_for_as_long_as_it_can_while_no_new_one_is_given(
    signer: DelegationSigner, keys: Keys, clock: Clock
) -> None:
    first = sign(signer, HOUR)
    keys.error = ServiceRequestError("unreachable")
    clock.now += signing.KEY_LIFETIME - HOUR
    assert not signer.ready()
    assert sign(signer, HOUR)["se"] == first["ske"]
    clock.now += datetime.timedelta(seconds=1)
    with pytest.raises(ServiceRequestError):
        sign(signer, HOUR)
    keys.error = None
    assert sign(signer, HOUR)["ske"] > first["ske"]
    assert len(keys.given) == 2


def test_a_key_that_ends_earlier_than_asked_for_bounds_what_it_signs(
    signer: DelegationSigner, keys: Keys, clock: Clock
) -> None:
    keys.shorten = signing.KEY_LIFETIME - HOUR
    asked = sign(signer, signing.WRITE_LIFETIME)
    assert asked["se"] == asked["ske"] == f"{clock.now + HOUR:%Y-%m-%dT%H:%M:%SZ}"
    assert not signer.ready()


def test_no_url_outlives_its_key(account: Account, clock: Clock) -> None:
    account.readable("ns/a.zip")
    for _ in range(30):
        clock.now += HOUR
        for url in (account.readable("ns/a.zip"), account.writable("ns/a.zip")):
            asked = query(url)
            assert asked["skt"] <= asked["st"]
            assert asked["se"] <= asked["ske"]


def test_an_identity_without_rights(account: Account, caller: Identity) -> None:
    caller.audience = "https://another.service"
    with pytest.raises(UnavailableError, match="roles Storage Blob Data Contributor") as caught:
        account.find("ns/a.zip")
    assert caught.value.reason == "StorageAccessDenied"
    with pytest.raises(UnavailableError, match="roles Storage Blob Data Contributor"):
        account.readable("ns/a.zip")


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (
            ClientAuthenticationError("AADSTS700213: no matching federated identity; assertion eyJhbGciOi"),
            "StorageAccessDenied",
            r"gives the operator no token \(AADSTS700213\)",
        ),
        (ClientAuthenticationError("eyJhbGciOi"), "StorageAccessDenied", r"\(ClientAuthenticationError\)"),
        (FileNotFoundError("/var/run/secrets/token"), "StorageAccessDenied", r"\(FileNotFoundError\)"),
        (ServiceRequestError("eyJhbGciOi"), "StorageUnreachable", "Microsoft Entra ID, .* cannot be reached"),
    ],
)
def test_an_identity_that_gets_no_token(
    account: Account, caller: Identity, error: Exception, reason: str, words: str
) -> None:
    caller.error = error
    with pytest.raises(UnavailableError, match=words) as caught:
        account.find("ns/a.zip")
    assert caught.value.reason == reason
    assert "eyJ" not in str(caught.value)


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    workload_identity.cache_clear()
    return monkeypatch


def test_a_pod_without_identity(pod: pytest.MonkeyPatch, azurite: Azurite) -> None:
    with pytest.raises(NotLinkedError, match=r"label the pod azure\.workload\.identity/use=true"):
        Account(azurite.configuration("packages", None))


def test_a_pod_with_an_identity(pod: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        pod.setenv(name, "/none")
    credential = workload_identity()
    assert credential is workload_identity()
    assert "azure.identity" in sys.modules
    assert credential is identity.workload_identity()
    workload_identity.cache_clear()
