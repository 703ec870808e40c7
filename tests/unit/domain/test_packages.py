"""Every observation of a package's blob, by every state that the package was in before."""

from typing import Any

import pytest

from packhorse.domain.packages import (
    Blob,
    Content,
    Missing,
    NotLinked,
    Refused,
    Seen,
    Unavailable,
    package_status,
    unchanged,
)
from packhorse.model import ApplicationPackage, PackageState
from tests.unit.objects import LATER, NOW, digest, raw_package

SAME = Blob(etag="0x1", size=100)
OTHER = Blob(etag="0x2", size=200)
KNOWN, UNKNOWN = digest("blender.2.7"), digest("something else")
CONTENT = Content(SAME, KNOWN, files=3, unpacked_size=1000)

SEEN: dict[str, Seen] = {
    "no account": NotLinked("none is linked; link one"),
    "no answer": Unavailable("StorageUnreachable", "it does not answer"),
    "no blob": Missing(),
    "the same blob": SAME,
    "another blob": OTHER,
    "its content": CONTENT,
    "other content": Content(OTHER, UNKNOWN, files=4, unpacked_size=2000),
    "refused": Refused(OTHER, "it is no ZIP file"),
}

BEFORE: dict[str, dict[str, Any]] = {
    "new": {},
    "pending": {"observedGeneration": 1, "state": "Pending", "blob": "team/blender.2.7.zip"},
    "active": raw_package("blender", "2.7")["status"],
    "failed": {"observedGeneration": 1, "state": "Failed", "blob": "team/blender.2.7.zip"},
}

NOT_KNOWN = (None, None)
EARLIER = (KNOWN, "0x1")

After = tuple[str, tuple[str | None, str | None]]
Row = tuple[str, str, str, After, After]
# What was seen: reason and StorageLinked; state and (sha256, etag) after it for a package that was not active, and for
# one that was.
TABLE: list[
    tuple[str, str, str, tuple[str, tuple[str | None, str | None]], tuple[str, tuple[str | None, str | None]]]
] = [
    ("no account", "NoLinkedStorageAccount", "False", ("Pending", NOT_KNOWN), ("Active", EARLIER)),
    ("no answer", "StorageUnreachable", "Unknown", ("Pending", NOT_KNOWN), ("Active", EARLIER)),
    ("no blob", "ApplicationPackageBlobNotFound", "True", ("Pending", NOT_KNOWN), ("Pending", NOT_KNOWN)),
    ("another blob", "Verifying", "True", ("Pending", NOT_KNOWN), ("Active", EARLIER)),
    ("its content", "Activated", "True", ("Active", EARLIER), ("Active", EARLIER)),
    ("other content", "Activated", "True", ("Active", (UNKNOWN, "0x2")), ("Active", (UNKNOWN, "0x2"))),
    ("refused", "InvalidPackage", "True", ("Failed", NOT_KNOWN), ("Failed", NOT_KNOWN)),
]


def package(before: str, **spec: Any) -> ApplicationPackage:
    raw = raw_package("blender", "2.7")
    raw["status"] = BEFORE[before]
    raw["spec"] |= spec
    raw["metadata"]["generation"] = 5
    return ApplicationPackage.model_validate(raw)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_every_observation_in_every_state(before: str, row: Row) -> None:
    seen, reason, linked, not_active, was_active = row
    state, content = was_active if before == "active" else not_active
    status = package_status(package(before), SEEN[seen], NOW)
    ready, storage = status.condition("Ready"), status.condition("StorageLinked")
    assert ready is not None
    assert storage is not None
    assert (status.state, (status.sha256, status.etag)) == (state, content)
    assert (ready.status, ready.reason) == ("True" if state == "Active" else "False", reason)
    assert storage.status == linked
    assert (status.observed_generation, status.blob) == (5, "team/blender.2.7.zip")


@pytest.mark.parametrize("before", BEFORE)
def test_the_same_blob_is_read_only_where_it_was_not_verified_yet(before: str) -> None:
    status = package_status(package(before), SAME, NOW)
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.reason, status.state) == (("Activated", "Active") if before == "active" else ("Verifying", "Pending"))


@pytest.mark.parametrize(
    ("before", "blob", "spec", "same"),
    [
        ("active", SAME, {}, True),
        ("active", SAME, {"sha256": KNOWN}, True),
        ("active", SAME, {"sha256": UNKNOWN}, False),
        ("active", SAME, {"blob": "elsewhere.zip"}, False),
        ("active", Blob("0x1", 101), {}, False),
        ("active", Blob("0x2", 100), {}, False),
        ("pending", SAME, {}, False),
        ("failed", SAME, {}, False),
        ("new", SAME, {}, False),
    ],
)
def test_unchanged(before: str, blob: Blob, spec: dict[str, Any], same: bool) -> None:
    assert unchanged(package(before, **spec), blob) == same


@pytest.mark.parametrize("before", BEFORE)
def test_content_with_another_digest_than_declared_never_becomes_active(before: str) -> None:
    status = package_status(package(before, sha256=UNKNOWN), CONTENT, NOW)
    ready = status.condition("Ready")
    assert ready is not None
    assert (status.state, status.sha256, ready.reason) == (PackageState.FAILED, None, "DigestMismatch")
    for part in (KNOWN, UNKNOWN, "team/blender.2.7.zip"):
        assert part in ready.message


def test_content_with_the_declared_digest_becomes_active() -> None:
    status = package_status(package("pending", sha256=KNOWN), CONTENT, NOW)
    assert status.state is PackageState.ACTIVE
    assert (status.size, status.files, status.unpacked_size, status.last_activation_time) == (100, 3, 1000, NOW)


def test_the_time_of_activation_is_that_of_the_content() -> None:
    again = package_status(package("active"), CONTENT, LATER)
    assert again.last_activation_time == "2026-05-01T11:30:00.000000Z"
    updated = package_status(package("active"), SEEN["other content"], LATER)
    assert updated.last_activation_time == LATER


def test_a_missing_blob_is_told_with_the_command_that_uploads_it() -> None:
    ready = package_status(package("new"), Missing(), NOW).condition("Ready")
    assert ready is not None
    assert "packhorse package upload blender 2.7 FILE.zip" in ready.message


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("seen", SEEN)
def test_seeing_the_same_again_changes_nothing(before: str, seen: str) -> None:
    first = package_status(package(before), SEEN[seen], NOW)
    raw = raw_package("blender", "2.7")
    raw["metadata"]["generation"], raw["status"] = 5, first.dump()
    assert package_status(ApplicationPackage.model_validate(raw), SEEN[seen], LATER) == first
