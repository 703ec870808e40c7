"""What an Application's status says."""

from collections.abc import Sequence

from packhorse.domain import azure
from packhorse.domain.conditions import READY, Observation, conditions
from packhorse.model import Application, ApplicationPackage, ApplicationStatus
from packhorse.model.application import ApplicationVersion


def application_status(application: Application, packages: Sequence[ApplicationPackage], now: str) -> ApplicationStatus:
    """The status of an application with these packages (all of them its own)."""
    active = sorted((package for package in packages if package.active), key=lambda package: package.spec.version)
    versions = tuple(
        ApplicationVersion(
            version=package.spec.version,
            size=package.status.size or 0,
            last_activation_time=package.status.last_activation_time or now,
        )
        for package in active
    )
    return ApplicationStatus(
        observed_generation=application.metadata.generation,
        id=application.id,
        packages=len(packages),
        versions=versions,
        conditions=conditions(
            application.status.conditions,
            [_ready(application, active)],
            generation=application.metadata.generation,
            now=now,
        ),
    )


def _ready(application: Application, active: Sequence[ApplicationPackage]) -> Observation:
    default = application.spec.default_version
    if default is None or any(package.spec.version.lower() == default.lower() for package in active):
        return Observation(READY, True, "Usable", f"{len(active)} active version(s)")
    known = ", ".join(package.spec.version for package in active) or "none"
    return Observation(
        READY,
        False,
        azure.DEFAULT_VERSION_NOT_ACTIVE,
        f"the default version '{default}' is not active; active versions: {known}."
        " Upload it, or set spec.defaultVersion to an active version",
    )
