"""Telling the operator that a blob is there, and waiting until it has judged it."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from packhorse.cli.cluster import PACKAGES, Cluster
from packhorse.cli.errors import CliError
from packhorse.cli.grant import annotate
from packhorse.cli.output import say
from packhorse.cli.parsing import parse
from packhorse.domain import azure
from packhorse.model import ApplicationPackage, PackageState

_OFTEN = 5.0  # seconds between two lines about the same step
_DONE, _READING = "Activated", "Verifying"  # reasons of the condition Ready


def now() -> str:
    """The time as annotations have it: RFC 3339, and different at every call."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def told(cluster: Cluster, name: str, annotation: str, limit: float | None) -> Iterator[ApplicationPackage]:
    """Set an annotation to the present time, and follow the package until the time is up.

    Args:
        cluster: Where it is.
        name: Name of the package.
        annotation: What the operator looks for.
        limit: Seconds, None for no limit.

    Yields:
        The package each time that it changed afterwards.

    Raises:
        CliError: It was deleted.
    """
    deadline = None if limit is None else time.monotonic() + limit
    version = str(annotate(cluster, name, annotation, now())["metadata"]["resourceVersion"])
    teller = _Teller(name)
    with contextlib.closing(cluster.follow(PACKAGES, name=name, deadline=deadline)) as changes:
        for change in changes:
            if name not in change.objects:
                raise CliError(f"The package {name} was deleted meanwhile.")
            package = parse(ApplicationPackage, change.objects[name])
            if package.metadata.resource_version == version:
                continue  # as we left it: what it says is older than our words
            teller.tell(package)
            yield package


def activate(
    cluster: Cluster, name: str, annotation: str, limit: float | None, sha256: str | None
) -> ApplicationPackage:
    """Say that the blob is there now, and wait until the package is active.

    Args:
        cluster: Where it is.
        name: Name of the package.
        annotation: That of uploads.
        limit: Seconds to wait, None for no limit.
        sha256: The digest that is to become active, None for any.

    Raises:
        CliError: It cannot be used, or the time is up.
    """
    what = f"The package {name}" + (" was uploaded, and" if sha256 else "")
    says = ""
    for package in told(cluster, name, annotation, limit):
        ready = package.status.condition("Ready")
        answered = annotation not in package.metadata.annotations and not (ready and ready.reason == _READING)
        if package.active and (package.status.sha256 == sha256 or (sha256 is None and answered)):
            return package
        says = f" {ready.message}" if ready and ready.message else ""
        if package.status.state is PackageState.FAILED:
            raise CliError(f"{what} cannot be used.{says}")
        if sha256 is None and ready and ready.reason == azure.BLOB_NOT_FOUND:
            raise CliError(f"The package {name} has no file yet.{says}")
    raise CliError(
        f"{what} has not become active in time.{says}",
        f"Look again later: kubectl get applicationpackage {name} -o wide",
    )


class _Teller:
    """Says what the operator does, where that takes a while."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reason = ""
        self._at = time.monotonic()

    def tell(self, package: ApplicationPackage) -> None:
        """Say what the package says of itself, unless that was just said."""
        ready = package.status.condition("Ready")
        if ready is None or ready.reason == _DONE or package.status.state is PackageState.FAILED:
            return
        late = time.monotonic() - self._at >= _OFTEN
        if (ready.reason != self._reason and self._reason) or late:
            say(f"{self._name}: {ready.message or ready.reason}")
            self._at = time.monotonic()
        self._reason = ready.reason
