"""What becomes of an ApplicationPackage, given what was seen in the linked storage account.

Content is pinned when it is activated. Other content at the same path counts only where updates are allowed and it was
announced, so that nobody who can write to the account changes what nodes run without a word in Kubernetes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packhorse.domain import azure
from packhorse.domain.conditions import READY, STORAGE_LINKED, Observation, conditions
from packhorse.model import Application, ApplicationPackage, ApplicationPackageStatus, PackageState


@dataclass(frozen=True)
class NotLinked:
    """There is no storage account."""

    message: str


@dataclass(frozen=True)
class Unavailable:
    """The account does not answer, or refuses.

    Attributes:
        retry_after: Seconds until it makes sense to ask again.
    """

    reason: str
    message: str
    retry_after: float = 0.0


@dataclass(frozen=True)
class Barred:
    """A quota is reached: the account was not even asked."""

    reason: str
    message: str


@dataclass(frozen=True)
class Missing:
    """The account has no such blob."""


@dataclass(frozen=True)
class Blob:
    """The blob is there; its content is known only by its mark."""

    etag: str
    size: int


@dataclass(frozen=True)
class Reading:
    """The blob is being read.

    Attributes:
        done: Bytes so far.
    """

    blob: Blob
    done: int


@dataclass(frozen=True)
class Content:
    """The blob was read from end to end, and can be used.

    Attributes:
        read_at: When, RFC 3339.
    """

    blob: Blob
    sha256: str
    files: int
    unpacked_size: int
    read_at: str = ""


@dataclass(frozen=True)
class Refused:
    """The blob is no package that a node may get."""

    blob: Blob
    message: str
    reason: str = "InvalidPackage"


Seen = NotLinked | Unavailable | Barred | Missing | Blob | Reading | Content | Refused

VERIFYING = "Verifying"
BLOB_REPLACED = "BlobReplaced"
UPDATES_NOT_ALLOWED = "UpdatesNotAllowed"
TOO_LARGE = "PackageTooLarge"
QUOTA_REACHED = "ApplicationPackageQuotaReached"
DELETING = "Deleting"

_USABLE = "pools and tasks can use this version"


def unchanged(package: ApplicationPackage, blob: Blob) -> bool:
    """Whether an active package's blob is still the one that was verified, and the one that is asked for."""
    status = package.status
    return (
        status.state is PackageState.ACTIVE
        and status.etag == blob.etag
        and status.size == blob.size
        and status.blob == package.blob
        and package.spec.sha256 in {None, status.sha256}
    )


def over_quota(package: ApplicationPackage, siblings: Sequence[ApplicationPackage], quota: int) -> Barred | None:
    """Whether an application has too many packages for this one; those that came first keep their place.

    Args:
        package: One that was never active.
        siblings: All packages of its application.
        quota: The largest number of them, 0 for no limit.
    """
    if not quota or package.activated or len(siblings) <= quota:
        return None
    if sum(_came_before(other, package) for other in siblings) < quota:
        return None
    return Barred(
        QUOTA_REACHED,
        f"application '{package.spec.application_id}' has {len(siblings)} packages, and the quota"
        f" packagesPerApplication is {quota}; delete versions that are not needed, or have the quota raised"
        " (chart: quotas.packagesPerApplication)",
    )


def _came_before(other: ApplicationPackage, package: ApplicationPackage) -> bool:
    if other.activated:
        return True
    first, second = other.metadata, package.metadata
    return (first.creation_timestamp, first.name) < (second.creation_timestamp, second.name)


def too_large(package: ApplicationPackage, blob: Blob, quota: int) -> Refused | None:
    """Whether a package's ZIP file is larger than the quota in bytes (0 for no limit)."""
    if not quota or blob.size <= quota:
        return None
    return Refused(
        blob,
        f"the blob '{package.blob}' is {blob.size} bytes long, and the quota packageSize is {quota}; pack less, or have"
        " the quota raised (chart: quotas.packageSize)",
        TOO_LARGE,
    )


def package_status(
    package: ApplicationPackage, seen: Seen, now: str, *, folder: str = "", updates_allowed: bool = True
) -> ApplicationPackageStatus:
    """The status of a package after this observation.

    A package that was verified once stays active while the account cannot be reached: nodes may have it, and what they
    fetch is pinned by digest anyway.

    Args:
        package: The package.
        seen: What the account shows of its blob.
        now: RFC 3339.
        folder: Address of the namespace's folder in the account.
        updates_allowed: What its Application says.
    """
    write = _Writer(package, folder, now)
    match seen:
        case NotLinked(message):
            return write.status(None, "NoLinkedStorageAccount", message, linked=False)
        case Unavailable(reason, message):
            return write.status(None, reason, message, linked=None)
        case Barred(reason=reason, message=message) | Refused(reason=reason, message=message):
            return write.status(PackageState.FAILED, reason, message)
        case Missing():
            return write.status(PackageState.PENDING, azure.BLOB_NOT_FOUND, _missing(package))
        case Blob() if unchanged(package, seen):
            return write.status(None, "Activated", _USABLE)
        case Blob():
            return write.reading("the blob is being read and verified")
        case Reading(blob, done):
            return write.reading(_progress(blob, done))
        case Content():
            return _judged(package, seen, write, updates_allowed=updates_allowed)


def _judged(
    package: ApplicationPackage, content: Content, write: "_Writer", *, updates_allowed: bool
) -> ApplicationPackageStatus:
    """The status of a package whose blob is fit to be a package: is it the one that it should be?"""
    wanted, pinned = package.spec.sha256, package.status.sha256
    failed = PackageState.FAILED
    if wanted not in {None, content.sha256}:
        return write.status(
            failed,
            "DigestMismatch",
            f"the blob '{package.blob}' has the SHA-256 {content.sha256}, but spec.sha256 is {wanted};"
            " upload the right file or correct spec.sha256",
        )
    if package.activated and content.sha256 != pinned:
        if not _announced(package, content):
            return write.status(
                failed,
                BLOB_REPLACED,
                f"the blob '{package.blob}' was replaced without a word: its SHA-256 is {content.sha256}, that of the"
                f" active content was {pinned}; put the old file back, or take the new one by: packhorse package"
                f" activate {package.spec.application_id} {package.spec.version}",
            )
        if not updates_allowed:
            return write.status(
                failed,
                UPDATES_NOT_ALLOWED,
                f"application '{package.spec.application_id}' does not allow updates, and the blob '{package.blob}' has"
                f" other content than the {pinned} that was active; put the old file back, upload the new one as a new"
                " version, or set spec.allowUpdates of the application",
            )
    return write.activated(content)


def _announced(package: ApplicationPackage, content: Content) -> bool:
    """Whether somebody said in Kubernetes that the content would change."""
    return package.spec.sha256 == content.sha256 or package.blob != package.status.blob or package.upload_ended


def _missing(package: ApplicationPackage) -> str:
    what = "no blob '{}' any more" if package.activated else "no blob '{}' yet"
    return (
        f"the linked storage account has {what.format(package.blob)}; upload it with:"
        f" packhorse package upload {package.spec.application_id} {package.spec.version} FILE.zip"
    )


def _progress(blob: Blob, done: int) -> str:
    percent = 100 * done // blob.size if blob.size else 100
    return f"the blob is being read and verified: {done / 1e9:.1f} of {blob.size / 1e9:.1f} GB ({percent} %)"


@dataclass(frozen=True)
class _Writer:
    """Puts a status together: what was learned at the last activation stays in it."""

    package: ApplicationPackage
    folder: str
    now: str

    def reading(self, message: str) -> ApplicationPackageStatus:
        """Of a package whose blob is being read: one that is active stays it until other content was found."""
        active = self.package.status.state is PackageState.ACTIVE
        return self.status(PackageState.ACTIVE if active else PackageState.PENDING, VERIFYING, message)

    def activated(self, content: Content) -> ApplicationPackageStatus:
        """Of a package with this content."""
        old = self.package.status
        same = old.state is PackageState.ACTIVE and old.sha256 == content.sha256 and old.etag == content.blob.etag
        known: dict[str, str | int | None] = {
            "sha256": content.sha256,
            "size": content.blob.size,
            "etag": content.blob.etag,
            "blob": self.package.blob,
            "last_activation_time": old.last_activation_time if same else self.now,
            "last_verification_time": content.read_at or self.now,
            "files": content.files,
            "unpacked_size": content.unpacked_size,
        }
        return self.status(PackageState.ACTIVE, "Activated", _USABLE, known=known)

    def status(
        self,
        state: PackageState | None,
        reason: str,
        message: str,
        *,
        linked: bool | None = True,
        known: Mapping[str, str | int | None] | None = None,
    ) -> ApplicationPackageStatus:
        """Of a package in this state; None: in the state that it was in."""
        package = self.package
        state = state or package.status.state or PackageState.PENDING
        path = package.status.blob if package.activated else package.blob
        ready = Observation(READY, state is PackageState.ACTIVE, reason, message)
        storage = Observation(
            STORAGE_LINKED, linked, "Linked" if linked else reason, self.folder if linked else message
        )
        return package.status.model_copy(
            update={
                "observed_generation": package.metadata.generation,
                "state": state,
                "blob": path,
                "conditions": conditions(
                    package.status.conditions, [ready, storage], generation=package.metadata.generation, now=self.now
                ),
                **(known or {}),
            }
        )


def deletion_status(package: ApplicationPackage, trouble: Unavailable, now: str) -> ApplicationPackageStatus:
    """The status of a package that is deleted, and whose blob could not be removed yet."""
    message = f"the blob '{package.blob}' is still to be removed: {trouble.message}"
    return _Writer(package, "", now).status(PackageState.PENDING, DELETING, message, linked=None)


def locked(package: ApplicationPackage, application: Application | None) -> bool:
    """Whether the application's ``allowUpdates: false`` holds for this package.

    It does for what was ever active. An application that is being deleted lets its packages go.
    """
    if application is None or application.metadata.deletion_timestamp is not None:
        return False
    return package.activated and not application.spec.allow_updates
