"""Secrets of the operator's own namespace: its certificate authority, and the account of the embedded storage.

Both are made once, by whichever operator comes first, and then only read.
"""

import base64
import os
from collections.abc import Callable, Mapping
from typing import Any

from packhorse.cluster.client import SECRET, ApiError, Client
from packhorse.operator.authority import KeyPair, issue, new_authority
from packhorse.operator.settings import Settings

AUTHORITY_SECRET = "packhorse-authority"  # noqa: S105 (a name)
EMBEDDED_ACCOUNT = "packhorse"
_LABELS = {"app.kubernetes.io/managed-by": "packhorse", "app.kubernetes.io/part-of": "packhorse"}


async def authority(client: Client, settings: Settings) -> KeyPair:
    """The certificate authority of this installation."""

    def make() -> dict[str, str]:
        pair = new_authority()
        return {"tls.crt": pair.certificate, "tls.key": pair.key}

    data = await _find_or_create(client, settings.namespace, AUTHORITY_SECRET, make)
    return KeyPair(data["tls.crt"], data["tls.key"])


async def embedded_account(client: Client, settings: Settings, signer: KeyPair) -> None:
    """Make the account of the embedded storage: its key, and the certificate that Azurite shows."""
    host = settings.embedded_storage.partition(":")[0]

    def make() -> dict[str, str]:
        key = base64.b64encode(os.urandom(64)).decode()
        pair = issue(signer, host)
        endpoint = f"https://{settings.embedded_storage}/{EMBEDDED_ACCOUNT}"
        return {
            "AZURITE_ACCOUNTS": f"{EMBEDDED_ACCOUNT}:{key}",
            "connectionString": f"DefaultEndpointsProtocol=https;AccountName={EMBEDDED_ACCOUNT};AccountKey={key};"
            f"BlobEndpoint={endpoint};",
            "tls.crt": pair.certificate,
            "tls.key": pair.key,
            "ca.crt": signer.certificate,
        }

    await _find_or_create(client, settings.namespace, settings.storage_secret, make)


async def read_secret(client: Client, namespace: str, name: str) -> dict[str, str] | None:
    """The decoded data of a Secret, None where there is none."""
    found = await client.find(SECRET, namespace, name)
    return _decoded(found) if found is not None else None


async def _find_or_create(
    client: Client, namespace: str, name: str, make: Callable[[], Mapping[str, str]]
) -> dict[str, str]:
    found = await read_secret(client, namespace, name)
    if found is not None:
        return found
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": _LABELS},
        "stringData": dict(make()),
    }
    try:
        return _decoded(await client.create(SECRET, namespace, body))
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    return _decoded(await client.get(SECRET, namespace, name))


def _decoded(secret: Mapping[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
