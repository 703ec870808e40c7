"""What a storage account is linked by: from a Secret's data, or the installation's settings, to a configuration."""

import base64
import binascii
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packhorse.storage.errors import NotLinkedError

HOW_TO_LINK = (
    "no storage account is linked to this installation; put its connection string under the key connectionString into"
    " a Secret of the operator's namespace and name that Secret in the chart's value storage.existingSecret,"
    " or set storage.account or azurite.enabled"
)

KEYS = ("connectionString", "accountName", "accountKey", "blobEndpoint", "container", "ca.crt")
"""What is read of a Secret; other keys may be there for others."""

PUBLIC_CLOUD = "core.windows.net"

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CUSTOM_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")  # emulators take more names than Azure
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_ADDRESS = re.compile(r"[!-~]+")
_SUFFIX = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class AccountConfiguration:
    """An account and how to sign in to it. Two that are equal are the same account with the same credential.

    Attributes:
        name: Of the account.
        endpoint: Its blob endpoint, without a slash at the end.
        container: Where packages lie.
        key: An account key; None: the operator's own workload identity.
        authority: PEM certificates to check TLS by; empty: the public authorities.
    """

    name: str
    endpoint: str
    container: str
    key: str | None = field(repr=False)
    authority: str = field(default="", repr=False)

    @property
    def suffix(self) -> str:
        """The cloud that it is in, such as core.windows.net; Azure's public one where the endpoint does not tell."""
        _, found, suffix = (urlsplit(self.endpoint).hostname or "").partition(".blob.")
        return suffix if found else PUBLIC_CLOUD


@dataclass(frozen=True)
class IdentityRule:
    """Whether an account name alone, without a key, links an account by the operator's workload identity.

    Attributes:
        allowed: False where the installation is not linked by workload identity itself.
        custom_endpoint: False where the Secret is one that a namespace's users write: the operator's token must not be
            sent to an address of theirs.
        suffix: The cloud that accounts are looked for in.
    """

    allowed: bool = True
    custom_endpoint: bool = True
    suffix: str = PUBLIC_CLOUD


def secret_configuration(
    data: Mapping[str, str], source: str, *, container: str, identity: IdentityRule, authority: str = ""
) -> AccountConfiguration:
    """What a Secret links.

    Args:
        data: Its decoded data.
        source: What to call it in messages, such as "the Secret packhorse/storage".
        container: The container where the Secret names none.
        identity: What an account name alone means.
        authority: PEM certificates to check TLS by where the Secret has none.

    Raises:
        NotLinkedError: It lacks something, or something in it is wrong; the message names the key, and no value.
    """
    given = {key: value for key in KEYS if (value := data.get(key, "").strip())}
    name, key, endpoint = _sign_in(given, source)
    if key is None:
        _check_identity(given, source, identity)
    else:
        _check_key(key, source, "connectionString" if "connectionString" in given else "accountKey")
    if "blobEndpoint" in given:
        endpoint = _endpoint(given["blobEndpoint"], f"the key blobEndpoint of {source}")
    where = "connectionString" if "connectionString" in given else "accountName"
    _check_name(name, f"the key {where} of {source}", custom=bool(endpoint))
    endpoint = endpoint or f"https://{name}.blob.{identity.suffix}"
    if key is None:
        _check_encrypted(endpoint, f"the key blobEndpoint of {source}")
    chosen = given.get("container", container)
    _check_container(chosen, f"the key container of {source}" if "container" in given else "the setting container")
    if "ca.crt" in given:
        _check_authority(given["ca.crt"], source)
    return AccountConfiguration(name, endpoint, chosen, key, given.get("ca.crt", authority))


def identity_configuration(account: str, *, container: str) -> AccountConfiguration:
    """What the installation's setting links by workload identity: an account's name, or its https blob endpoint.

    Raises:
        NotLinkedError: It is neither.
    """
    source = "the chart's value storage.account"
    _check_container(container, "the setting container")
    if "/" not in account:
        _check_name(account, source, custom=False)
        return AccountConfiguration(account, f"https://{account}.blob.{PUBLIC_CLOUD}", container, None)
    endpoint = _endpoint(account, source)
    _check_encrypted(endpoint, source)
    parts = urlsplit(endpoint)
    host, found, _ = (parts.hostname or "").partition(".blob.")
    # zones of Azure's DNS and features stand beside the name: account.z01.blob..., account-dualstack.blob...
    name = re.sub(r"-(secondary|ipv6|dualstack)$", "", host.partition(".")[0]) if found else parts.path.strip("/")
    if not name:
        raise NotLinkedError(
            f"{source} does not tell the account's name; give the name itself, or the address that Azure gave the"
            " account, such as https://NAME.blob.core.windows.net"
        )
    _check_name(name, source, custom=not found)
    return AccountConfiguration(name, endpoint, container, None)


def _sign_in(given: Mapping[str, str], source: str) -> tuple[str, str | None, str]:
    """The account's name, its key if there is one, and its endpoint, empty if it follows from the name."""
    if "connectionString" in given:
        return _connection_string(given["connectionString"], source)
    if "accountName" in given:
        return given["accountName"], given.get("accountKey"), ""
    missing = "accountName beside accountKey" if "accountKey" in given else "connectionString"
    raise NotLinkedError(
        f"{source} has no key {missing}; add it: connectionString as the account's access keys show it,"
        " or accountName and accountKey"
    )


def _connection_string(text: str, source: str) -> tuple[str, str, str]:
    """The account's name and key, and its endpoint, in a connection string."""
    where = f"the connection string in {source}"
    again = "copy it again from the account's access keys"
    fields: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or name.strip().lower() in fields:
            raise NotLinkedError(f"{where} is damaged: it is no list of different NAME=VALUE; {again}")
        fields[name.strip().lower()] = value.strip()
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        raise NotLinkedError(
            f"{where} stands for an emulator on one's own machine, which the operator cannot reach;"
            " give the emulator's AccountName, AccountKey and BlobEndpoint"
        )
    if "accountkey" not in fields and "sharedaccesssignature" in fields:
        raise NotLinkedError(
            f"{where} holds a shared access signature only, and nobody can sign URLs for nodes by that;"
            " take the connection string with AccountKey from the account's access keys"
        )
    for name, key in (("AccountName", "accountname"), ("AccountKey", "accountkey")):
        if not fields.get(key):
            raise NotLinkedError(f"{where} has no {name}; {again}")
    if fields.get("blobendpoint"):
        return (
            fields["accountname"],
            fields["accountkey"],
            _endpoint(fields["blobendpoint"], f"BlobEndpoint in {where}"),
        )
    scheme = fields.get("defaultendpointsprotocol", "https").lower()
    suffix = fields.get("endpointsuffix") or PUBLIC_CLOUD
    if scheme not in {"http", "https"} or not _SUFFIX.fullmatch(suffix):
        raise NotLinkedError(f"{where} has a wrong DefaultEndpointsProtocol or EndpointSuffix; {again}")
    _check_name(fields["accountname"], f"AccountName in {where}", custom=False)
    return fields["accountname"], fields["accountkey"], f"{scheme}://{fields['accountname']}.blob.{suffix}"


def _endpoint(text: str, where: str) -> str:
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        valid = False
    if not valid or not _ADDRESS.fullmatch(text):
        raise NotLinkedError(f"{where} is no address; it looks like https://NAME.blob.core.windows.net")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise NotLinkedError(f"{where} has a signature or other additions; give the bare address")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _check_identity(given: Mapping[str, str], source: str, identity: IdentityRule) -> None:
    if not identity.allowed:
        raise NotLinkedError(
            f"{source} has no key accountKey beside accountName; add it, since this installation itself is not linked"
            " by workload identity"
        )
    if "blobEndpoint" in given and not identity.custom_endpoint:
        raise NotLinkedError(
            f"{source} has a key blobEndpoint and no accountKey; remove blobEndpoint, or add accountKey: the operator"
            " does not show its identity to an address that is not Azure's own"
        )


def _check_key(key: str, source: str, where: str) -> None:
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        # not the error itself: it may show what it could not read
        raise NotLinkedError(
            f"the account key under {where} in {source} is damaged: it is not Base64; copy it again"
        ) from None


def _check_name(name: str, where: str, *, custom: bool) -> None:
    if not (_CUSTOM_ACCOUNT if custom else _ACCOUNT).fullmatch(name):
        raise NotLinkedError(f"{where} is no name of a storage account: 3 to 24 lower-case letters and digits")


def _check_container(name: str, where: str) -> None:
    if not _CONTAINER.fullmatch(name):
        raise NotLinkedError(
            f"{where} is no name of a container: 3 to 63 lower-case letters, digits and single hyphens between them"
        )


def _check_encrypted(endpoint: str, where: str) -> None:
    if not endpoint.startswith("https:"):
        raise NotLinkedError(f"{where} is not an https address, and workload identity works with https only")


def _check_authority(pem: str, source: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError, TypeError):  # the last one where it is not even ASCII
        raise NotLinkedError(
            f"the key ca.crt of {source} holds no certificate; put the authority's certificate there as PEM"
        ) from None
