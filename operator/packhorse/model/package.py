"""ApplicationPackage: one version of an application (``.../applications/versions``)."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from packhorse.model.meta import AGE, IMMUTABLE, Column, Model, Resource, Rule, Status, checked
from packhorse.model.names import NAMEABLE_ID, NAMEABLE_VERSION
from packhorse.model.reference import ID_GIVES_NAME, VERSION_GIVES_NAME, ApplicationId, Version

Sha256 = Annotated[str, Field(max_length=64, pattern="^[0-9a-f]{64}$")]

UPLOAD_ANNOTATION = "packhorse.dev/upload"
"""``requested``: give out leave to write this package's blob; a time: the upload ended then, take what is there now."""
DOWNLOAD_ANNOTATION = "packhorse.dev/download"
"""``requested``: give out leave to read this package's blob, until the annotation is gone."""
VERIFY_ANNOTATION = "packhorse.dev/verify"
"""A time: read the blob again from end to end, though it seems to be the same."""
REQUESTED = "requested"

BLOB_FINALIZER = "packhorse.dev/blob"
"""Holds a deleted package until its blob is gone too."""


class PackageState(StrEnum):
    """State of a package, as Batch spells it; Failed is ours."""

    PENDING = "Pending"
    ACTIVE = "Active"
    FAILED = "Failed"


class ApplicationPackageSpec(Model):
    """Which version of which application, and where its ZIP file lies."""

    application_id: Annotated[ApplicationId, Field(json_schema_extra=checked(IMMUTABLE, ID_GIVES_NAME))]
    """Id of the application; its case does not matter. The first package of an unknown application creates it. It
    cannot be changed.
    """
    version: Annotated[Version, Field(json_schema_extra=checked(IMMUTABLE, VERSION_GIVES_NAME))]
    """Letters, digits, hyphens, underscores and periods, at most 64; unique in the application, whatever the case.
    It cannot be changed.
    """
    blob: Annotated[str, Field(min_length=1, max_length=900)] | None = None
    """Path of the ZIP file below this namespace's folder in the linked container. Default: <metadata.name>.zip."""
    sha256: Sha256 | None = None
    """SHA-256 of the ZIP file, 64 lower-case hexadecimal digits. A file with another digest never becomes active.
    Without it the digest found at activation is kept in status.
    """


class ApplicationPackageStatus(Status):
    """What the operator knows of the package. What was learned at the last activation stays, whatever the state."""

    default: ClassVar[dict[str, Any]] = {**Status.default, "state": "Pending"}

    state: PackageState | None = None
    """Pending: no file yet. Active: pools and tasks can use it. Failed: there is a file, and it cannot be used."""
    blob: str | None = None
    """Path of the ZIP file in the linked container, with this namespace's folder, as it was activated."""
    sha256: str | None = None
    """Digest of the content that was activated last. Nodes take no other, and other content counts only after it was
    announced: by spec.sha256, by spec.blob, or by an upload.
    """
    size: int | None = None
    """Length of the ZIP file in bytes."""
    etag: str | None = None
    """The storage account's mark of that content."""
    last_activation_time: str | None = None
    """When that content became usable."""
    last_verification_time: str | None = None
    """When the content was last read from end to end and found good."""
    files: int | None = None
    """How many files are in it."""
    unpacked_size: int | None = None
    """Length of all of them in bytes."""


class ApplicationPackage(Resource):
    """One version of an application: a ZIP file with its binaries and supporting files."""

    kind: ClassVar[str] = "ApplicationPackage"
    plural: ClassVar[str] = "applicationpackages"
    short_name: ClassVar[str] = "phpkg"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.spec.applicationId.matches('^{NAMEABLE_ID}$') || !self.spec.version.matches('^{NAMEABLE_VERSION}$')"
            " || self.metadata.name =="
            " (self.spec.applicationId + '.' + self.spec.version).lowerAscii().replace('_', '-')",
            "metadata.name must be <applicationId>.<version> in lower case, with '_' written '-'",
            message_expression="'metadata.name must be \"'"
            " + (self.spec.applicationId + '.' + self.spec.version).lowerAscii().replace('_', '-')"
            " + '\": <applicationId>.<version> in lower case, with _ written -'",
        ),
        Rule(
            "!has(self.spec.blob) || !(self.spec.blob.startsWith('/') || self.spec.blob.endsWith('/')"
            " || self.spec.blob.contains('\\\\') || self.spec.blob.split('/').exists(part, part in ['', '.', '..']))",
            "spec.blob must be a path such as tools/blender-2.7.zip: no leading or trailing '/', no '..', no backslash",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("Application", ".spec.applicationId"),
        Column("Version", ".spec.version"),
        Column("State", ".status.state"),
        Column("Size", ".status.size", "integer", "Bytes of the ZIP file"),
        Column("Digest", ".status.sha256", priority=1),
        Column("Reason", ".status.conditions[?(@.type=='Ready')].message", priority=1),
        AGE,
    )

    spec: ApplicationPackageSpec
    """Which version of which application, and where its ZIP file lies."""
    status: ApplicationPackageStatus = ApplicationPackageStatus()
    """What the operator knows of it."""

    @property
    def blob(self) -> str:
        """Path of its ZIP file in the linked container: every namespace has a folder of its own."""
        return f"{self.metadata.namespace}/{self.spec.blob or self.metadata.name + '.zip'}"

    @property
    def active(self) -> bool:
        """Whether pools and tasks can use it."""
        return self.status.state is PackageState.ACTIVE and self.metadata.deletion_timestamp is None

    @property
    def activated(self) -> bool:
        """Whether it was ever active: ``allowUpdates: false`` holds for such a package."""
        return self.status.last_activation_time is not None

    @property
    def upload_requested(self) -> bool:
        """Whether somebody asks for leave to upload its blob, and has not ended the upload."""
        return self.metadata.annotations.get(UPLOAD_ANNOTATION) == REQUESTED

    @property
    def upload_ended(self) -> bool:
        """Whether somebody says that a new file lies there now."""
        return self.metadata.annotations.get(UPLOAD_ANNOTATION, REQUESTED) != REQUESTED

    @property
    def download_requested(self) -> bool:
        """Whether somebody asks for leave to read its blob."""
        return self.metadata.annotations.get(DOWNLOAD_ANNOTATION) == REQUESTED

    @property
    def verification_requested(self) -> bool:
        """Whether somebody wants its content read again."""
        return VERIFY_ANNOTATION in self.metadata.annotations
