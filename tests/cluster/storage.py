"""The embedded storage account as its owner sees it: with the account key, past Packhorse."""

import base64
import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient, ContainerClient, ExponentialRetry
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
            retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=6),
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
    """A local port that leads to a service's. ``kubectl`` ends with a connection that breaks: it is started again."""
    closed = threading.Event()
    process, local = _forward(cluster, namespace, service, f":{port}")

    def keep() -> None:
        nonlocal process
        while not closed.is_set():
            process.wait()
            if not closed.is_set():
                process, _ = _forward(cluster, namespace, service, f"{local}:{port}")

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield local
    finally:
        closed.set()
        process.kill()
        keeper.join()


def _forward(cluster: Cluster, namespace: str, service: str, ports: str) -> tuple[subprocess.Popen[str], int]:
    """A process that forwards a port, once it does, and the local port."""
    command = [cluster.kubectl, "--kubeconfig", cluster.kubeconfig, "-n", namespace]
    process = subprocess.Popen(
        [*map(str, command), "port-forward", f"service/{service}", ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    line = process.stdout.readline() if process.stdout else ""
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        process.kill()
        raise ClusterError(f"the ports {ports} of service {service} cannot be forwarded: {line}")
    threading.Thread(target=process.communicate, daemon=True).start()  # what it says must not fill the pipe
    return process, int(found[1])
