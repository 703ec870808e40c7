"""Whether a package is what it was when it was activated: in the storage account, or as a file here."""

from pathlib import Path

from packhorse.cli import duration, names
from packhorse.cli.activation import told
from packhorse.cli.cluster import Cluster
from packhorse.cli.connection import connect
from packhorse.cli.content import digest
from packhorse.cli.errors import CliError
from packhorse.cli.options import Target
from packhorse.cli.packages import summary
from packhorse.cli.packing import packed
from packhorse.domain import azure
from packhorse.model import ApplicationPackage, PackageState
from packhorse.model.package import VERIFY_ANNOTATION


def verify(target: Target, application: str, version: str, path: Path | None, timeout: str) -> None:
    """Verify a package, or compare it with a file or a folder.

    Raises:
        CliError: It is not good, or not the same, or not known to be within the timeout.
    """
    limit = duration.seconds(timeout)
    name = names.package(application, version)
    with connect(target) as cluster:
        package = names.get_package(cluster, name)
        if path is not None:
            _compare(package, path)
        else:
            print(f"applicationpackage/{name} verified ({summary(_verify(cluster, package, limit))})")


def _compare(package: ApplicationPackage, path: Path) -> None:
    """Compare digests; nothing is fetched. A folder is packed as an upload would pack it."""
    known = package.status.sha256 or package.spec.sha256
    if known is None:
        raise CliError(
            f"The package {package.metadata.name} has no content yet, and declares no digest.", "Nothing to compare."
        )
    try:
        with packed(path) as file:
            here = digest(file)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}.") from error
    if here != known:
        raise CliError(
            f"{path} is not the content of {package.metadata.name}: it has sha256 {here}, the package has {known}."
        )
    print(f"{path} is the content of applicationpackage/{package.metadata.name} (sha256 {here})")


def _verify(cluster: Cluster, package: ApplicationPackage, limit: float | None) -> ApplicationPackage:
    """Have the operator read the blob again from end to end; the package as it is afterwards."""
    name, before = package.metadata.name, package.status.last_verification_time
    if not package.active:
        raise CliError(f"The package {name} is not active.{_says(package)}")
    last = package
    for last in told(cluster, name, VERIFY_ANNOTATION, limit):
        ready = last.status.condition("Ready")
        if last.status.state is PackageState.FAILED or (ready and ready.reason == azure.BLOB_NOT_FOUND):
            raise CliError(f"The package {name} is no longer good.{_says(last)}")
        if VERIFY_ANNOTATION not in last.metadata.annotations:
            if last.active and last.status.last_verification_time not in {None, before}:
                return last
            raise CliError(f"The package {name} could not be verified.{_says(last)}")
    raise CliError(
        f"The package {name} was not verified in time.{_says(last)}",
        f"It goes on: see lastVerificationTime in kubectl get applicationpackage {name} -o yaml",
    )


def _says(package: ApplicationPackage) -> str:
    ready = package.status.condition("Ready")
    return f" {ready.message}" if ready and ready.message else ""
