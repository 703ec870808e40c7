"""A file's way into the storage account: its digest, and its blocks in parallel."""

import hashlib
import http
import logging
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobClient, ExponentialRetry
from requests.adapters import HTTPAdapter

from packhorse.cli.cluster import Cluster
from packhorse.cli.errors import CliError, ConnectionLostError
from packhorse.cli.grant import Grant
from packhorse.cli.progress import Advance

_READ = 1 << 20
_BLOCK = 8 << 20  # bytes of a block; 50,000 of them are allowed, so 400 GB
_CONNECTIONS = 4
_AGAIN = "Run the same command again: it starts over, and nothing half is left."


def digest(file: Path, advance: Advance) -> str:
    """SHA-256 of a file, in lower-case hexadecimal digits."""
    result = hashlib.sha256()
    done = 0
    with file.open("rb", buffering=0) as stream:
        while piece := stream.read(_READ):
            result.update(piece)
            done += len(piece)
            advance(done)
    return result.hexdigest()


def upload(cluster: Cluster, grant: Grant, file: Path, advance: Advance) -> None:
    """Write the file as one blob. Until the last block is in, the blob is as it was: there is no half of it.

    Raises:
        CliError: The storage account refuses, or cannot be reached even after some tries.
    """
    logging.getLogger("azure").setLevel(logging.ERROR)
    if grant.proxy_path is None:
        _write(grant.url, file, advance, {})
        return
    parts = urlsplit(grant.url)
    address = f"{cluster.configuration.host}{grant.proxy_path}{parts.path}?{parts.query}"
    with _api_server_session(cluster) as session:
        verify, certificate = _certificates(cluster)
        _check_way(session, address, verify, certificate)
        transport = RequestsTransport(
            session=session, session_owner=False, connection_verify=verify, connection_cert=certificate
        )
        _write(address, file, advance, {"transport": transport})


def _write(address: str, file: Path, advance: Advance, options: dict[str, Any]) -> None:
    # Not BlobClient.from_blob_url: it takes a path apart by what the host's name looks like.
    parts = urlsplit(address)
    base, container, blob = parts.path.rsplit("/", 2)
    client = BlobClient(
        f"{parts.scheme}://{parts.netloc}{base}?{parts.query}",
        container_name=unquote(container),
        blob_name=unquote(blob),
        max_block_size=_BLOCK,
        max_single_put_size=_BLOCK,
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=5, random_jitter_range=1),
        **options,
    )

    def write_blocks() -> None:
        with file.open("rb") as stream:
            client.upload_blob(
                stream,
                length=file.stat().st_size,
                overwrite=True,
                max_concurrency=_CONNECTIONS,
                progress_hook=lambda done, _: advance(done),
            )

    try:
        with client:
            try:
                write_blocks()
            except HttpResponseError as error:
                if _code(error) != "InvalidBlobOrBlock":
                    raise
                # Another tool began an upload and left blocks whose ids are of another length: what a list of blocks
                # leaves out, such as an empty one, is cleared away.
                client.commit_block_list([])
                write_blocks()
    except HttpResponseError as error:
        raise _refusal(error, parts.netloc) from error
    except AzureError as error:
        raise ConnectionLostError(
            f"The upload to {parts.netloc} broke off: {str(error).replace(parts.query, '...')}", _AGAIN
        ) from error


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
    session.mount("https://", Adapter(pool_maxsize=_CONNECTIONS))
    if configuration.proxy:
        session.proxies = {"http": configuration.proxy, "https": configuration.proxy}
    return session


def _certificates(cluster: Cluster) -> tuple[str | bool, tuple[str, str] | None]:
    """What the API server's certificate is checked with, and the client's own certificate and key."""
    configuration = cluster.configuration
    verify = (configuration.ssl_ca_cert or True) if configuration.verify_ssl else False
    certificate = (configuration.cert_file, configuration.key_file) if configuration.cert_file else None
    return verify, certificate


def _check_way(
    session: requests.Session, address: str, verify: str | bool, certificate: tuple[str, str] | None
) -> None:
    """Ask whether the API server lets us through at all, with a request that no storage account takes.

    It would cut off a long upload that it refuses, and the reason would be lost. (A blob's type is missing in it.)
    """
    host = urlsplit(address).netloc
    try:
        answer = session.put(address, verify=verify, cert=certificate, timeout=30)
    except requests.RequestException as error:
        raise ConnectionLostError(f"The cluster at {host} cannot be reached for the upload.", _AGAIN) from error
    try:
        said = answer.json()
    except ValueError:
        return  # XML, so it is the storage account that speaks
    if isinstance(said, dict) and said.get("kind") == "Status":
        if answer.status_code == http.HTTPStatus.FORBIDDEN:
            raise CliError(
                f"{host} does not let you reach the storage inside the cluster: {said.get('message')}",
                "Ask the cluster's administrator for the role packhorse-uploader in Packhorse's namespace.",
            )
        raise CliError(f"The storage inside the cluster cannot be reached: {said.get('message')}", _AGAIN)


def _refusal(error: HttpResponseError, host: str) -> CliError:
    return CliError(f"{host} refuses the upload: {_code(error) or error.reason} (HTTP {error.status_code}).", _AGAIN)


def _code(error: Any) -> str | None:
    """The storage account's own word for an error."""
    return None if error.response is None else error.response.headers.get("x-ms-error-code")
