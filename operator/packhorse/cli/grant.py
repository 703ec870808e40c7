"""Leave to write one blob, as the operator hands it out in a Secret."""

import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from packhorse.cli.cluster import PACKAGES, SECRETS, Cluster
from packhorse.cli.errors import CliError
from packhorse.cli.parsing import parse
from packhorse.model import ApplicationPackage

_MARGIN = timedelta(minutes=30)  # a leave with less left is that of an earlier, interrupted upload
_PAUSE = 0.2  # seconds between two looks
_PATIENCE = 60.0  # seconds; the operator answers within one, a restarting one within twenty


@dataclass(frozen=True)
class Grant:
    """Where to write.

    Attributes:
        url: The blob's address with its signature: never to be printed.
        proxy_path: For storage inside the cluster: path at the API server that takes the place of scheme and host.
    """

    url: str
    proxy_path: str | None = None

    def __repr__(self) -> str:
        """Without the signature."""
        return f"Grant(url={self.url.partition('?')[0]!r}, proxy_path={self.proxy_path!r})"

    @property
    def expires(self) -> datetime | None:
        """Until when it is good, if the address tells."""
        found = parse_qs(urlsplit(self.url).query).get("se")
        if not found:
            return None
        time_ = datetime.fromisoformat(found[0])
        return time_ if time_.tzinfo else time_.replace(tzinfo=UTC)

    @property
    def fresh(self) -> bool:
        """Whether an upload may begin with it."""
        return self.expires is None or self.expires - datetime.now(UTC) > _MARGIN


def await_grant(cluster: Cluster, package: str) -> Grant:
    """Wait until the operator gives leave to write a package's blob.

    Raises:
        CliError: No storage account is linked, or the operator does not answer.
    """
    name = f"{package}.upload"
    deadline = time.monotonic() + _PATIENCE
    says = ""
    while time.monotonic() < deadline:
        if secret := cluster.find(SECRETS, name):
            grant = _read(secret["data"])
            if grant.fresh:
                return grant
        says = _storage_problem(parse(ApplicationPackage, cluster.get(PACKAGES, package)))
        time.sleep(_PAUSE)
    raise CliError(
        f"The operator gave no leave to upload {package} within {_PATIENCE:.0f} s (Secret {name}). {says}".rstrip(),
        "Does it run? kubectl get pods -A -l app.kubernetes.io/name=packhorse",
    )


def _read(data: dict[str, str]) -> Grant:
    proxy_path = data.get("proxyPath")
    return Grant(base64.b64decode(data["url"]).decode(), base64.b64decode(proxy_path).decode() if proxy_path else None)


def _storage_problem(package: ApplicationPackage) -> str:
    """Why the storage account does not answer, if it is known; raise where there is none at all."""
    linked = package.status.condition("StorageLinked")
    if linked is None or linked.status == "True" or linked.observed_generation < package.metadata.generation:
        return ""
    if linked.status == "False":
        raise CliError(
            f"No storage for packages: {linked.message or linked.reason}",
            "Link a storage account in the chart (storage.existingSecret), or enable its Azurite (azurite.enabled).",
        )
    return linked.message
