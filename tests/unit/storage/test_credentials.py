"""What links an account, and what is said of what does not."""

import base64
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from packhorse.operator.authority import new_authority
from packhorse.storage.credentials import (
    AccountConfiguration,
    IdentityRule,
    identity_configuration,
    secret_configuration,
)
from packhorse.storage.errors import NotLinkedError

KEY = base64.b64encode(b"top secret").decode()
SOURCE = "the Secret system/account"
AZURE = "https://account.blob.core.windows.net"
STRING = f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={KEY};EndpointSuffix=core.windows.net"


def configuration(
    data: dict[str, str], *, container: str = "packages", identity: IdentityRule | None = None, authority: str = ""
) -> AccountConfiguration:
    rule = identity or IdentityRule()
    return secret_configuration(data, SOURCE, container=container, identity=rule, authority=authority)


LINKS = {
    "connection string": ({"connectionString": STRING}, AZURE, KEY),
    "as Azure's portal shows it, with more lines": ({"connectionString": f"\n {STRING};\n"}, AZURE, KEY),
    "without what has a default": ({"connectionString": f"AccountName=account;AccountKey={KEY}"}, AZURE, KEY),
    "any case": ({"connectionString": f"accountname=account;ACCOUNTKEY={KEY}"}, AZURE, KEY),
    "other cloud": (
        {"connectionString": f"AccountName=account;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn"},
        "https://account.blob.core.chinacloudapi.cn",
        KEY,
    ),
    "without TLS": (
        {"connectionString": f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={KEY}"},
        "http://account.blob.core.windows.net",
        KEY,
    ),
    "emulator": (
        {"connectionString": f"AccountName=account;AccountKey={KEY};BlobEndpoint=http://azurite:10000/account/;"},
        "http://azurite:10000/account",
        KEY,
    ),
    "a signature beside the key": ({"connectionString": f"{STRING};SharedAccessSignature=sv=1"}, AZURE, KEY),
    "name and key": ({"accountName": "account", "accountKey": KEY}, AZURE, KEY),
    "both": ({"connectionString": STRING, "accountName": "other", "accountKey": KEY}, AZURE, KEY),
    "custom endpoint": (
        {"accountName": "account", "accountKey": KEY, "blobEndpoint": "https://[::1]:10000/account"},
        "https://[::1]:10000/account",
        KEY,
    ),
    "custom endpoint over that of the connection string": (
        {"connectionString": STRING, "blobEndpoint": "https://private.example"},
        "https://private.example",
        KEY,
    ),
    "workload identity": ({"accountName": "account"}, AZURE, None),
    "workload identity at an endpoint": (
        {"accountName": "account", "blobEndpoint": "https://account.privatelink.example"},
        "https://account.privatelink.example",
        None,
    ),
}


@pytest.mark.parametrize(("data", "endpoint", "key"), LINKS.values(), ids=LINKS)
def test_what_links_an_account(data: dict[str, str], endpoint: str, key: str | None) -> None:
    assert configuration(data) == AccountConfiguration("account", endpoint, "packages", key)


def test_the_container_and_the_authority_are_the_secret_s_own_if_it_has_them() -> None:
    ours, theirs = new_authority().certificate, new_authority().certificate.strip()
    data = {"connectionString": STRING, "unknown": "key"}
    plain = configuration(data, authority=ours)
    assert (plain.container, plain.authority) == ("packages", ours)
    own = configuration({**data, "container": "own-2", "ca.crt": theirs}, authority=ours)
    assert (own.container, own.authority) == ("own-2", theirs)


NO_LINKS = {
    "nothing": ({}, f"{SOURCE} has no key connectionString; add it"),
    "empty": ({"connectionString": "  \n"}, f"{SOURCE} has no key connectionString; add it"),
    "key without name": ({"accountKey": KEY}, f"{SOURCE} has no key accountName beside accountKey"),
    "bad name": ({"accountName": "My_Account", "accountKey": KEY}, f"the key accountName of {SOURCE} is no name of a"),
    "a host for a name": ({"accountName": "a.example/#", "accountKey": KEY}, "the key accountName of"),
    "bad name at an endpoint": (
        {"accountName": "a/b", "accountKey": KEY, "blobEndpoint": "https://x"},
        "the key accountName of",
    ),
    "bad key": ({"accountName": "account", "accountKey": "top secret"}, f"key under accountKey in {SOURCE} is damaged"),
    "bad key in a string": (
        {"connectionString": "AccountName=account;AccountKey=top secret"},
        f"key under connectionString in {SOURCE} is damaged: it is not Base64",
    ),
    "cut": ({"connectionString": STRING[:60]}, "is no list of different NAME=VALUE"),
    "no key": (
        {"connectionString": "AccountName=account;AccountKey="},
        f"the connection string in {SOURCE} has no AccountKey; copy it again from the account's access keys",
    ),
    "no name": ({"connectionString": f"AccountKey={KEY}"}, f"the connection string in {SOURCE} has no AccountName"),
    "no list": ({"connectionString": "top secret"}, "is no list of different NAME=VALUE; copy it again"),
    "twice": ({"connectionString": f"{STRING};accountkey={KEY}"}, "is no list of different NAME=VALUE"),
    "signature": (
        {"connectionString": "BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=top"},
        "holds a shared access signature only, and nobody can sign URLs for nodes by that",
    ),
    "development": ({"connectionString": "UseDevelopmentStorage=true"}, "an emulator on one's own machine"),
    "scheme": (
        {"connectionString": f"DefaultEndpointsProtocol=ftp;AccountName=account;AccountKey={KEY}"},
        "has a wrong DefaultEndpointsProtocol or EndpointSuffix",
    ),
    "suffix": (
        {"connectionString": f"AccountName=account;AccountKey={KEY};EndpointSuffix=evil/#"},
        "has a wrong DefaultEndpointsProtocol or EndpointSuffix",
    ),
    "endpoint in a string": (
        {"connectionString": f"AccountName=account;AccountKey={KEY};BlobEndpoint=account.blob.core.windows.net"},
        f"BlobEndpoint in the connection string in {SOURCE} is no address",
    ),
    "endpoint": ({"connectionString": STRING, "blobEndpoint": "account"}, f"the key blobEndpoint of {SOURCE} is no"),
    "endpoint's port": ({"connectionString": STRING, "blobEndpoint": "https://a:99999"}, "is no address"),
    "endpoint with a space": ({"connectionString": STRING, "blobEndpoint": "https://a /"}, "is no address"),
    "endpoint with a signature": (
        {"connectionString": STRING, "blobEndpoint": "https://a.example?sig=top"},
        f"the key blobEndpoint of {SOURCE} has a signature or other additions; give the bare address",
    ),
    "endpoint with a password": ({"connectionString": STRING, "blobEndpoint": "https://a:top@b"}, "the bare address"),
    "container": (
        {"connectionString": STRING, "container": "My Packages"},
        f"the key container of {SOURCE} is no name of a container",
    ),
    "authority": (
        {"connectionString": STRING, "ca.crt": "top secret"},
        f"the key ca.crt of {SOURCE} holds no certificate; put the authority's certificate there as PEM",
    ),
    "identity without TLS": (
        {"accountName": "account", "blobEndpoint": "http://azurite:10000/account"},
        "is not an https address, and workload identity works with https only",
    ),
}


@pytest.mark.parametrize(("data", "words"), NO_LINKS.values(), ids=NO_LINKS)
def test_what_links_none(data: dict[str, str], words: str) -> None:
    with pytest.raises(NotLinkedError) as caught:
        configuration(data)
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert "top" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_namespace_s_account_name_alone() -> None:
    alone = {"accountName": "account"}
    never, azure_s_own = (
        IdentityRule(allowed=False),
        IdentityRule(custom_endpoint=False, suffix="core.usgovcloudapi.net"),
    )
    with pytest.raises(NotLinkedError, match="has no key accountKey beside accountName; add it"):
        configuration(alone, identity=never)
    assert configuration(alone, identity=azure_s_own).endpoint == "https://account.blob.core.usgovcloudapi.net"
    with pytest.raises(NotLinkedError, match="does not show its identity to an address that is not Azure's own"):
        configuration({**alone, "blobEndpoint": "https://evil.example"}, identity=azure_s_own)
    keyed = {**alone, "accountKey": KEY, "blobEndpoint": "https://any.example"}
    assert configuration(keyed, identity=never).endpoint == "https://any.example"


@pytest.mark.parametrize(
    ("given_account", "name", "endpoint", "suffix"),
    [
        ("account", "account", AZURE, "core.windows.net"),
        (f"{AZURE}/", "account", AZURE, "core.windows.net"),
        ("https://account.blob.core.chinacloudapi.cn", "account", None, "core.chinacloudapi.cn"),
        ("https://account.z01.blob.storage.azure.net", "account", None, "storage.azure.net"),
        ("https://account-dualstack.blob.core.windows.net", "account", None, "core.windows.net"),
        ("https://localhost:10000/my-account", "my-account", None, "core.windows.net"),
    ],
)
def test_an_account_by_the_installation_s_identity(
    given_account: str, name: str, endpoint: str | None, suffix: str
) -> None:
    linked = identity_configuration(given_account, container="packages")
    assert linked == AccountConfiguration(name, endpoint or given_account, "packages", None)
    assert linked.suffix == suffix


@pytest.mark.parametrize(
    ("given_account", "words"),
    [
        ("My Account", "storage.account is no name of a storage account"),
        ("http://account.blob.core.windows.net", "storage.account is not an https address"),
        ("https://", "storage.account is no address"),
        ("https://blobs.example", "does not tell the account's name"),
        ("https://a_b.blob.core.windows.net", "storage.account is no name of a storage account"),
    ],
)
def test_no_account_by_the_installation_s_identity(given_account: str, words: str) -> None:
    with pytest.raises(NotLinkedError) as caught:
        identity_configuration(given_account, container="packages")
    assert words in str(caught.value)


def test_a_wrong_container_of_the_installation() -> None:
    with pytest.raises(NotLinkedError, match="the setting container is no name of a container"):
        identity_configuration("account", container="a")
    with pytest.raises(NotLinkedError, match="the setting container is no name of a container"):
        configuration({"connectionString": STRING}, container="a--b")


def test_secrets_are_not_shown() -> None:
    shown = repr(configuration({"connectionString": STRING, "ca.crt": new_authority().certificate}))
    assert KEY not in shown
    assert "CERTIFICATE" not in shown
    assert AZURE in shown


names = st.text(string.ascii_lowercase + string.digits, min_size=3, max_size=24)
keys = st.binary(min_size=1, max_size=64).map(lambda raw: base64.b64encode(raw).decode())
spaces = st.text(" \t\n", max_size=2)


@given(name=names, key=keys, data=st.data())
def test_fields_of_a_connection_string_come_in_any_order_case_and_spacing(
    name: str, key: str, data: st.DataObject
) -> None:
    fields = [("AccountName", name), ("AccountKey", key), ("DefaultEndpointsProtocol", "https"), ("QueueEndpoint", "x")]
    parts = []
    for field, value in data.draw(st.permutations(fields)):
        spelled = "".join(char.upper() if data.draw(st.booleans()) else char.lower() for char in field)
        parts.append(
            data.draw(spaces) + spelled + data.draw(spaces) + "=" + data.draw(spaces) + value + data.draw(spaces)
        )
    text = ";".join(parts) + data.draw(st.sampled_from(["", ";", ";;\n"]))
    linked = configuration({"connectionString": text})
    assert linked == AccountConfiguration(name, f"https://{name}.blob.core.windows.net", "packages", key)


@given(
    data=st.dictionaries(
        st.sampled_from(["connectionString", "accountName", "accountKey", "blobEndpoint", "container", "ca.crt"]),
        st.text()
        | st.lists(st.sampled_from([*STRING.split(";"), "BlobEndpoint=", "https://", "[", "%", "@", ";"])).map(
            ";".join
        ),
    )
)
@example({"connectionString": STRING, "blobEndpoint": "https://[a"})
@example({"connectionString": STRING, "blobEndpoint": "https://a:b"})
@example({"connectionString": STRING, "ca.crt": "ü"})
def test_whatever_a_secret_holds_it_links_or_is_refused_in_words(data: dict[str, str]) -> None:
    refusal = ""
    try:
        linked = configuration(data)
    except NotLinkedError as error:
        refusal = str(error)
    else:
        assert linked.name
        assert linked.endpoint.startswith(("https://", "http://"))
    assert KEY not in refusal
