"""The node service as a node sees it."""

import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import certifi
import msgspec
import urllib3

from packhorse.node.download import DownloadError
from packhorse.protocol import DOWNLOADS_PATH, PACKAGES_PATH, Download, Package, PoolPackages, Problem

T = TypeVar("T")

TOKEN = Path("/var/run/secrets/packhorse/token")
AUTHORITY = Path("/etc/packhorse/node-service/ca.crt")


class ServiceError(Exception):
    """The node service refused, or did not answer.

    Attributes:
        problem: What it said, None where it did not answer.
        busy: Asking again may help: it did not answer, or what it needs is away for now.
    """

    def __init__(self, message: str, problem: Problem | None = None, *, busy: bool = True) -> None:
        super().__init__(message)
        self.problem = problem
        self.busy = busy


class LeaveRefusedError(DownloadError):
    """The node service gives no leave to fetch a package.

    Attributes:
        busy: Asking again may help.
    """

    def __init__(self, problem: Problem, *, busy: bool = False) -> None:
        super().__init__(problem.cause)
        self.code = problem.code
        self.busy = busy


@dataclass(frozen=True)
class Address:
    """The node service, and how to show who we are.

    Attributes:
        host: ``host:port``.
        token: File with this pod's token; the kubelet renews it.
    """

    host: str
    token: Path = TOKEN

    def headers(self) -> dict[str, str]:
        """The headers that a request needs now."""
        return {"Authorization": f"Bearer {self.token.read_text().strip()}"}


def trust(authority: Path = AUTHORITY) -> ssl.SSLContext:
    """Trust the operator's authority besides the public ones, in this whole process.

    The embedded storage shows a certificate of the operator's, an Azure account one of a public authority.
    """
    bundle = Path(certifi.where()).read_text() + authority.read_text()
    with tempfile.NamedTemporaryFile("w", prefix="packhorse-ca-", suffix=".pem", delete=False) as file:
        file.write(bundle)
    os.environ["SSL_CERT_FILE"] = file.name
    return ssl.create_default_context(cafile=file.name)


class NodeServiceClient:
    """Plain requests to the node service; they block. For the WebSocket see the agent."""

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        self._address = address
        timeout = urllib3.Timeout(connect=5.0, read=20.0)
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def packages(self) -> PoolPackages:
        """What this node has to install. Raises ServiceError."""
        return self._request("GET", PACKAGES_PATH, None, PoolPackages)

    def download(self, package: Package) -> Download:
        """Leave to fetch a package. Raises DownloadError, so that the installation tells of it."""
        try:
            return self._request("POST", DOWNLOADS_PATH, msgspec.json.encode(package), Download)
        except ServiceError as error:
            problem = error.problem or Problem("NodeServiceUnavailable", str(error))
            raise LeaveRefusedError(problem, busy=error.busy) from error

    def _request(self, method: str, path: str, body: bytes | None, answer: type[T]) -> T:
        try:
            response = self._pool.request(
                method, f"https://{self._address.host}{path}", body=body, headers=self._address.headers()
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServiceError(f"the node service {self._address.host} does not answer: {error}") from error
        try:
            if response.status == 200:
                return msgspec.json.decode(response.data, type=answer)
            problem = msgspec.json.decode(response.data, type=Problem)
        except msgspec.DecodeError as error:
            raise ServiceError(f"the node service answered {response.status} and something unreadable") from error
        busy = response.status in {401, 503}
        raise ServiceError(f"the node service answered {response.status}: {problem.cause}", problem, busy=busy)
