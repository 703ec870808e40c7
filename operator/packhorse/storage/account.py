"""An Azure Storage account: what blobs there are, what is in them, and short-lived leave to read or write one."""

import datetime
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from packhorse.archive import ArchiveError, Limits, inspect
from packhorse.domain.packages import Blob, Content, Missing, NotLinked, Refused, Unavailable

T = TypeVar("T")

READ_LIFETIME = datetime.timedelta(minutes=15)
"""How long a node may begin to read a blob."""
WRITE_LIFETIME = datetime.timedelta(hours=4)
"""How long a person may take to upload one; Batch gives the same."""
_CLOCK_SKEW = datetime.timedelta(minutes=5)

HOW_TO_LINK = (
    "no storage account is linked to this installation; put its connection string under the key connectionString into"
    " a Secret of the operator's namespace and name that Secret in the chart's value storage.existingSecret,"
    " or set azurite.enabled"
)


class NotLinkedError(Exception):
    """There is no storage account, or its Secret is of no use."""


class UnavailableError(Exception):
    """The account does not answer, or refuses.

    Attributes:
        reason: One word for programs.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Answer:
    """How an HTTP status of the storage service is told to a person."""

    reason: str
    advice: str


_ANSWERS = {
    403: _Answer("StorageAccessDenied", "its credential is wrong or lacks a right; check the linked account's Secret"),
    404: _Answer("StorageContainerNotFound", "its container is missing and could not be made; create it"),
    503: _Answer("StorageThrottled", "it asks to be called less often; this is tried again"),
}


class Account:
    """The container of a storage account in which packages lie. Its methods block: call them in threads.

    Args:
        connection_string: As Azure gives it, with an account key.
        container: Name of the container; it is made where it is missing.
        authority: Path of a PEM file to check the account's certificate by, None for the system's own.
    """

    def __init__(self, connection_string: str, container: str, authority: Path | None = None) -> None:
        try:
            self._service = BlobServiceClient.from_connection_string(
                connection_string,
                connection_verify=str(authority) if authority else True,
                connection_timeout=5,
                read_timeout=60,
                retry_total=2,
                initial_backoff=0.5,
                increment_base=2,
            )
        except ValueError as error:
            raise NotLinkedError(
                "the linked storage account's Secret has no usable connection string under the key connectionString;"
                " copy it from the account's access keys"
            ) from error
        self._container = container
        self._made = False

    @property
    def url(self) -> str:
        """The account's address, without credentials."""
        return str(self._service.url)

    def look(self, blob: str) -> Blob | Missing:
        """Whether a blob is there. Raises UnavailableError."""
        return self._ask(lambda: self._look(blob))

    def verify(self, blob: str, limits: Limits) -> Content | Refused | Missing:
        """Read a blob from end to end: its digest, and whether it is a package that nodes can take.

        It passes through a temporary file, never through memory. Raises UnavailableError.
        """
        return self._ask(lambda: self._verify(blob, limits))

    def readable(self, blob: str) -> str:
        """A URL by which one blob can be read, and nothing else, for some minutes."""
        return self._signed(blob, BlobSasPermissions(read=True), READ_LIFETIME)

    def writable(self, blob: str) -> str:
        """A URL by which one blob can be written, and nothing else, for some hours."""
        return self._signed(blob, BlobSasPermissions(create=True, write=True), WRITE_LIFETIME)

    def _signed(self, blob: str, permission: BlobSasPermissions, lifetime: datetime.timedelta) -> str:
        now = datetime.datetime.now(datetime.UTC)
        signature = generate_blob_sas(
            account_name=str(self._service.account_name),
            container_name=self._container,
            blob_name=blob,
            account_key=self._service.credential.account_key,
            permission=permission,
            start=now - _CLOCK_SKEW,
            expiry=now + lifetime,
        )
        return f"{self._client(blob).url}?{signature}"

    def _client(self, blob: str) -> Any:
        return self._service.get_blob_client(self._container, blob)

    def _ask(self, question: Callable[[], T]) -> T:
        with _explained(self.url):
            if not self._made:
                with suppress(ResourceExistsError):
                    self._service.create_container(self._container)
                self._made = True
            return question()

    def _look(self, blob: str) -> Blob | Missing:
        try:
            properties = self._client(blob).get_blob_properties()
        except ResourceNotFoundError as error:
            return self._missing(error)
        return Blob(properties.etag, properties.size)

    def _missing(self, error: ResourceNotFoundError) -> Missing:
        if getattr(error, "error_code", None) == "ContainerNotFound":
            self._made = False
            raise error
        return Missing()

    def _verify(self, blob: str, limits: Limits) -> Content | Refused | Missing:
        digest = hashlib.sha256()
        with tempfile.TemporaryFile(prefix="packhorse-verify-") as file:
            try:
                stream = self._client(blob).download_blob(max_concurrency=1)
                for chunk in stream.chunks():
                    digest.update(chunk)
                    file.write(chunk)
            except ResourceNotFoundError as error:
                return self._missing(error)
            seen = Blob(stream.properties.etag, stream.size)
            try:
                summary = inspect(file, limits, unpack=True)
            except ArchiveError as error:
                return Refused(seen, f"the blob '{blob}' is no package that a node can take: {error}")
        return Content(seen, digest.hexdigest(), summary.files, summary.unpacked_size)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn the SDK's errors into words for a person; none of them shows a credential or a signature."""
    try:
        yield
    except (ServiceRequestError, ServiceResponseError) as error:
        raise UnavailableError(
            "StorageUnreachable", f"the storage account {url} does not answer ({type(error).__name__})"
        ) from error
    except (ClientAuthenticationError, HttpResponseError) as error:
        answer = _ANSWERS.get(error.status_code or 0, _Answer("StorageError", "see the operator's log"))
        code = getattr(error, "error_code", None) or error.reason
        raise UnavailableError(
            answer.reason, f"the storage account {url} answered {error.status_code} {code}: {answer.advice}"
        ) from error
    except AzureError as error:
        raise UnavailableError("StorageError", f"the storage account {url}: {type(error).__name__}") from error


def not_linked(error: NotLinkedError) -> NotLinked:
    """What a package's status says of it."""
    return NotLinked(str(error))


def unavailable(error: UnavailableError) -> Unavailable:
    """What a package's status says of it."""
    return Unavailable(error.reason, str(error))


def connection_string(data: Mapping[str, str]) -> str:
    """The connection string in a Secret's decoded data. Raises NotLinkedError."""
    text = data.get("connectionString", "").strip()
    if not text:
        raise NotLinkedError("the linked storage account's Secret has no key connectionString; add it")
    return text
