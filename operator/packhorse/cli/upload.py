"""A file's way into the storage account: its digest, and its blocks in parallel."""

import hashlib
import http
import logging
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobClient

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
    address, options = (
        (grant.url, {}) if grant.proxy_path is None else _through_api_server(cluster, grant.url, grant.proxy_path)
    )
    # Not BlobClient.from_blob_url: it takes a path apart by what the host's name looks like.
    parts = urlsplit(address)
    base, container, blob = parts.path.rsplit("/", 2)
    client = BlobClient(
        f"{parts.scheme}://{parts.netloc}{base}?{parts.query}",
        container_name=unquote(container),
        blob_name=unquote(blob),
        max_block_size=_BLOCK,
        max_single_put_size=_BLOCK,
        retry_total=5,
        **options,
    )
    size = file.stat().st_size
    try:
        with client, file.open("rb") as stream:
            client.upload_blob(
                stream,
                length=size,
                overwrite=True,
                max_concurrency=_CONNECTIONS,
                progress_hook=lambda done, _: advance(done),
            )
    except HttpResponseError as error:
        raise _refusal(error, parts.netloc) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise ConnectionLostError(
            f"The upload to {parts.netloc} broke off: {_without_query(error, parts.query)}",
            _AGAIN,
        ) from error
    except AzureError as error:
        raise CliError(f"The upload failed: {_without_query(error, parts.query)}") from error


def _through_api_server(cluster: Cluster, url: str, proxy_path: str) -> tuple[str, dict[str, Any]]:
    """The blob's address at the API server, and how to get in there with the kubeconfig's own credentials."""
    configuration = cluster.configuration

    class Adapter(requests.adapters.HTTPAdapter):
        """Checks the API server's certificate as the kubeconfig says."""

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
    transport = RequestsTransport(
        session=session,
        session_owner=False,
        connection_verify=(configuration.ssl_ca_cert or True) if configuration.verify_ssl else False,
        connection_cert=(configuration.cert_file, configuration.key_file) if configuration.cert_file else None,
    )
    parts = urlsplit(url)
    return f"{configuration.host}{proxy_path}{parts.path}?{parts.query}", {"transport": transport}


def _refusal(error: Any, host: str) -> CliError:
    response = error.response
    code = response.headers.get("x-ms-error-code") if response is not None else None
    if error.status_code == http.HTTPStatus.FORBIDDEN and code is None:  # it never came as far as the storage account
        return CliError(
            f"{host} does not let you reach the storage inside the cluster (services/proxy).",
            "Ask the cluster's administrator for the role packhorse-uploader in Packhorse's namespace.",
        )
    return CliError(f"{host} refuses the upload: {code or error.reason} (HTTP {error.status_code}).", _AGAIN)


def _without_query(error: Exception, query: str) -> str:
    """The error's text, without the signature."""
    return str(error).replace(query, "...")
