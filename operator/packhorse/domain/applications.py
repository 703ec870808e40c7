"""What an Application's status says."""

from collections.abc import Sequence

from packhorse.domain import azure
from packhorse.domain.conditions import READY, Observation, conditions
from packhorse.domain.wording import some
from packhorse.model import Application, ApplicationPackage, ApplicationStatus
from packhorse.model.application import ApplicationVersion
from packhorse.model.names import object_name

_LISTED = 1000
"""Versions in a status, as many as its schema takes."""
_NAMED = 10
"""Packages named in a message."""


def application_status(application: Application, packages: Sequence[ApplicationPackage], now: str) -> ApplicationStatus:
    """The status of an application with these packages (all of them its own)."""
    active = sorted((package for package in packages if package.active), key=lambda package: package.spec.version)
    versions = tuple(
        ApplicationVersion(
            version=package.spec.version,
            size=package.status.size or 0,
            last_activation_time=package.status.last_activation_time or now,
        )
        for package in active[:_LISTED]
    )
    deleted = application.metadata.deletion_timestamp is not None
    ready = _waiting(packages) if deleted else _ready(application, active)
    return ApplicationStatus(
        observed_generation=application.metadata.generation,
        id=application.id,
        packages=len(packages),
        versions=versions,
        conditions=conditions(
            application.status.conditions, [ready], generation=application.metadata.generation, now=now
        ),
    )


def _ready(application: Application, active: Sequence[ApplicationPackage]) -> Observation:
    default = application.spec.default_version
    if default is None or any(object_name(package.spec.version) == object_name(default) for package in active):
        return Observation(READY, True, "Usable", f"{len(active)} active version(s)")
    known = some([package.spec.version for package in active], _NAMED) or "none"
    return Observation(
        READY,
        False,
        azure.DEFAULT_VERSION_NOT_ACTIVE,
        f"the default version '{default}' is not active; active versions: {known}."
        " Upload it, or set spec.defaultVersion to an active version",
    )


def _waiting(packages: Sequence[ApplicationPackage]) -> Observation:
    names = some(sorted(package.metadata.name for package in packages), _NAMED)
    return Observation(
        READY,
        False,
        azure.PACKAGES_NOT_EMPTY,
        f"the application goes when its packages are gone: {names}."
        " Delete them with: kubectl delete applicationpackage NAME",
    )
