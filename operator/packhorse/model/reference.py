"""Parts that pools and tasks share."""

from typing import Annotated, ClassVar

from pydantic import Field

from packhorse.model.meta import Model, Rule
from packhorse.model.names import ID_PATTERN, NAMEABLE_ID, NAMEABLE_VERSION, VERSION_PATTERN

ApplicationId = Annotated[str, Field(max_length=64, pattern=ID_PATTERN)]
Version = Annotated[str, Field(max_length=64, pattern=VERSION_PATTERN)]

DURATION_PATTERN = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
Duration = Annotated[str, Field(min_length=2, max_length=32, pattern=DURATION_PATTERN)]
"""A time such as 90s, 1h30m or 7d."""

ID_GIVES_NAME = Rule(
    f"self.matches('^{NAMEABLE_ID}$') || !self.matches('{ID_PATTERN}')",
    "the application id gives no name that Kubernetes allows: let it begin and end with a letter or a digit",
    message_expression="'the application id \"' + self + '\" gives no name that Kubernetes allows:"
    " let it begin and end with a letter or a digit'"
    f" + (self.matches('[a-zA-Z0-9]') ? ', such as \"' + self.find('{NAMEABLE_ID}') + '\"' : '')",
)
"""For the id of an object whose name is made of it. What breaks the pattern is left to the pattern."""
VERSION_GIVES_NAME = Rule(
    f"self.matches('^{NAMEABLE_VERSION}$') || !self.matches('{VERSION_PATTERN}')",
    "the version gives no name that Kubernetes allows: let it, and each part of it between periods, begin and end with"
    " a letter or a digit",
    message_expression="'the version \"' + self + '\" gives no name that Kubernetes allows: let it, and each part of it"
    " between periods, begin and end with a letter or a digit' + (self.matches('[a-zA-Z0-9]') ? ', such as \"'"
    " + self.replace('-.', '.').replace('_.', '.').replace('.-', '.').replace('._', '.').replace('..', '.')"
    f".find('{NAMEABLE_VERSION}') + '\"' : '')",
)
"""The same for the version. A loop over its parts would cost more than the API server allows: what it proposes is
always legal, and whole where one character is wrong in a place.
"""


class ApplicationPackageReference(Model):
    """A package that a pool or a task needs."""

    application_id: ApplicationId
    """Id of an Application in this namespace; its case does not matter."""
    version: Version | None = None
    """A version of it; without one, the application's default version."""

    @property
    def text(self) -> str:
        """``id:version``, as Batch's errors write a reference (``None`` where there is no version)."""
        return f"{self.application_id}:{self.version}"


class EnvironmentSetting(Model):
    """A variable of the environment."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.name.startsWith('AZ_BATCH_')",
            "names that begin with AZ_BATCH_ are set by the service; choose another name",
            field_path=".name",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^=\x00]+$")]
    """Name of the variable: anything without '='."""
    value: Annotated[str, Field(max_length=32768)] = ""
    """Its value; empty where it is not given."""


References = Annotated[tuple[ApplicationPackageReference, ...], Field(max_length=100)]
"""At most what fits into a status; for pools an admission policy sets the limit, ten as in Batch by default."""
EnvironmentSettings = Annotated[
    tuple[EnvironmentSetting, ...],
    Field(max_length=128, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
]
