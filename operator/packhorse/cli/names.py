"""Ids and versions as people type them: checked, and compared as Batch compares them."""

import re

from packhorse.cli.cluster import APPLICATIONS, PACKAGES, Cluster
from packhorse.cli.errors import CliError, UsageError
from packhorse.cli.parsing import parse
from packhorse.model import Application, ApplicationPackage
from packhorse.model.names import InvalidNameError, application_name, check_id, check_version, package_name


def application(application_id: str) -> str:
    """The name of the Application with this id. Raises UsageError where it cannot be an id."""
    try:
        check_id(application_id)
    except InvalidNameError as error:
        raise UsageError(f"{error}.") from error
    return application_name(application_id)


def package(application_id: str, version: str) -> str:
    """The name of the ApplicationPackage of an application and a version. Raises UsageError where they cannot be."""
    application(application_id)
    try:
        check_version(version)
    except InvalidNameError as error:
        raise UsageError(f"{error}.") from error
    return package_name(application_id, version)


def find_application(cluster: Cluster, name: str) -> Application | None:
    """The Application of that name, None where there is none."""
    item = cluster.find(APPLICATIONS, name)
    return parse(Application, item) if item else None


def find_package(cluster: Cluster, name: str) -> ApplicationPackage | None:
    """The ApplicationPackage of that name, None where there is none."""
    item = cluster.find(PACKAGES, name)
    return parse(ApplicationPackage, item) if item else None


def get_package(cluster: Cluster, name: str) -> ApplicationPackage:
    """The ApplicationPackage of that name. Raises ApiError where there is none."""
    return parse(ApplicationPackage, cluster.get(PACKAGES, name))


def packages_of(cluster: Cluster, name: str) -> list[ApplicationPackage]:
    """All packages of the Application of that name, in the order of their versions."""
    packages = [parse(ApplicationPackage, item) for item in cluster.objects(PACKAGES)]
    own = [each for each in packages if application_name(each.spec.application_id) == name]
    return sorted(own, key=lambda each: order(each.spec.version))


def order(version: str) -> list[tuple[bool, int, str]]:
    """A key to sort versions by, so that ``10`` comes after ``9``."""
    parts = re.findall(r"\d+|\D+", version.lower())
    return [(part.isdigit(), int(part), "") if part.isdigit() else (False, 0, part) for part in parts]


def refuse_locked(owner: Application | None, found: ApplicationPackage | None, what: str) -> None:
    """Refuse a change of a package that its Application's ``allowUpdates: false`` locks, as the API server would.

    Args:
        owner: The Application.
        found: The package.
        what: What shall not be done: ``updated`` or ``deleted``.

    Raises:
        CliError: It is locked.
    """
    if owner is None or found is None or owner.spec.allow_updates or not found.activated:
        return
    raise CliError(
        f"The package {found.metadata.name} cannot be {what}: application {owner.id} has allowUpdates: false.",
        ("Add a new version, or allow it" if what == "updated" else "Allow it")
        + f", if you may: packhorse app update {owner.id} --allow-updates=true",
    )
