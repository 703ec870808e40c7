"""The embedded storage account as its owner sees it: with the account key, past Packhorse."""

import base64
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient, ContainerClient
from requests.adapters import HTTPAdapter

from tests.cluster.cluster import Cluster
from tests.cluster.command import ClusterError

ACCOUNT_SECRET = "packhorse-azurite"
CONTAINER = "packhorse"


@contextmanager
def embedded_storage(cluster: Cluster, namespace: str, *, connections: int = 8) -> Iterator[ContainerClient]:
    """The container for packages in the embedded storage of the release in ``namespace``, by a forwarded port.

    Raises:
        ClusterError: The port cannot be forwarded.
    """
    secret = json.loads(cluster.run_kubectl("-n", namespace, "get", "secret", ACCOUNT_SECRET, "-o", "json"))["data"]
    data = {key: base64.b64decode(text).decode() for key, text in secret.items()}
    endpoint = re.search(r"BlobEndpoint=https://([^:/]+):(\d+)/([^;]+)", data["connectionString"])
    if endpoint is None:
        raise ClusterError(f"the Secret {ACCOUNT_SECRET} has a connection string of another form than expected")
    host, port, account = endpoint.groups()
    with _forwarded(cluster, namespace, host.partition(".")[0], port) as local, _trusting(data["ca.crt"]) as authority:
        service = BlobServiceClient(
            f"https://127.0.0.1:{local}/{account}",
            credential={"account_name": account, "account_key": data["AZURITE_ACCOUNTS"].partition(":")[2]},
            transport=RequestsTransport(session=_session(host, connections), connection_verify=authority),
        )
        with service:
            yield service.get_container_client(CONTAINER)


def _session(host: str, connections: int) -> requests.Session:
    """Connections that expect the certificate of the service, whatever the address."""

    class Adapter(HTTPAdapter):
        """Expects another name than that of the address."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, assert_hostname=host, server_hostname=host, **kwargs)

    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Adapter(pool_maxsize=connections))
    return session


@contextmanager
def _trusting(certificate: str) -> Iterator[str]:
    """Path of a file with this certificate."""
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(certificate)
        file.flush()
        yield file.name


@contextmanager
def _forwarded(cluster: Cluster, namespace: str, service: str, port: str) -> Iterator[int]:
    """A local port that leads to a service's."""
    command = [cluster.kubectl, "--kubeconfig", cluster.kubeconfig, "-n", namespace]
    process = subprocess.Popen(
        [*map(str, command), "port-forward", f"service/{service}", f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if found is None:
            process.kill()
            raise ClusterError(f"port {port} of service {service} cannot be forwarded: {process.communicate()[1]}")
        yield int(found[1])
    finally:
        process.kill()
        process.communicate()
