import json

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.fake_operator import Operator, add_package


def spec(cluster: FakeCluster) -> dict[str, object]:
    found = cluster.find("applications", "ffmpeg")
    assert found is not None
    return dict(found["spec"])


def test_application_is_shown_with_its_packages(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.10", application={"defaultVersion": "9", "displayName": "Films"})
    add_package(cluster, "ffmpeg.9", state="Failed")

    text = packhorse("app", "show", "FFmpeg").stdout

    assert "Display name:     Films" in text
    assert "Default version:  9" in text
    assert [line.split()[:2] for line in text.splitlines()[-2:]] == [["9", "Failed"], ["10", "Active"]]
    assert json.loads(packhorse("app", "show", "ffmpeg", "-o", "json").stdout)["spec"]["displayName"] == "Films"


def test_default_is_set_to_an_active_version(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1a")

    first = packhorse("app", "set-default", "ffmpeg", "1A")
    second = packhorse("app", "set-default", "ffmpeg", "1A")

    assert first.stdout == "application/ffmpeg default version 1a\n"
    assert second.stdout == "application/ffmpeg unchanged (default version 1a)\n"
    assert spec(cluster)["defaultVersion"] == "1a"


def test_default_that_is_not_active_is_refused(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1")
    add_package(cluster, "ffmpeg.2", state="Failed", message="it is damaged")

    result = packhorse("app", "set-default", "ffmpeg", "2")

    assert result.exit_code == 1
    assert "RequestedDefaultVersionNotActive: version 2 of ffmpeg is not active: it is damaged." in result.stderr
    assert "Active versions: 1." in result.stderr
    assert "defaultVersion" not in spec(cluster)


def test_default_is_removed(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1", application={"defaultVersion": "1"})

    assert packhorse("app", "set-default", "ffmpeg", "--none").stdout == "application/ffmpeg no default version\n"
    assert "defaultVersion" not in spec(cluster)
    assert packhorse("app", "set-default", "ffmpeg").exit_code == 2
    assert packhorse("app", "set-default", "ffmpeg", "1", "--none").exit_code == 2


def test_application_is_changed(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1")

    result = packhorse("app", "update", "ffmpeg", "--allow-updates=false", "--display-name", "Films")

    assert result.stdout == "application/ffmpeg updates not allowed, display name Films\n"
    assert spec(cluster) == {"id": "ffmpeg", "allowUpdates": False, "displayName": "Films"}
    assert packhorse("app", "update", "ffmpeg", "--display-name", "").exit_code == 0
    assert "displayName" not in spec(cluster)


@pytest.mark.parametrize("arguments", [(), ("--allow-updates", "perhaps")])
def test_change_of_nothing_is_wrong_usage(arguments: tuple[str, ...], packhorse: Run) -> None:
    assert packhorse("app", "update", "ffmpeg", *arguments).exit_code == 2


def hold(cluster: FakeCluster) -> None:
    cluster.update("applications", "ffmpeg", metadata={"finalizers": ["packhorse.dev/packages"]})
    cluster.react(Operator())


def test_application_with_packages_is_not_deleted(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.10")
    add_package(cluster, "ffmpeg.9")
    hold(cluster)

    result = packhorse("app", "delete", "ffmpeg")

    assert result.exit_code == 1
    assert "The application ffmpeg has 2 packages: 9, 10." in result.stderr
    assert "--all-packages" in result.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_application_is_deleted_with_its_packages(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1")
    add_package(cluster, "blender.1")
    hold(cluster)

    result = packhorse("app", "delete", "ffmpeg", "--all-packages")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["applicationpackage/ffmpeg.1 deleted", "application/ffmpeg deleted"]
    assert cluster.find("applications", "ffmpeg") is None
    assert cluster.find("applicationpackages", "blender.1")


def test_application_with_locked_packages_is_left_as_it_is(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1", state="Pending", spec={}, application={"allowUpdates": False})
    add_package(cluster, "ffmpeg.2")
    hold(cluster)

    result = packhorse("app", "delete", "ffmpeg", "--all-packages")

    assert result.exit_code == 1
    assert "ffmpeg.2 cannot be deleted" in result.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_application_that_is_not_there(packhorse: Run) -> None:
    assert packhorse("app", "delete", "ffmpeg").exit_code == 1
    assert packhorse("app", "delete", "ffmpeg", "--ignore-not-found").exit_code == 0
