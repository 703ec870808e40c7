"""What becomes of an ApplicationPackage, given what was seen in the linked storage account."""

from dataclasses import dataclass

from packhorse.domain import azure
from packhorse.domain.conditions import READY, STORAGE_LINKED, Observation, conditions
from packhorse.model import ApplicationPackage, ApplicationPackageStatus, PackageState


@dataclass(frozen=True)
class NotLinked:
    """There is no storage account."""

    message: str


@dataclass(frozen=True)
class Unavailable:
    """The account does not answer, or refuses."""

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
class Content:
    """The blob was read from end to end, and can be used."""

    blob: Blob
    sha256: str
    files: int
    unpacked_size: int


@dataclass(frozen=True)
class Refused:
    """The blob was read, and is no package that a node may get."""

    blob: Blob
    message: str


_USABLE = "pools and tasks can use this version"

Seen = NotLinked | Unavailable | Missing | Blob | Content | Refused


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


def package_status(package: ApplicationPackage, seen: Seen, now: str) -> ApplicationPackageStatus:
    """The status of a package after this observation.

    A package that was verified once stays active while the account cannot be reached: nodes may have it, and what they
    fetch is pinned by digest anyway.
    """
    kept = package.status if package.status.state is PackageState.ACTIVE else ApplicationPackageStatus()
    gone = ApplicationPackageStatus(state=PackageState.PENDING)
    failed = ApplicationPackageStatus(state=PackageState.FAILED)
    match seen:
        case NotLinked(message):
            return _status(package, kept, "NoLinkedStorageAccount", message, now=now, linked=False)
        case Unavailable(reason, message):
            return _status(package, kept, reason, message, now=now, linked=None)
        case Missing():
            return _status(package, gone, azure.BLOB_NOT_FOUND, _missing(package), now=now)
        case Blob() if unchanged(package, seen):
            return _status(package, kept, "Activated", _USABLE, now=now)
        case Blob():
            return _status(package, kept, "Verifying", "the blob is being read and verified", now=now)
        case Refused(message=message):
            return _status(package, failed, "InvalidPackage", message, now=now)
        case Content(sha256=sha256) if package.spec.sha256 not in {None, sha256}:
            message = (
                f"the blob '{package.blob}' has the SHA-256 {sha256}, but spec.sha256 is {package.spec.sha256};"
                " upload the right file or correct spec.sha256"
            )
            return _status(package, failed, "DigestMismatch", message, now=now)
    return _active(package, seen, now)


def _missing(package: ApplicationPackage) -> str:
    return (
        f"the linked storage account has no blob '{package.blob}' yet; upload it with:"
        f" packhorse package upload {package.spec.application_id} {package.spec.version} FILE.zip"
    )


def _active(package: ApplicationPackage, content: Content, now: str) -> ApplicationPackageStatus:
    old = package.status
    same = old.state is PackageState.ACTIVE and old.sha256 == content.sha256 and old.etag == content.blob.etag
    status = ApplicationPackageStatus(
        sha256=content.sha256,
        size=content.blob.size,
        etag=content.blob.etag,
        last_activation_time=old.last_activation_time if same else now,
        files=content.files,
        unpacked_size=content.unpacked_size,
        state=PackageState.ACTIVE,
    )
    return _status(package, status, "Activated", _USABLE, now=now)


def _status(
    package: ApplicationPackage,
    base: ApplicationPackageStatus,
    reason: str,
    message: str,
    *,
    now: str,
    linked: bool | None = True,
) -> ApplicationPackageStatus:
    """``base`` with what is the same in every case; without a state it is Pending."""
    active = base.state is PackageState.ACTIVE
    storage = Observation(STORAGE_LINKED, linked, "Linked" if linked else reason, "" if linked else message)
    return base.model_copy(
        update={
            "observed_generation": package.metadata.generation,
            "state": base.state or PackageState.PENDING,
            "blob": package.blob,
            "conditions": conditions(
                package.status.conditions,
                [Observation(READY, active, reason, message), storage],
                generation=package.metadata.generation,
                now=now,
            ),
        }
    )
