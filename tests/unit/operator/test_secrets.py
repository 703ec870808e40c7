"""Secrets that are made once, by whichever operator comes first."""

import asyncio

import pytest

from packhorse.cluster.client import ApiError
from packhorse.operator.authority import KeyPair
from packhorse.operator.secrets import AUTHORITY_SECRET, authority, embedded_account, read_secret
from packhorse.operator.settings import Settings
from packhorse.storage.credentials import IdentityRule, secret_configuration
from tests.unit.operator.fake_api import FakeApi
from tests.unit.virtual_time import run

SETTINGS = Settings(
    "system", "pod", "image", "svc:8443", storage_secret="account", embedded_storage="azurite.system.svc:10000"
)


def test_an_authority_is_made_once() -> None:
    api = FakeApi()
    first = run(authority(api, SETTINGS))
    assert run(authority(api, SETTINGS)) == first
    assert [method for method, _ in api.requests] == ["GET", "POST", "GET"]
    assert run(read_secret(api, "system", AUTHORITY_SECRET)) == {"tls.crt": first.certificate, "tls.key": first.key}


def test_of_two_operators_at_once_one_makes_it_and_both_use_it() -> None:
    api = FakeApi()
    api.latency = lambda: 1.0

    async def both() -> tuple[KeyPair, KeyPair]:
        return await asyncio.gather(authority(api, SETTINGS), authority(api, SETTINGS))

    one, other = run(both())
    assert one == other
    assert [method for method, _ in api.requests].count("POST") == 2


def test_an_api_server_that_refuses_is_told() -> None:
    api = FakeApi()
    api.refuse = lambda method, path: ApiError(403, "Forbidden", "no secrets for you") if method == "POST" else None
    with pytest.raises(ApiError, match="no secrets for you"):
        run(authority(api, SETTINGS))


def test_the_embedded_account() -> None:
    api = FakeApi()
    signer = run(authority(api, SETTINGS))
    run(embedded_account(api, SETTINGS, signer))
    made = run(read_secret(api, "system", "account"))
    assert made is not None
    assert made["ca.crt"] == signer.certificate
    account = secret_configuration(made, "the Secret", container="packages", identity=IdentityRule())
    assert account.endpoint == "https://azurite.system.svc:10000/packhorse"
    assert (account.authority, account.container) == (signer.certificate.strip(), "packages")
    assert made["AZURITE_ACCOUNTS"] == f"{account.name}:{account.key}"
    run(embedded_account(api, SETTINGS, signer))
    assert run(read_secret(api, "system", "account")) == made


def test_no_secret() -> None:
    assert run(read_secret(FakeApi(), "system", "none")) is None
