"""Every observation of a package's blob, by every state that the package was in before."""

from typing import Any

import pytest

from packhorse.domain.packages import (
    Barred,
    Blob,
    Content,
    Missing,
    NotLinked,
    Reading,
    Refused,
    Seen,
    Unavailable,
    deletion_status,
    locked,
    over_quota,
    package_status,
    too_large,
    unchanged,
)
from packhorse.model import ApplicationPackage, PackageState
from tests.unit.objects import LATER, NOW, application, digest, raw_package

SAME = Blob(etag="0x1", size=100)
OTHER = Blob(etag="0x2", size=200)
KNOWN, UNKNOWN = digest("blender.2.7"), digest("something else")
CONTENT = Content(SAME, KNOWN, files=3, unpacked_size=1000, read_at=NOW)

SEEN: dict[str, Seen] = {
    "no account": NotLinked("none is linked; link one"),
    "no answer": Unavailable("StorageUnreachable", "it does not answer"),
    "a quota": Barred("ApplicationPackageQuotaReached", "there are too many"),
    "no blob": Missing(),
    "the same blob": SAME,
    "another blob": OTHER,
    "half of it": Reading(OTHER, 100),
    "its content": CONTENT,
    "other content": Content(OTHER, UNKNOWN, files=4, unpacked_size=2000, read_at=NOW),
    "refused": Refused(OTHER, "it is no ZIP file"),
    "too large": Refused(OTHER, "it is too large", "PackageTooLarge"),
}

BEFORE: dict[str, dict[str, Any]] = {
    "new": {},
    "pending": {"observedGeneration": 1, "state": "Pending", "blob": "team/blender.2.7.zip"},
    "active": raw_package("blender", "2.7")["status"],
    "failed": {"observedGeneration": 1, "state": "Failed", "blob": "team/blender.2.7.zip"},
}

NOTHING, EARLIER, LATER_ONE = (None, None), (KNOWN, "0x1"), (UNKNOWN, "0x2")
NEITHER = {"new": "Pending", "pending": "Pending", "active": "Active", "failed": "Failed"}
WAITING = {**NEITHER, "failed": "Pending"}


def all_of(state: str) -> dict[str, str]:
    return dict.fromkeys(BEFORE, state)


Row = tuple[str, str, str, dict[str, str]]
# What was seen: reason and StorageLinked; state after it, by the state before.
TABLE: list[Row] = [
    ("no account", "NoLinkedStorageAccount", "False", NEITHER),
    ("no answer", "StorageUnreachable", "Unknown", NEITHER),
    ("a quota", "ApplicationPackageQuotaReached", "True", all_of("Failed")),
    ("no blob", "ApplicationPackageBlobNotFound", "True", all_of("Pending")),
    ("another blob", "Verifying", "True", WAITING),
    ("half of it", "Verifying", "True", WAITING),
    ("its content", "Activated", "True", all_of("Active")),
    ("refused", "InvalidPackage", "True", all_of("Failed")),
    ("too large", "PackageTooLarge", "True", all_of("Failed")),
]


def package(before: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> ApplicationPackage:
    raw = raw_package("blender", "2.7")
    raw["status"] = BEFORE[before]
    raw["metadata"]["annotations"] = annotations or {}
    raw["spec"] |= spec
    raw["metadata"]["generation"] = 5
    return ApplicationPackage.model_validate(raw)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_every_observation_in_every_state(before: str, row: Row) -> None:
    seen, reason, linked, after = row
    status = package_status(package(before), SEEN[seen], NOW)
    ready, storage = status.condition("Ready"), status.condition("StorageLinked")
    assert ready is not None
    assert storage is not None
    assert status.state == after[before]
    assert (ready.status, ready.reason) == ("True" if status.state == "Active" else "False", reason)
    assert storage.status == linked
    assert (status.observed_generation, status.blob) == (5, "team/blender.2.7.zip")


@pytest.mark.parametrize("seen", SEEN)
def test_what_was_activated_last_stays_known_in_every_state(seen: str) -> None:
    status = package_status(package("active"), SEEN[seen], NOW)
    assert (status.sha256, status.etag) == EARLIER
    assert status.last_activation_time == "2026-05-01T11:30:00.000000Z"


@pytest.mark.parametrize("before", BEFORE)
def test_the_same_blob_is_read_only_where_it_was_not_verified_yet(before: str) -> None:
    status = package_status(package(before), SAME, NOW)
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.reason, status.state) == (("Activated", "Active") if before == "active" else ("Verifying", "Pending"))


def test_the_address_of_the_folder_is_told() -> None:
    storage = package_status(package("new"), SAME, NOW, folder="https://a.example/packhorse/team/").condition(
        "StorageLinked"
    )
    assert storage is not None
    assert (storage.status, storage.message) == ("True", "https://a.example/packhorse/team/")


ANNOUNCED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "by its digest": ({"sha256": UNKNOWN}, {}),
    "by another path": ({"blob": "elsewhere.zip"}, {}),
    "by an upload": ({}, {"packhorse.dev/upload": "2026-05-01T12:30:00Z"}),
}
NOT_ANNOUNCED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "by nothing": ({}, {}),
    "by an upload that is only asked for": ({}, {"packhorse.dev/upload": "requested"}),
}


@pytest.mark.parametrize("how", ANNOUNCED)
def test_other_content_that_was_announced_takes_the_place(how: str) -> None:
    spec, annotations = ANNOUNCED[how]
    given = package("active", annotations=annotations, **spec)
    status = package_status(given, SEEN["other content"], LATER)
    assert (status.state, status.last_activation_time, status.blob) == ("Active", LATER, given.blob)
    assert (status.sha256, status.etag) == LATER_ONE
    refused = package_status(given, SEEN["other content"], LATER, updates_allowed=False)
    ready = refused.condition("Ready")
    assert ready is not None
    assert (refused.state, refused.sha256, ready.reason) == ("Failed", KNOWN, "UpdatesNotAllowed")


@pytest.mark.parametrize("how", NOT_ANNOUNCED)
@pytest.mark.parametrize("updates_allowed", [True, False])
def test_other_content_without_a_word_is_not_taken(how: str, updates_allowed: bool) -> None:
    spec, annotations = NOT_ANNOUNCED[how]
    given = package("active", annotations=annotations, **spec)
    status = package_status(given, SEEN["other content"], LATER, updates_allowed=updates_allowed)
    ready = status.condition("Ready")
    assert ready is not None
    assert (status.state, status.sha256, ready.reason) == ("Failed", KNOWN, "BlobReplaced")
    assert UNKNOWN in ready.message
    back = given.model_copy(update={"status": status})
    assert package_status(back, CONTENT, LATER).state == "Active"


def test_the_first_content_needs_no_word_and_no_leave() -> None:
    assert package_status(package("pending"), CONTENT, NOW, updates_allowed=False).state == "Active"


def test_the_same_content_written_again_is_no_update() -> None:
    again = Content(Blob("0x9", 100), KNOWN, files=3, unpacked_size=1000)
    status = package_status(package("active"), again, LATER, updates_allowed=False)
    assert (status.state, status.etag, status.last_activation_time) == ("Active", "0x9", LATER)


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
    pinned = KNOWN if before == "active" else None
    assert (status.state, status.sha256, ready.reason) == (PackageState.FAILED, pinned, "DigestMismatch")
    for part in (KNOWN, UNKNOWN, "team/blender.2.7.zip"):
        assert part in ready.message


def test_content_with_the_declared_digest_becomes_active() -> None:
    status = package_status(package("pending", sha256=KNOWN), CONTENT, NOW)
    assert status.state is PackageState.ACTIVE
    assert (status.size, status.files, status.unpacked_size, status.last_activation_time) == (100, 3, 1000, NOW)


def test_the_time_of_activation_is_that_of_the_content() -> None:
    again = package_status(package("active"), CONTENT, LATER)
    assert again.last_activation_time == "2026-05-01T11:30:00.000000Z"


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


def test_a_blob_that_was_activated_and_vanished_is_told_as_such() -> None:
    ready = package_status(package("active"), Missing(), NOW).condition("Ready")
    assert ready is not None
    assert "no blob 'team/blender.2.7.zip' any more" in ready.message


def test_how_far_the_reading_is() -> None:
    half = Reading(Blob("0x2", 50_000_000_000), 12_500_000_000)
    ready = package_status(package("new"), half, NOW).condition("Ready")
    assert ready is not None
    assert ready.message.endswith("12.5 of 50.0 GB (25 %)")


def test_a_package_beyond_the_quota_is_refused_and_those_before_it_are_not() -> None:
    def make(version: str, *, active: bool, second: int) -> ApplicationPackage:
        raw = raw_package("blender", version)
        raw["metadata"]["creationTimestamp"] = f"2026-05-01T11:00:{second:02}Z"
        raw["status"] = raw["status"] if active else {}
        return ApplicationPackage.model_validate(raw)

    old, second, third, fourth = (
        make("4.0", active=True, second=9),
        make("3.0", active=False, second=1),
        make("2.0", active=False, second=1),
        make("1.0", active=False, second=2),
    )
    all_four = [old, second, third, fourth]
    barred = over_quota(fourth, all_four, 3)
    assert barred is not None
    assert barred.reason == "ApplicationPackageQuotaReached"
    assert "packagesPerApplication is 3" in barred.message
    assert [over_quota(each, all_four, 3) for each in all_four[:3]] == [None, None, None]
    assert [over_quota(each, all_four, 2) is None for each in all_four] == [True, False, True, False]
    assert over_quota(fourth, all_four, 4) is None
    assert over_quota(fourth, all_four, 0) is None


def test_a_file_beyond_the_quota_is_refused_unread() -> None:
    refused = too_large(package("new"), Blob("0x1", 101), 100)
    assert refused is not None
    assert refused.reason == "PackageTooLarge"
    assert "packageSize is 100" in refused.message
    assert too_large(package("new"), Blob("0x1", 100), 100) is None
    assert too_large(package("new"), Blob("0x1", 101), 0) is None


def test_which_packages_are_locked() -> None:
    allowed, forbidden = application("blender"), application("blender", allowUpdates=False)
    going = forbidden.model_copy(update={"metadata": forbidden.metadata.model_copy(update={"deletion_timestamp": NOW})})
    assert locked(package("active"), forbidden)
    for given, its_application in [
        (package("pending"), forbidden),
        (package("active"), allowed),
        (package("active"), going),
        (package("active"), None),
    ]:
        assert not locked(given, its_application)


def test_a_deletion_that_waits_for_the_account_says_so() -> None:
    status = deletion_status(package("active"), Unavailable("StorageUnreachable", "it does not answer"), NOW)
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.reason, status.sha256) == ("Deleting", KNOWN)
    assert "it does not answer" in ready.message
