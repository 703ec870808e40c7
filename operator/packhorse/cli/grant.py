"""Leave to read or write one blob, as the operator hands it out in a Secret."""

import base64
import dataclasses
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from packhorse.archive import Limits
from packhorse.cli.cluster import PACKAGES, SECRETS, Cluster, Json
from packhorse.cli.errors import CliError
from packhorse.cli.parsing import parse
from packhorse.model import ApplicationPackage
from packhorse.model.package import DOWNLOAD_ANNOTATION, REQUESTED, UPLOAD_ANNOTATION

Purpose = Literal["upload", "download"]

ANNOTATIONS: dict[Purpose, str] = {"upload": UPLOAD_ANNOTATION, "download": DOWNLOAD_ANNOTATION}

_MARGIN = timedelta(minutes=30)  # a leave with less left is that of an earlier, interrupted transfer
_LAST = timedelta(minutes=2)  # nothing is begun with a leave that has less left
_REFUSED = {"ApplicationPackageQuotaReached", "UpdatesNotAllowed"}
_PAUSE = 0.2  # seconds between two looks
_PATIENCE = 60.0  # seconds; the operator answers within one, a restarting one within twenty


@dataclass(frozen=True)
class Grant:
    """Where to write, or what to read.

    Attributes:
        url: The blob's address with its signature: never to be printed.
        proxy_path: For storage inside the cluster: path at the API server that takes the place of scheme and host.
        limits: What a package may hold in this installation; None where the operator does not tell.
        package_size: Bytes that its ZIP file may have; 0 for no limit.
    """

    url: str
    proxy_path: str | None = None
    limits: Limits | None = None
    package_size: int = 0

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
        """Whether a transfer may begin with it."""
        return self.expires is None or self.expires - datetime.now(UTC) > _MARGIN

    @property
    def ending(self) -> bool:
        """Whether it is too old to begin even one more piece with it."""
        return self.expires is not None and self.expires - datetime.now(UTC) < _LAST


def request(cluster: Cluster, package: str, purpose: Purpose) -> None:
    """Ask the operator for leave; also where somebody did before, since the same words again would change nothing."""
    if ANNOTATIONS[purpose] in parse(ApplicationPackage, cluster.get(PACKAGES, package)).metadata.annotations:
        annotate(cluster, package, ANNOTATIONS[purpose], None)
    annotate(cluster, package, ANNOTATIONS[purpose], REQUESTED)


def annotate(cluster: Cluster, package: str, annotation: str, value: str | None) -> Json:
    """Set an annotation of a package, or remove it; the package as it is then."""
    return cluster.merge(PACKAGES, package, {"metadata": {"annotations": {annotation: value}}})


def await_grant(cluster: Cluster, package: str, purpose: Purpose) -> Grant:
    """Wait until the operator, which was asked, gives leave.

    Raises:
        CliError: No storage account is linked, or the operator does not answer.
    """
    name = f"{package}.{purpose}"
    deadline = time.monotonic() + _PATIENCE
    says = ""
    while time.monotonic() < deadline:
        if secret := cluster.find(SECRETS, name):
            grant = _read(secret["data"])
            if grant.fresh:
                return grant
        found = parse(ApplicationPackage, cluster.get(PACKAGES, package))
        says = _storage_problem(found)
        _refuse(found)
        if ANNOTATIONS[purpose] not in found.metadata.annotations:
            annotate(cluster, package, ANNOTATIONS[purpose], REQUESTED)  # somebody else has just ended a transfer
        time.sleep(_PAUSE)
    raise CliError(
        f"The operator gave no leave to {purpose} {package} within {_PATIENCE:.0f} s (Secret {name}). {says}".rstrip(),
        "Does it run? kubectl get pods -A -l app.kubernetes.io/name=packhorse",
    )


def _read(data: dict[str, str]) -> Grant:
    text = {key: base64.b64decode(value).decode() for key, value in data.items()}
    given = json.loads(text.get("limits") or "{}")
    return Grant(text["url"], text.get("proxyPath"), _limits(given), given.get("packageSize") or 0)


def _limits(given: dict[str, int]) -> Limits | None:
    """The limits that this program knows of; a newer operator may have more of them."""
    fields = {field.name for field in dataclasses.fields(Limits)}
    named = {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in given.items()}
    known = {name: value for name, value in named.items() if name in fields}
    return Limits(**known) if known else None


def _refuse(package: ApplicationPackage) -> None:
    """Raise where the operator has refused the package before it has a file."""
    ready = package.status.condition("Ready")
    if ready and ready.reason in _REFUSED and ready.observed_generation >= package.metadata.generation:
        raise CliError(ready.message or ready.reason)


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
