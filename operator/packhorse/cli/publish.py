"""Making a ZIP file a version of an application: judged here, uploaded, awaited until it is active."""

import contextlib
import time

from packhorse.archive import Limits
from packhorse.cli import applications, deletion, duration, names, output
from packhorse.cli.activation import activate
from packhorse.cli.cluster import APPLICATIONS, PACKAGES, Cluster, Json
from packhorse.cli.connection import connect
from packhorse.cli.content import DIGITS, Content, judge_by
from packhorse.cli.errors import INTERRUPTED, ApiError, CliError
from packhorse.cli.grant import Grant, annotate, await_grant, request
from packhorse.cli.options import Manifest, Target
from packhorse.cli.upload import AGAIN, GrantEndedError, upload
from packhorse.model import Application, ApplicationPackage, PackageState
from packhorse.model.meta import API_VERSION
from packhorse.model.names import application_name, object_name
from packhorse.model.package import REQUESTED, UPLOAD_ANNOTATION

_PATIENCE = 30.0  # seconds until a package that was created in vain has to be gone
_LISTING = 10.0  # seconds until an application lists a version that is active
_TRIES = 5


class Publication:
    """One ZIP file on its way to be one version of an application.

    Args:
        application: Id of the application.
        version: The version.
        content: The ZIP file.
        set_default: Make it the application's default version in the end.
    """

    def __init__(self, application: str, version: str, content: Content, *, set_default: bool) -> None:
        self._application = application
        self._version = version
        self._content = content
        self._set_default = set_default
        self._name = names.package(application, version)

    @property
    def manifest(self) -> Json:
        """The ApplicationPackage."""
        return {
            "apiVersion": API_VERSION,
            "kind": "ApplicationPackage",
            "metadata": {"name": self._name},
            "spec": {"applicationId": self._application, "version": self._version, "sha256": self._content.sha256},
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
            f"Nothing was uploaded. Put the ZIP file into the linked container as <namespace>/{self._name}.zip, or run"
            " this command without -o."
        )

    def run(self, target: Target, timeout: str, *, replace: bool, force_conflicts: bool) -> None:
        """Upload, and wait until the package is active; nothing is sent where it is already.

        Raises:
            CliError: Something refuses it, the time is up, or the user interrupted.
        """
        limit = duration.seconds(timeout)
        with connect(target) as cluster:
            try:
                self._run(cluster, limit, replace=replace, force=force_conflicts)
            except KeyboardInterrupt:
                raise CliError(
                    f"Interrupted: the upload of {self._name} is not complete, and nothing half of it can be used.",
                    AGAIN,
                    exit_code=INTERRUPTED,
                ) from None

    def _run(self, cluster: Cluster, limit: float | None, *, replace: bool, force: bool) -> None:
        application = names.find_application(cluster, application_name(self._application))
        earlier = names.find_package(cluster, self._name)
        if earlier:
            self._adopt_spelling(earlier)
        if earlier and self._is_active(earlier):
            print(f"applicationpackage/{self._name} unchanged (this very content is active)")
        else:
            self._check(application, earlier, replace=replace)
            self._send(cluster, application, earlier, force=force)
            activate(cluster, self._name, UPLOAD_ANNOTATION, limit, self._content.sha256)
            self._await_listing(cluster)
            print(f"applicationpackage/{self._name} active ({self._content})")
        if self._set_default:
            applications.change(
                cluster,
                application_name(self._application),
                {"defaultVersion": self._version},
                f"default version {self._version}",
            )

    def _await_listing(self, cluster: Cluster) -> None:
        """Wait until the application lists the version, so that whatever is asked next shows it; not for long."""
        name = application_name(self._application)
        deadline = time.monotonic() + _LISTING
        with contextlib.closing(cluster.follow(APPLICATIONS, name=name, deadline=deadline)) as changes:
            for change in changes:
                listed = change.objects.get(name, {}).get("status", {}).get("versions", ())
                if any(object_name(each["version"]) == object_name(self._version) for each in listed):
                    return

    def _adopt_spelling(self, earlier: ApplicationPackage) -> None:
        """Write id and version as they were written first: they cannot be changed, and their case does not matter."""
        spec = earlier.spec
        if (spec.application_id.lower(), spec.version.lower()) != (self._application.lower(), self._version.lower()):
            raise CliError(
                f"The name {self._name} is taken by version {spec.version} of application {spec.application_id}:"
                " '_' and '-' are the same in names.",
                "Choose another version, or write it as it is there.",
            )
        self._application, self._version = spec.application_id, spec.version

    def _is_active(self, earlier: ApplicationPackage) -> bool:
        sha256 = self._content.sha256
        return earlier.active and earlier.status.sha256 == sha256 and earlier.spec.sha256 in {None, sha256}

    def _check(self, application: Application | None, earlier: ApplicationPackage | None, *, replace: bool) -> None:
        """Refuse, before anything is sent, what would be refused later. Raises CliError."""
        if application and application.metadata.deletion_timestamp:
            raise CliError(f"The application {application.id} is being deleted.", "Wait until it is gone.")
        if earlier is None:
            return
        if earlier.metadata.deletion_timestamp:
            raise CliError(f"The package {self._name} is being deleted.", "Wait until it is gone, then upload it.")
        names.refuse_locked(application, earlier, "updated")
        if earlier.active and earlier.status.sha256 != self._content.sha256 and not replace:
            raise CliError(
                f"The package {self._name} is active with other content: it has sha256"
                f" {(earlier.status.sha256 or '')[:DIGITS]}, {self._content.path.name} has"
                f" {self._content.sha256[:DIGITS]}.",
                "Upload it as another version, or replace it by --replace.",
            )

    def _send(
        self, cluster: Cluster, application: Application | None, earlier: ApplicationPackage | None, *, force: bool
    ) -> None:
        """Get leave to write the blob, write it, and declare its digest."""
        if earlier is None:
            self._create(cluster, force=force)
        else:
            # The digest is declared only when the content is there: until then the version stays what it is. Whether
            # it can be declared at all is asked now.
            cluster.apply(PACKAGES, self.manifest, force=force, dry_run=True)
            request(cluster, self._name, "upload")
        try:
            grant = await_grant(cluster, self._name, "upload")
            self._check_limits(grant)
        except CliError as error:
            self._undo(cluster, application, earlier, error)
            raise
        self._upload(cluster, grant, afresh=earlier is not None and earlier.status.state is PackageState.FAILED)
        if earlier is not None:
            cluster.apply(PACKAGES, self.manifest, force=force)

    def _create(self, cluster: Cluster, *, force: bool) -> None:
        manifest = self.manifest
        manifest["metadata"]["annotations"] = {UPLOAD_ANNOTATION: REQUESTED}
        cluster.apply(PACKAGES, manifest, force=force)

    def _upload(self, cluster: Cluster, grant: Grant, *, afresh: bool) -> None:
        while True:
            try:
                upload(cluster, grant, self._content, afresh=afresh)
            except GrantEndedError:
                request(cluster, self._name, "upload")
                grant = await_grant(cluster, self._name, "upload")
                afresh = False  # what was sent until now is good
            else:
                return

    def _check_limits(self, grant: Grant) -> None:
        size, most = self._content.size, grant.package_size
        if most and size > most:
            raise CliError(
                f"{self._content.path} is {output.size(size)} ({size} bytes) long. This installation's quota"
                f" packageSize allows {output.size(most)} ({most} bytes).",
                "Pack less, or have the quota raised in the chart: quotas.packageSize.",
            )
        if grant.limits is not None and grant.limits != Limits():
            judge_by(self._content, grant.limits)

    def _undo(
        self, cluster: Cluster, application: Application | None, earlier: ApplicationPackage | None, cause: CliError
    ) -> None:
        """Remove what this command created, and nothing else; where even that fails, say so beside the cause."""
        try:
            if earlier is not None:
                annotate(cluster, self._name, UPLOAD_ANNOTATION, None)
                return
            deletion.delete_packages(cluster, [self._name], deadline=time.monotonic() + _PATIENCE)
            if application is None:
                self._remove_application(cluster)
        except CliError as error:
            left = f"The package {self._name} was created and is still there: {error.message}"
            cause.hint = f"{cause.hint} {left}".lstrip()

    def _remove_application(self, cluster: Cluster) -> None:
        """Remove the Application that the operator made for our package, unless it has got another one meanwhile."""
        name = application_name(self._application)
        for _ in range(_TRIES):
            made = cluster.find(APPLICATIONS, name)
            if made is None or names.packages_of(cluster, name):
                return
            try:
                cluster.delete(APPLICATIONS, name, resource_version=made["metadata"]["resourceVersion"])
            except ApiError as error:
                if error.reason == "NotFound":
                    return
                if error.reason != "Conflict":  # the operator has just written its status: look again
                    raise
            else:
                return
