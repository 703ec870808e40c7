"""A package's way out of the storage account: pieces in parallel, its digest compared, published by one rename."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from azure.core import MatchConditions
from azure.storage.blob import BlobClient

from packhorse.cli import names, output, parallel
from packhorse.cli.blob import CONNECTIONS, RANGE, open_blob
from packhorse.cli.cluster import Cluster
from packhorse.cli.connection import connect
from packhorse.cli.content import DIGITS, digest
from packhorse.cli.errors import INTERRUPTED, ApiError, CliError
from packhorse.cli.grant import Grant, annotate, await_grant, request
from packhorse.cli.options import Target
from packhorse.cli.output import say
from packhorse.cli.progress import meter
from packhorse.cli.whole import written_whole
from packhorse.model import ApplicationPackage
from packhorse.model.package import DOWNLOAD_ANNOTATION

_AGAIN = "Run the same command again."


@dataclass(frozen=True)
class _Piece:
    """A part of the blob: where it begins, and its length in bytes."""

    offset: int
    size: int


def download(target: Target, application: str, version: str, destination: Path | None) -> None:
    """Write a package's ZIP file here. It is there as a whole, with the right digest, or not at all.

    Args:
        target: Where the package is.
        application: Id of the application.
        version: The version.
        destination: A file, or a folder for a file of the package's own name; None for the present folder.

    Raises:
        CliError: It has no content, cannot be fetched or written, or is not what was activated.
    """
    name = names.package(application, version)
    file = destination or Path()
    if file.is_dir():
        file /= f"{name}.zip"
    with connect(target) as cluster:
        try:
            package = names.get_package(cluster, name)
            if not package.active:
                ready = package.status.condition("Ready")
                raise CliError(f"The package {name} is not active. {ready.message if ready else ''}".rstrip())
            with _leave(cluster, name) as grant:
                size = _fetch(cluster, grant, package, file)
        except KeyboardInterrupt:
            raise CliError(f"Interrupted: {file} was not written.", _AGAIN, exit_code=INTERRUPTED) from None
    print(f"{file} ({output.size(size)}, sha256 {(package.status.sha256 or '')[:DIGITS]})")


@contextlib.contextmanager
def _leave(cluster: Cluster, name: str) -> Iterator[Grant]:
    """Leave to read the blob, given back in the end, whatever happens."""
    try:
        request(cluster, name, "download")
        yield await_grant(cluster, name, "download")
    finally:
        _give_back(cluster, name)


def _give_back(cluster: Cluster, name: str) -> None:
    try:
        annotate(cluster, name, DOWNLOAD_ANNOTATION, None)
    except ApiError as error:
        if error.reason not in {"NotFound", "Forbidden"}:
            raise
    except CliError as error:
        say(f"The leave to read {name} was not given back, and ends by itself in some hours: {error.message}")


def _fetch(cluster: Cluster, grant: Grant, package: ApplicationPackage, file: Path) -> int:
    """Fetch the blob to the file; its length in bytes."""
    try:
        with written_whole(file) as (_, part):
            with open_blob(cluster, grant, "download", _AGAIN) as client:
                size = _receive(client, package, part)
            found = digest(part, file.name)
            if found != package.status.sha256:
                raise CliError(
                    f"The blob of {package.metadata.name} is not what was activated: it has sha256 {found}, the"
                    f" package has {package.status.sha256}.",
                    "Have the operator look: packhorse package verify"
                    f" {package.spec.application_id} {package.spec.version}",
                )
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror or error}.") from error
    return size


def _receive(client: BlobClient, package: ApplicationPackage, part: Path) -> int:
    properties = client.get_blob_properties()
    size = int(properties.size)
    pieces = [_Piece(offset, min(RANGE, size - offset)) for offset in range(0, size, RANGE)]

    def receive(piece: _Piece) -> None:
        stream = client.download_blob(
            piece.offset, piece.size, etag=properties.etag, match_condition=MatchConditions.IfNotModified
        )
        data = stream.readall()
        with part.open("r+b", buffering=0) as file:  # for each anew: a thread may outlive this transfer
            file.seek(piece.offset)
            file.write(data)

    done = 0
    with meter(f"Downloading {package.metadata.name}", size, "bytes") as advance:

        def count(piece: _Piece) -> None:
            nonlocal done
            done += piece.size
            advance(done)

        parallel.run(pieces, receive, count, CONNECTIONS)
    return size
