"""A package's blob as a person's machine reaches it: directly, or through the API server where it is in the cluster."""

import contextlib
import http
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobClient, ExponentialRetry
from requests.adapters import HTTPAdapter

from packhorse.cli.cluster import Cluster
from packhorse.cli.errors import CliError, ConnectionLostError, redact
from packhorse.cli.grant import Grant

CONNECTIONS = 4
"""Pieces of a blob on their way at a time."""

RANGE = 16 << 20
"""Bytes of a piece that is read at once."""


@contextlib.contextmanager
def open_blob(cluster: Cluster, grant: Grant, purpose: str, again: str) -> Iterator[BlobClient]:
    """A client for the blob that the grant is for.

    Args:
        cluster: Where the API server is.
        grant: Leave to read or to write.
        purpose: What is done, for errors: ``upload`` or ``download``.
        again: What to do after an error.

    Raises:
        CliError: The storage account refuses, or cannot be reached even after some tries. No message has the signature.
    """
    logging.getLogger("azure").setLevel(logging.ERROR)
    if grant.proxy_path is None:
        with _client(grant.url, {}) as client, _explained(grant.url, purpose, again):
            yield client
        return
    parts = urlsplit(grant.url)
    address = f"{cluster.configuration.host}{grant.proxy_path}{parts.path}?{parts.query}"
    with _api_server_session(cluster) as session:
        verify, certificate = _certificates(cluster)
        _check_way(session, cluster, address, purpose, again)
        transport = RequestsTransport(
            session=session, session_owner=False, connection_verify=verify, connection_cert=certificate
        )
        with _client(address, {"transport": transport}) as client, _explained(address, purpose, again):
            yield client


def code(error: HttpResponseError) -> str | None:
    """The storage account's own word for an error."""
    headers = getattr(error.response, "headers", {})
    return str(headers["x-ms-error-code"]) if "x-ms-error-code" in headers else None


def _client(address: str, options: dict[str, Any]) -> BlobClient:
    # Not BlobClient.from_blob_url: it takes a path apart by what the host's name looks like. Where that is done is all
    # the same: the parts are joined again, and the signature is there already.
    parts = urlsplit(address)
    base, container, blob = parts.path.rsplit("/", 2)
    return BlobClient(
        f"{parts.scheme}://{parts.netloc}{base}?{parts.query}",
        container_name=unquote(container),
        blob_name=unquote(blob),
        max_single_get_size=RANGE,
        max_chunk_get_size=RANGE,
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=5, random_jitter_range=1),
        **options,
    )


@contextlib.contextmanager
def _explained(address: str, purpose: str, again: str) -> Iterator[None]:
    """Turn the SDK's errors into words; the signature is in none of them."""
    parts = urlsplit(address)
    try:
        yield
    except HttpResponseError as error:
        raise CliError(
            f"{parts.netloc} refuses the {purpose}: {code(error) or error.reason} (HTTP {error.status_code}).", again
        ) from error
    except AzureError as error:
        cause = redact(str(error)).rpartition("Caused by ")[2]  # what comes before repeats the address
        raise ConnectionLostError(f"The {purpose} broke off, {parts.netloc} does not answer: {cause}", again) from error


def _api_server_session(cluster: Cluster) -> requests.Session:
    """Connections to the API server, with the kubeconfig's own credentials."""
    configuration = cluster.configuration

    class Adapter(HTTPAdapter):
        """Expects the API server's certificate to have the name that the kubeconfig says."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            if configuration.tls_server_name:
                kwargs["server_hostname"] = configuration.tls_server_name
                kwargs["assert_hostname"] = configuration.tls_server_name
            super().init_poolmanager(*args, **kwargs)

    def authorize(request: Any) -> Any:
        if authorization := cluster.authorization():
            request.headers["Authorization"] = authorization
        return request

    session = requests.Session()
    session.trust_env = False  # a .netrc or REQUESTS_CA_BUNDLE is not about this server; the proxy comes from our side
    session.auth = authorize
    session.mount("https://", Adapter(pool_maxsize=CONNECTIONS))
    if configuration.proxy:
        session.proxies = {"http": configuration.proxy, "https": configuration.proxy}
    return session


def _certificates(cluster: Cluster) -> tuple[str | bool, tuple[str, str] | None]:
    """What the API server's certificate is checked with, and the client's own certificate and key."""
    configuration = cluster.configuration
    verify = (configuration.ssl_ca_cert or True) if configuration.verify_ssl else False
    certificate = (configuration.cert_file, configuration.key_file) if configuration.cert_file else None
    return verify, certificate


_TRIES = 4
_PAUSE = 0.5  # seconds between two


def _check_way(session: requests.Session, cluster: Cluster, address: str, purpose: str, again: str) -> None:
    """Ask whether the API server lets us through at all, with a small request of the same method.

    It would cut off a long upload that it refuses, and the reason would be lost. An upload is asked for without the
    blob's type, which no storage account takes; a download by the list of the blob's blocks.
    """
    host = urlsplit(address).netloc
    for left in reversed(range(_TRIES)):
        refused = _refusal_on_the_way(session, cluster, address, purpose, again)
        if refused is None:
            return
        status, message = refused
        if status == http.HTTPStatus.FORBIDDEN:
            raise CliError(
                f"{host} does not let you reach the storage inside the cluster: {message}",
                "Ask the cluster's administrator for the role packhorse-uploader in Packhorse's namespace.",
            )
        if not left:
            raise CliError(f"The storage inside the cluster cannot be reached: {message}", again)
        time.sleep(_PAUSE)  # the API server may have taken a connection that the storage had just closed


def _refusal_on_the_way(
    session: requests.Session, cluster: Cluster, address: str, purpose: str, again: str
) -> tuple[int, str] | None:
    """What the API server itself answers, status and message; None if it is the storage account that speaks."""
    verify, certificate = _certificates(cluster)
    method, url = ("PUT", address) if purpose == "upload" else ("GET", f"{address}&comp=blocklist")
    try:
        answer = session.request(method, url, verify=verify, cert=certificate, timeout=30)
    except requests.RequestException as error:
        raise ConnectionLostError(f"The cluster at {urlsplit(address).netloc} cannot be reached.", again) from error
    try:
        said = answer.json()
    except ValueError:
        return None  # XML
    if isinstance(said, dict) and said.get("kind") == "Status":
        return answer.status_code, str(said.get("message"))
    return None
