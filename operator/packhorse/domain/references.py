"""From references to content: which version, which digest, or why not."""

from collections.abc import Iterable, Mapping, Sequence

from packhorse.domain.conditions import READY
from packhorse.model import Application, ApplicationPackage, ApplicationPackageReference
from packhorse.model.names import application_name, package_name
from packhorse.protocol import Package, VisiblePackage


class UnresolvedReferenceError(ValueError):
    """A reference that names nothing usable.

    Attributes:
        reference: ``id:version``, as Batch writes it.
        cause: Why, and what to do, for a person.
    """

    def __init__(self, reference: str, cause: str) -> None:
        super().__init__(f"{reference}: {cause}")
        self.reference = reference
        self.cause = cause


class Catalog:
    """The applications and packages of one namespace, by the names of their objects.

    It looks things up in what it is given, and copies nothing: one is made for every task.
    """

    def __init__(self, applications: Mapping[str, Application], packages: Mapping[str, ApplicationPackage]) -> None:
        self._applications = applications
        self._packages = packages

    def defaults(self, visible: Iterable[VisiblePackage]) -> dict[str, str]:
        """Default version by application id, both in lower case, of the applications that these packages are of."""
        ids = {item.package.application_id.lower() for item in visible}
        found = {application_id: self._applications.get(application_name(application_id)) for application_id in ids}
        return {
            application_id: application.spec.default_version.lower()
            for application_id, application in found.items()
            if application is not None and application.spec.default_version
        }

    def resolve(self, reference: ApplicationPackageReference) -> VisiblePackage:
        """The active package that a reference means.

        Raises:
            UnresolvedReferenceError: No such application or version, it is not active, or there is no default version.
        """
        application = self._applications.get(application_name(reference.application_id))
        if application is None:
            raise UnresolvedReferenceError(
                reference.text,
                f"there is no application '{reference.application_id}' in this namespace;"
                " upload its first package or correct applicationId",
            )
        version = reference.version or application.spec.default_version
        if version is None:
            raise UnresolvedReferenceError(
                reference.text,
                f"the reference has no version and application '{application.id}' has no default version;"
                f" {self._known(application)}; name a version or set spec.defaultVersion of the application",
            )
        package = self._packages.get(package_name(reference.application_id, version))
        if package is None:
            raise UnresolvedReferenceError(
                reference.text, f"application '{application.id}' has no version '{version}'; {self._known(application)}"
            )
        status = package.status
        if not package.active or status.sha256 is None or status.size is None:
            ready = status.condition(READY)
            why = f": {ready.message}" if ready is not None and ready.message else ""
            raise UnresolvedReferenceError(
                reference.text,
                f"version '{version}' of application '{application.id}' is not active"
                f" (it is {status.state or 'Pending'}{why}); see ApplicationPackage {package.metadata.name}",
            )
        return VisiblePackage(
            Package(application.id, package.spec.version, status.sha256, status.size),
            by_default=reference.version is None,
        )

    def resolve_all(self, references: Sequence[ApplicationPackageReference]) -> tuple[VisiblePackage, ...]:
        """Each of them, in order; the first that cannot be resolved raises UnresolvedReferenceError."""
        return tuple(self.resolve(reference) for reference in references)

    def find(self, package: Package) -> ApplicationPackage | None:
        """The active package that still has exactly this content, or None."""
        found = self._packages.get(package_name(package.application_id, package.version))
        return found if found is not None and found.active and found.status.sha256 == package.sha256 else None

    def _known(self, application: Application) -> str:
        versions = sorted(
            package.spec.version
            for package in self._packages.values()
            if application_name(package.spec.application_id) == application.metadata.name and package.active
        )
        return f"it has {', '.join(versions)}" if versions else "it has no active version yet"
