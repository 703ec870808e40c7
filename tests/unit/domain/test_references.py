"""What a reference means, and what is said where it means nothing."""

import pytest

from packhorse.domain.references import UnresolvedReferenceError
from packhorse.model import ApplicationPackage, ApplicationPackageReference
from packhorse.protocol import Package
from tests.unit.objects import NOW, application, catalog, deployed, digest, package, raw_package

CATALOG = catalog(
    [application("Blender", default="2.7-RC"), application("ffmpeg"), application("empty")],
    [
        package("Blender", "2.7-RC"),
        package("blender", "3.0"),
        package("blender", "4.0", state="Pending", sha256=None, size=None),
        package("blender", "5.0", state="Failed"),
        package("ffmpeg", "7.1"),
    ],
)


def reference(application_id: str, version: str | None = None) -> ApplicationPackageReference:
    return ApplicationPackageReference(application_id=application_id, version=version)


@pytest.mark.parametrize(
    ("application_id", "version", "found", "by_default"),
    [
        ("blender", "3.0", "Blender:3.0", False),
        ("BLENDER", "2.7-rc", "Blender:2.7-RC", False),
        ("blender", None, "Blender:2.7-RC", True),
        ("ffmpeg", "7.1", "ffmpeg:7.1", False),
        ("FFmpeg", "7.1", "ffmpeg:7.1", False),
    ],
)
def test_found_without_regard_to_case(application_id: str, version: str | None, found: str, by_default: bool) -> None:
    visible = CATALOG.resolve(reference(application_id, version))
    assert visible.package.reference == found
    assert visible.by_default == by_default
    assert visible.package.sha256 == digest(found.lower().replace(":", "."))


@pytest.mark.parametrize(
    ("application_id", "version", "told", "causes"),
    [
        ("maya", "1", "maya:1", ["no application 'maya' in this namespace"]),
        ("ffmpeg", None, "ffmpeg:None", ["has no version", "application 'ffmpeg' has no default version"]),
        ("blender", "9", "blender:9", ["'Blender' has no version '9'", "it has 2.7-RC, 3.0"]),
        ("empty", "1", "empty:1", ["'empty' has no version '1'", "no active version yet"]),
        ("blender", "4.0", "blender:4.0", ["version '4.0'", "not active", "it is Pending", "blender.4.0"]),
        ("blender", "5.0", "blender:5.0", ["not active", "it is Failed"]),
    ],
)
def test_not_found(application_id: str, version: str | None, told: str, causes: list[str]) -> None:
    with pytest.raises(UnresolvedReferenceError) as caught:
        CATALOG.resolve(reference(application_id, version))
    assert caught.value.reference == told
    for cause in causes:
        assert cause in caught.value.cause


def test_a_package_that_is_being_deleted_is_not_found() -> None:
    raw = raw_package("blender", "2.7")
    raw["metadata"]["deletionTimestamp"] = NOW
    found = catalog([application("blender")], [ApplicationPackage.model_validate(raw)])
    with pytest.raises(UnresolvedReferenceError, match="not active"):
        found.resolve(reference("blender", "2.7"))


def test_an_application_without_an_id_goes_by_its_name() -> None:
    unnamed = application("tool").model_copy(update={"spec": application("tool").spec.model_copy(update={"id": None})})
    assert catalog([unnamed], [package("tool", "1")]).resolve(reference("Tool", "1")).package.application_id == "tool"


def test_several_in_their_order_and_the_first_failure_is_told() -> None:
    found = CATALOG.resolve_all([reference("ffmpeg", "7.1"), reference("blender", "3.0")])
    assert [item.package.reference for item in found] == ["ffmpeg:7.1", "Blender:3.0"]
    with pytest.raises(UnresolvedReferenceError, match=r"^maya:1: "):
        CATALOG.resolve_all([reference("ffmpeg", "7.1"), reference("maya", "1"), reference("nuke", "1")])


def test_default_versions() -> None:
    visible = [deployed("BLENDER", "3.0"), deployed("ffmpeg", "7.1"), deployed("unknown", "1")]
    assert CATALOG.defaults(visible) == {"blender": "2.7-rc"}
    assert CATALOG.defaults([]) == {}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Package("blender", "3.0", digest("blender.3.0"), 100), "blender.3.0"),
        (Package("blender", "3.0", digest("an earlier content"), 100), None),
        (Package("blender", "5.0", digest("blender.5.0"), 100), None),
        (Package("maya", "1", digest("maya.1"), 100), None),
    ],
)
def test_finding_the_package_behind_a_content(wanted: Package, found: str | None) -> None:
    package = CATALOG.find(wanted)
    assert (package.metadata.name if package else None) == found
