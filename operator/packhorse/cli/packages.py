"""Uploading a package: judged here, written to the storage account, awaited until it is active."""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

from packhorse.archive import ArchiveError, inspect
from packhorse.cli import duration, output
from packhorse.cli.cluster import APPLICATIONS, PACKAGES, Cluster, Json
from packhorse.cli.connection import connect
from packhorse.cli.errors import INTERRUPTED, CliError, UsageError
from packhorse.cli.grant import await_grant
from packhorse.cli.options import Manifest, Target
from packhorse.cli.parsing import parse
from packhorse.cli.progress import meter
from packhorse.cli.upload import digest, upload
from packhorse.model import ApplicationPackage, PackageState
from packhorse.model.meta import API_VERSION
from packhorse.model.names import InvalidNameError, application_name, check_id, check_version, package_name
from packhorse.model.package import UPLOAD_ANNOTATION


class Upload:
    """One ZIP file on its way to be one version of an application.

    Attributes:
        name: Name of the ApplicationPackage.
        sha256: Digest of the ZIP file.
    """

    def __init__(self, application: str, version: str, file: Path, *, set_default: bool) -> None:
        """Judge the names and the ZIP file, as the API server, the operator and the nodes will; nothing is sent.

        Raises:
            CliError: One of them is bad; the message says how.
        """
        try:
            check_id(application)
            check_version(version)
        except InvalidNameError as error:
            raise UsageError(f"{error}.") from error
        self._application = application
        self._version = version
        self._file = file
        self._set_default = set_default
        self.name = package_name(application, version)
        try:
            with file.open("rb") as stream:
                found = inspect(stream)
            self._size = file.stat().st_size
            with meter(f"Reading {file.name}", self._size, "bytes", quiet=True) as advance:
                self.sha256 = digest(file, advance)
        except ArchiveError as error:
            raise CliError(f"{file} cannot be a package. {error}") from error
        except OSError as error:
            raise CliError(f"{file} cannot be read: {error.strerror or error}.") from error
        self._summary = f"{output.size(self._size)}, {output.plural(found.files, 'file')}, sha256 {self.sha256[:12]}"

    @property
    def manifest(self) -> Json:
        """The ApplicationPackage."""
        return {
            "apiVersion": API_VERSION,
            "kind": "ApplicationPackage",
            "metadata": {"name": self.name},
            "spec": {"applicationId": self._application, "version": self._version, "sha256": self.sha256},
        }

    def print_manifests(self, form: Manifest) -> None:
        """Print what belongs into a Git repository; say where the ZIP file belongs."""
        manifests = [self.manifest]
        if self._set_default:
            application: Json = {
                "apiVersion": API_VERSION,
                "kind": "Application",
                "metadata": {"name": application_name(self._application)},
                "spec": {"id": self._application, "defaultVersion": self._version},
            }
            manifests.insert(0, application)
        if form is Manifest.YAML:
            print("\n---\n".join(output.dump(each, form) for each in manifests))
        else:
            whole = manifests[0] if len(manifests) == 1 else {"apiVersion": "v1", "kind": "List", "items": manifests}
            print(output.dump(whole, form))
        output.say(
            f"Nothing was uploaded. Put the ZIP file into the linked container as <namespace>/{self.name}.zip, or run"
            " this command without -o."
        )

    def run(self, target: Target, timeout: str, *, force_conflicts: bool) -> None:
        """Upload, and wait until the package is active; nothing is sent where it is already.

        Raises:
            CliError: Something refuses it, the time is up, or the user interrupted.
        """
        limit = duration.seconds(timeout)
        with connect(target) as cluster:
            try:
                self._run(cluster, limit, force=force_conflicts)
            except KeyboardInterrupt:
                raise CliError(
                    f"Interrupted: the upload of {self.name} is not complete, and nothing half of it can be used.",
                    "Run the same command again: it starts over.",
                    exit_code=INTERRUPTED,
                ) from None

    def _run(self, cluster: Cluster, limit: float | None, *, force: bool) -> None:
        earlier = cluster.find(PACKAGES, self.name)
        if earlier and self._is_active(earlier):
            print(f"applicationpackage/{self.name} unchanged (this very content is active)")
        else:
            told = self._send(cluster, earlier, force=force)
            self._await_activation(cluster, told, limit)
            print(f"applicationpackage/{self.name} active ({self._summary})")
        if self._set_default:
            self._make_default(cluster)

    def _is_active(self, item: Json) -> bool:
        package = parse(ApplicationPackage, item)
        return package.active and package.status.sha256 == self.sha256 and package.spec.sha256 in {None, self.sha256}

    def _send(self, cluster: Cluster, earlier: Json | None, *, force: bool) -> str:
        """Create or change the package, get leave to write its blob, write it, and tell; the version that tells it."""
        if earlier and UPLOAD_ANNOTATION in earlier["metadata"].get("annotations", {}):
            # Left by an interrupted upload: asking in the same words would change nothing, so nobody would answer.
            self._annotate(cluster, None)
        requested = self.manifest
        requested["metadata"]["annotations"] = {UPLOAD_ANNOTATION: "requested"}
        cluster.apply(PACKAGES, requested, force=force)
        grant = await_grant(cluster, self.name)
        with meter(f"Uploading {self._file.name}", self._size, "bytes") as advance:
            upload(cluster, grant, self._file, advance)
        told = self._annotate(cluster, datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"))
        return str(told["metadata"]["resourceVersion"])

    def _annotate(self, cluster: Cluster, value: str | None) -> Json:
        return cluster.merge(PACKAGES, self.name, {"metadata": {"annotations": {UPLOAD_ANNOTATION: value}}})

    def _await_activation(self, cluster: Cluster, told: str, limit: float | None) -> None:
        """Wait until the operator, which was told in resourceVersion ``told``, has judged the blob."""
        deadline = None if limit is None else time.monotonic() + limit
        says = ""
        with contextlib.closing(cluster.follow(PACKAGES, name=self.name, deadline=deadline)) as changes:
            for change in changes:
                if self.name not in change.objects:
                    raise CliError(f"The package {self.name} was deleted while it was uploaded.")
                package = parse(ApplicationPackage, change.objects[self.name])
                if package.active and package.status.sha256 == self.sha256:
                    return
                ready = package.status.condition("Ready")
                says = f" {ready.message}" if ready and ready.message else ""
                judged = package.metadata.resource_version != told  # else the status is that of an earlier upload
                if judged and package.status.state is PackageState.FAILED:
                    raise CliError(f"The package {self.name} was uploaded, and cannot be used.{says}")
        raise CliError(
            f"The package {self.name} was uploaded, and has not become active in time.{says}",
            f"Look again later: kubectl get applicationpackage {self.name} -o wide",
        )

    def _make_default(self, cluster: Cluster) -> None:
        name = application_name(self._application)
        before = cluster.get(APPLICATIONS, name)
        if before.get("spec", {}).get("defaultVersion") == self._version:
            print(f"application/{name} unchanged (default version {self._version})")
            return
        # A merge patch, not an apply: it is a person's order now, as `kubectl patch` is, not a standing manifest.
        cluster.merge(APPLICATIONS, name, {"spec": {"defaultVersion": self._version}})
        print(f"application/{name} default version {self._version}")
