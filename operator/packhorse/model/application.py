"""Application: a set of versioned packages (``Microsoft.Batch/batchAccounts/applications``)."""

from typing import Annotated, ClassVar

from pydantic import Field

from packhorse.model.meta import AGE, Column, Model, Resource, Rule, Status, checked
from packhorse.model.names import NAMEABLE_ID
from packhorse.model.reference import ID_GIVES_NAME, ApplicationId, Version

PACKAGES_FINALIZER = "packhorse.dev/packages"
"""Holds a deleted Application until its packages are gone."""


class ApplicationSpec(Model):
    """What the application is."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(oldSelf.id) || (has(self.id) && self.id == oldSelf.id)",
            "id cannot be changed; create another Application",
            field_path=".id",
        ),
    )

    id: Annotated[ApplicationId, Field(json_schema_extra=checked(ID_GIVES_NAME))] | None = None
    """The id that pools and tasks refer to: letters, digits, hyphens and underscores, at most 64. Its case is kept
    and does not matter. Default: metadata.name. It cannot be changed.
    """
    display_name: Annotated[str, Field(max_length=1024)] | None = None
    """A name for people."""
    default_version: Version | None = None
    """The version that a reference without a version means. It should be the version of an active
    ApplicationPackage.
    """
    allow_updates: bool = True
    """Whether packages of this application may be replaced or deleted. If false, new versions can still be added."""


class ApplicationVersion(Model):
    """A version that pools and tasks can use now."""

    version: str
    """As its package spells it."""
    size: int
    """Length of its ZIP file in bytes."""
    last_activation_time: str
    """When its content last became usable."""


class ApplicationStatus(Status):
    """What the operator knows of the application."""

    id: str | None = None
    """The id, also where it is the default."""
    packages: int = 0
    """How many packages it has, active or not."""
    versions: Annotated[tuple[ApplicationVersion, ...], Field(max_length=1000)] = ()
    """Its active versions, at most 1000 of them."""


class Application(Resource):
    """An application: a set of versioned packages that pools and tasks refer to by its id."""

    kind: ClassVar[str] = "Application"
    plural: ClassVar[str] = "applications"
    short_name: ClassVar[str] = "phapp"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.spec.id) || !self.spec.id.matches('^{NAMEABLE_ID}$')"
            " || self.metadata.name == self.spec.id.lowerAscii().replace('_', '-')",
            "metadata.name must be spec.id in lower case, with '_' written '-'",
            message_expression="'metadata.name must be \"' + self.spec.id.lowerAscii().replace('_', '-')"
            " + '\" for the id \"' + self.spec.id + '\": the id in lower case, with _ written -'",
        ),
        Rule(
            "self.metadata.name.size() <= 64 && !self.metadata.name.contains('.')",
            "metadata.name is the application's id in lower case: letters, digits and hyphens, at most 64, no periods",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("Id", ".status.id"),
        Column("Display Name", ".spec.displayName", priority=1),
        Column("Packages", ".status.packages", "integer"),
        Column("Default", ".spec.defaultVersion", description="The default version"),
        Column("Updates", ".spec.allowUpdates", "boolean", "Whether packages may be replaced or deleted"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        AGE,
    )

    spec: ApplicationSpec = ApplicationSpec()
    """What the application is."""
    status: ApplicationStatus = ApplicationStatus()
    """What the operator knows of it."""

    @property
    def id(self) -> str:
        """The id that pools and tasks refer to."""
        return self.spec.id or self.metadata.name
