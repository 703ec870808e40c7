"""URLs by which whoever has them can read or write one blob, for a while."""

import datetime
import threading
from collections.abc import Callable
from typing import Any, Protocol

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from packhorse.storage.credentials import AccountConfiguration

READ = BlobSasPermissions(read=True)
WRITE = BlobSasPermissions(read=True, create=True, write=True)
"""With leave to read, since looking for blocks of an interrupted upload counts as reading."""
READ_LIFETIME = datetime.timedelta(minutes=15)
"""How long a node may begin to read a blob."""
WRITE_LIFETIME = datetime.timedelta(hours=4)
"""How long a person may take to upload one; Batch gives the same."""
DOWNLOAD_LIFETIME = datetime.timedelta(hours=4)
"""How long a person may take to download one."""
KEY_LIFETIME = datetime.timedelta(hours=24)
"""Of a user delegation key; Azure allows seven days."""
KEY_RENEWAL = datetime.timedelta(hours=12)
"""A key that has less left than this is renewed: long before a signature could outlive it."""
_CLOCK_SKEW = datetime.timedelta(minutes=5)

Clock = Callable[[], datetime.datetime]


class Signer(Protocol):
    """Makes signatures for an account."""

    def ready(self) -> bool:
        """Whether it can sign without asking the account first."""

    def sign(self, blob: str, permission: BlobSasPermissions, lifetime: datetime.timedelta) -> str:
        """The query of a URL to one blob. Raises AzureError where the account has to be asked."""


class KeySigner:
    """Signs with the account's own key."""

    def __init__(self, configuration: AccountConfiguration, clock: Clock) -> None:
        self._configuration = configuration
        self._clock = clock

    def ready(self) -> bool:
        """Always: the key is at hand."""
        return True

    def sign(self, blob: str, permission: BlobSasPermissions, lifetime: datetime.timedelta) -> str:
        """The query of a URL to one blob."""
        now = self._clock()
        return _signed(
            self._configuration,
            blob,
            permission,
            now - _CLOCK_SKEW,
            now + lifetime,
            account_key=self._configuration.key,
        )


class DelegationSigner:
    """Signs with a key that the account gives to the operator's identity for some hours."""

    def __init__(self, configuration: AccountConfiguration, service: BlobServiceClient, clock: Clock) -> None:
        self._configuration = configuration
        self._service = service
        self._clock = clock
        self._lock = threading.Lock()
        self._key: Any = None
        self._start = self._end = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    def ready(self) -> bool:
        """Whether there is a key that need not be renewed yet."""
        return self._end - self._clock() >= KEY_RENEWAL

    def sign(self, blob: str, permission: BlobSasPermissions, lifetime: datetime.timedelta) -> str:
        """The query of a URL to one blob; it never outlives the key. Raises AzureError."""
        with self._lock:
            now = self._clock()
            if not self.ready():
                self._renew(now, lifetime)
            key, start, end = self._key, self._start, self._end
        return _signed(
            self._configuration,
            blob,
            permission,
            max(start, now - _CLOCK_SKEW),
            min(end, now + lifetime),
            user_delegation_key=key,
        )

    def _renew(self, now: datetime.datetime, lifetime: datetime.timedelta) -> None:
        start, end = now - _CLOCK_SKEW, now + KEY_LIFETIME
        try:
            self._key = self._service.get_user_delegation_key(start, end)
        except AzureError:
            # The old key does for as long as what it signs needs.
            if self._key is None or self._end - now < lifetime:
                raise
            return
        # Azure may give less than was asked for; both are whole seconds.
        self._start, self._end = _time(self._key.signed_start), _time(self._key.signed_expiry)


def _signed(
    configuration: AccountConfiguration,
    blob: str,
    permission: BlobSasPermissions,
    start: datetime.datetime,
    end: datetime.datetime,
    **key: Any,
) -> str:
    return str(
        generate_blob_sas(
            account_name=configuration.name,
            container_name=configuration.container,
            blob_name=blob,
            permission=permission,
            start=start,
            expiry=end,
            protocol="https" if configuration.endpoint.startswith("https:") else None,
            **key,
        )
    )


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
