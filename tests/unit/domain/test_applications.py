"""The status of an Application."""

import pytest

from packhorse.domain.applications import application_status
from packhorse.model import Application, ApplicationPackage
from tests.unit.objects import LATER, NOW, application, package, raw_application

PACKAGES = [
    package("blender", "3.0"),
    package("blender", "2.7", size=7),
    package("blender", "4.0-Beta", state="Pending", sha256=None, size=None),
]


def test_active_versions_in_order() -> None:
    status = application_status(application("Blender"), PACKAGES, NOW)
    assert (status.id, status.packages) == ("Blender", 3)
    assert [(version.version, version.size) for version in status.versions] == [("2.7", 7), ("3.0", 100)]
    assert {version.last_activation_time for version in status.versions} == {"2026-05-01T11:30:00.000000Z"}
    assert status.observed_generation == 1


@pytest.mark.parametrize(
    ("default", "packages", "ready", "reason", "said"),
    [
        (None, PACKAGES, "True", "Usable", "2 active version(s)"),
        (None, [], "True", "Usable", "0 active version(s)"),
        ("2.7", PACKAGES, "True", "Usable", "2 active version(s)"),
        ("4.0-beta", PACKAGES, "False", "RequestedDefaultVersionNotActive", "active versions: 2.7, 3.0"),
        ("9", [], "False", "RequestedDefaultVersionNotActive", "'9' is not active; active versions: none"),
    ],
)
def test_ready(default: str | None, packages: list[ApplicationPackage], ready: str, reason: str, said: str) -> None:
    condition = application_status(application("blender", default), packages, NOW).condition("Ready")
    assert condition is not None
    assert (condition.status, condition.reason) == (ready, reason)
    assert said in condition.message


@pytest.mark.parametrize("default", ["2.7-rc_1", "2.7-RC_1", "2.7_rc_1", "2.7-RC-1"])
def test_a_default_version_that_names_the_same_package_is_that_version(default: str) -> None:
    condition = application_status(application("a", default), [package("a", "2.7-rc_1")], NOW).condition("Ready")
    assert condition is not None
    assert condition.status == "True"


def test_the_time_of_a_condition_changes_with_its_status_only() -> None:
    raw = raw_application("blender", "3.0")
    first = application_status(Application.model_validate(raw), PACKAGES, NOW)
    raw["status"] = first.dump()
    again = application_status(Application.model_validate(raw), PACKAGES, LATER)
    assert again == first
    raw["spec"]["defaultVersion"] = "9"
    broken = application_status(Application.model_validate(raw), PACKAGES, LATER).condition("Ready")
    assert broken is not None
    assert broken.last_transition_time == LATER


def test_a_deleted_application_names_the_packages_that_hold_it() -> None:
    raw = raw_application("blender", "2.7")
    raw["metadata"]["deletionTimestamp"] = NOW
    deleted = Application.model_validate(raw)
    condition = application_status(deleted, PACKAGES, NOW).condition("Ready")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "ApplicationPackagesNotEmpty")
    assert "blender.2.7, blender.3.0, blender.4.0-beta." in condition.message
    many = [package("blender", str(number)) for number in range(10, 40)]
    condition = application_status(deleted, many, NOW).condition("Ready")
    assert condition is not None
    assert "blender.19 and 20 more." in condition.message
