"""Parts that pools and tasks share."""

from typing import Annotated, ClassVar

from pydantic import Field

from packhorse.model.meta import Model, Rule
from packhorse.model.names import ID_PATTERN, VERSION_PATTERN

ApplicationId = Annotated[str, Field(max_length=64, pattern=ID_PATTERN)]
Version = Annotated[str, Field(max_length=64, pattern=VERSION_PATTERN)]


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
