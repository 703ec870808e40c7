"""An Azure Storage account: what blobs there are, what is in them, and short-lived leave to read or write one."""

import datetime
import logging
import random
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient
from requests.adapters import HTTPAdapter

from packhorse.archive import ArchiveError, Limits, verify
from packhorse.domain.packages import Blob, Content, Missing, Refused
from packhorse.storage.credentials import AccountConfiguration
from packhorse.storage.errors import (
    ACCESS_DENIED,
    CONTAINER_NOT_FOUND,
    HIERARCHICAL_NAMESPACE,
    STORAGE_ERROR,
    UnavailableError,
    denied,
    error_code,
    explained,
    no_storage,
)
from packhorse.storage.identity import workload_identity
from packhorse.storage.reader import BlobReader, Progress, StoppedError
from packhorse.storage.signing import (
    READ,
    READ_LIFETIME,
    WRITE,
    WRITE_LIFETIME,
    DelegationSigner,
    KeySigner,
    Signer,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

CONNECTIONS = 32
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 20
"""Seconds without a single byte."""
PAGE = 5000
"""Blobs a page of a listing; the service gives no more."""
ROUNDS = 3
"""How often a blob that is replaced while it is read is begun anew."""
TRIES = 8
"""How often a piece of a blob is asked for, since a hundred good minutes must not be lost to a bad second."""
LONGEST_PAUSE = 30.0
"""Seconds between two of these at most, unless the account itself asks for more."""


class Account:
    """The container of a storage account in which packages lie.

    Its methods block: call them in threads, in as many as you like. What they raise is an UnavailableError.

    Args:
        configuration: Which account, and its credential.
        identity: By whom to sign in where the configuration has no key; the pod's workload identity by default.
        clock: The time, with a time zone.

    Raises:
        NotLinkedError: The pod has no workload identity.
    """

    def __init__(
        self,
        configuration: AccountConfiguration,
        identity: TokenCredential | None = None,
        clock: Callable[[], datetime.datetime] | None = None,
    ) -> None:
        self._configuration = configuration
        self._keyed = configuration.key is not None
        authority = _written(configuration.authority)
        if authority is not None:
            weakref.finalize(self, authority.unlink, missing_ok=True)
        # Our own session, so that closing it drops idle connections and breaks no request that is under way.
        self._session = requests.Session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        credential: dict[str, str] | TokenCredential
        if configuration.key is not None:
            credential = {"account_name": configuration.name, "account_key": configuration.key}
        else:
            credential = identity or workload_identity()
        self._service = BlobServiceClient(
            configuration.endpoint,
            credential,
            transport=RequestsTransport(
                session=self._session,
                session_owner=False,
                connection_verify=str(authority) if authority else True,
                connection_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
                connection_data_block_size=1 << 18,
            ),
            retry_total=0,  # who asks decides when it is worth asking again
            permit_redirects=False,  # an account sends nobody elsewhere
        )
        now = clock or _now
        self._signer: Signer = (
            KeySigner(configuration, now) if self._keyed else DelegationSigner(configuration, self._service, now)
        )
        self._container: Any = self._service.get_container_client(configuration.container)
        self._checked = False
        self._container_seen = False

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    @property
    def url(self) -> str:
        """The account's address, without credentials."""
        return f"{self._configuration.endpoint}/"

    @property
    def container_url(self) -> str:
        """The address of the container, without credentials and without a slash at its end."""
        return f"{self._configuration.endpoint}/{self._configuration.container}"

    def find(self, blob: str) -> Blob | Missing:
        """Whether a blob is there: one request."""
        return self._ask(lambda: self._find(blob))

    def list(self, folder: str, most: int | None = None) -> dict[str, Blob] | None:
        """All blobs whose path begins with ``folder``, by path: one request for every 5,000.

        Args:
            folder: Such as ``namespace/``.
            most: Give up when there are more than so many.

        Returns:
            The blobs as ``find`` gives them; None if it gave up.
        """
        return self._ask(lambda: self._list(folder, most))

    def delete(self, blob: str) -> None:
        """Delete a blob with its snapshots; it is fine if there is none."""
        self._ask(lambda: self._delete(blob))

    def verify(
        self,
        blob: str,
        limits: Limits,
        progress: Progress | None = None,
        stopped: threading.Event | None = None,
        *,
        seen: Blob | None = None,
    ) -> Content | Refused | Missing:
        """Read a blob from end to end: its digest, and whether it is a package that nodes can take.

        Nothing of it is written to disk, and it takes little memory (see ``BlobReader`` and ``Limits``): what is read
        at a time, some hundred bytes an entry, and no more for a large blob than for a small one. It is read once from
        its beginning to its end; of its central directory, only what does not lie in the last piece is read twice. All
        is of one version of the blob: when it is replaced meanwhile, reading begins anew.

        Args:
            blob: Path in the container.
            limits: What a package may hold.
            progress: Told how many bytes were read, and of how many. What it raises ends the reading, and is passed on.
            stopped: Ends the reading soon after it is set.
            seen: What ``find`` gave just before; it is asked for if None.

        Raises:
            UnavailableError: The account does not let it be read to its end, or it is replaced again and again.
            StoppedError: ``stopped`` was set.
        """
        stopped = stopped or threading.Event()
        for _ in range(ROUNDS):
            found = seen or self.find(blob)
            if isinstance(found, Missing):
                return found
            try:
                return self._verify(blob, found, limits, progress or _no_progress, stopped)
            except _ChangedError:
                seen = None
                _log.info("the blob '%s' was replaced or deleted while it was read, so it is looked at anew", blob)
        raise UnavailableError(
            STORAGE_ERROR,
            f"the blob '{blob}' was replaced {ROUNDS} times while it was being read; this is tried again",
            account_wide=False,
        )

    def can_sign(self) -> bool:
        """Whether ``readable`` answers without a request."""
        return self._signer.ready()

    def readable(self, blob: str, lifetime: datetime.timedelta = READ_LIFETIME) -> str:
        """A URL by which one blob can be read, and nothing else, for a while."""
        return self._ask_once(lambda: f"{self._address(blob)}?{self._signer.sign(blob, READ, lifetime)}")

    def writable(self, blob: str) -> str:
        """A URL by which one blob can be written, and read, and nothing else, for some hours. Makes the container."""
        if not self._container_seen:
            self._ask(self._container.get_container_properties)
            self._container_seen = True
        return self._ask_once(lambda: f"{self._address(blob)}?{self._signer.sign(blob, WRITE, WRITE_LIFETIME)}")

    def _address(self, blob: str) -> str:
        return f"{self.container_url}/{quote(blob, safe='~/')}"

    def _client(self, blob: str) -> Any:
        return self._service.get_blob_client(self._configuration.container, blob)

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask something about the container, which is made where it is missing."""
        with explained(self.url, keyed=self._keyed):
            if not self._checked:
                self._check_kind()
            try:
                return _again_if_broken(question)
            except ResourceNotFoundError as error:
                if error_code(error) != "ContainerNotFound":
                    raise
            self._make_container()
            return _again_if_broken(question)

    def _ask_once(self, question: Callable[[], T]) -> T:
        with explained(self.url, keyed=self._keyed):
            return question()

    def _check_kind(self) -> None:
        """Refuse what Batch refuses: with a hierarchical namespace, a path may be a folder, and listings differ."""
        try:
            information = _again_if_broken(self._service.get_account_information)
        except HttpResponseError as error:
            # Who may use blobs need not have leave to see this. A wrong key shows with the next request.
            if not denied(error) and error.status_code != 404:
                raise
            return
        if information.get("is_hns_enabled"):
            raise UnavailableError(
                HIERARCHICAL_NAMESPACE,
                f"the storage account {self.url} has a hierarchical namespace (Data Lake Storage), which Batch does not"
                " take for packages either; link a general-purpose account without it",
            )
        self._checked = True

    def _make_container(self) -> None:
        name = self._configuration.container
        try:
            self._service.create_container(name)
        except ResourceExistsError as error:
            if error_code(error) == "ContainerAlreadyExists":  # somebody else was faster
                return
            raise
        except HttpResponseError as error:
            if not denied(error):
                raise
            raise UnavailableError(
                CONTAINER_NOT_FOUND,
                f"the storage account {self.url} has no container '{name}', and its credential may not make one;"
                " create the container",
            ) from None
        _log.info("made the container '%s' in the storage account %s", name, self.url)

    def _find(self, blob: str) -> Blob | Missing:
        try:
            properties = self._client(blob).get_blob_properties()
        except ResourceNotFoundError as error:
            return self._missing(error)
        self._container_seen = True
        if not properties.etag or properties.size is None:
            raise no_storage(self.url)
        return Blob(_raw(properties.etag), properties.size)

    def _missing(self, error: ResourceNotFoundError) -> Missing:
        """Only the account itself can say that there is no such blob: any other web server says 404 as well."""
        if error_code(error) != "BlobNotFound":
            raise error
        self._container_seen = True
        return Missing()

    def _list(self, folder: str, most: int | None) -> dict[str, Blob] | None:
        found: dict[str, Blob] = {}
        for page in self._container.list_blobs(name_starts_with=folder, results_per_page=PAGE).by_page():
            found.update((blob.name, Blob(_raw(blob.etag), blob.size)) for blob in page)
            if most is not None and len(found) > most:
                return None
        self._container_seen = True
        return found

    def _delete(self, blob: str) -> None:
        try:
            self._client(blob).delete_blob(delete_snapshots="include")
        except ResourceNotFoundError as error:
            if error_code(error) not in {"BlobNotFound", "ContainerNotFound"}:
                raise

    def _verify(
        self, blob: str, seen: Blob, limits: Limits, progress: Progress, stopped: threading.Event
    ) -> Content | Refused:
        def fetch(offset: int, length: int) -> bytes:
            return self._fetch(blob, seen.etag, offset, length, stopped)

        with BlobReader(fetch, seen.size, progress, stopped) as reader:
            try:
                summary = verify(reader.read_at, seen.size, limits)
            except ArchiveError as error:
                return Refused(seen, f"the blob '{blob}' is no package that a node can take: {error}")
            return Content(seen, reader.sha256(), summary.files, summary.unpacked_size)

    def _fetch(self, blob: str, etag: str, offset: int, length: int, stopped: threading.Event) -> bytes:
        """A piece of the blob as it was seen.

        Raises:
            _ChangedError: It is another one now, or gone.
            UnavailableError: The account refused, or failed too often.
            StoppedError: ``stopped`` was set meanwhile.
        """
        tries = 1
        while True:
            try:
                return self._fetch_once(blob, etag, offset, length)
            except UnavailableError as error:
                if error.reason == ACCESS_DENIED or not error.account_wide or tries >= TRIES:
                    raise
                pause = max(error.retry_after, min(LONGEST_PAUSE, 0.5 * 2**tries) * random.uniform(0.5, 1.0))  # noqa: S311
                _log.info("the blob '%s' at byte %d, next try in %.1f s: %s", blob, offset, pause, error)
            if stopped.wait(pause):
                raise StoppedError
            tries += 1

    def _fetch_once(self, blob: str, etag: str, offset: int, length: int) -> bytes:
        with explained(self.url, keyed=self._keyed):
            try:
                stream = self._client(blob).download_blob(
                    offset,
                    length,
                    etag=etag,
                    match_condition=MatchConditions.IfNotModified,
                    max_concurrency=1,
                    decompress=False,  # the bytes as they are, whatever Content-Encoding the blob is said to have
                )
                data: bytes = stream.readall()
            except (ResourceModifiedError, ResourceNotFoundError):
                raise _ChangedError from None
            except ValueError:  # an answer without the headers that every answer has
                raise no_storage(self.url) from None
        if len(data) != length:
            raise no_storage(self.url)
        return data


class _ChangedError(Exception):
    """The blob is not the one that was seen."""


def _again_if_broken(question: Callable[[], T]) -> T:
    """Ask a second time where the connection broke: an idle one may have been closed by the other side."""
    try:
        return question()
    except (ServiceRequestError, ServiceResponseError):
        return question()


def _raw(etag: str) -> str:
    """An ETag as headers have it; in listings, Azure leaves the quotes out."""
    return f'"{etag.strip(chr(34))}"'


def _written(pem: str) -> Path | None:
    """A file with these certificates, since the HTTP client reads them from files only; None if there are none."""
    if not pem:
        return None
    with tempfile.NamedTemporaryFile("w", prefix="packhorse-authority-", suffix=".crt", delete=False) as file:
        file.write(pem)
    return Path(file.name)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _no_progress(_read: int, _total: int) -> None:
    """Nobody wants to know."""
