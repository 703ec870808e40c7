import json

import yaml

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster


def add_application(cluster: FakeCluster, name: str) -> None:
    versions = [
        {"version": version, "size": 28_400_000, "lastActivationTime": "2026-01-01T00:00:00Z"}
        for version in ("4.2.2", "7.0.2")
    ]
    cluster.put(
        "applications",
        name,
        spec={"id": name.upper(), "defaultVersion": "4.2.2", "displayName": "Films"},
        status={"packages": 3, "versions": versions},
    )


def test_applications_are_a_table(cluster: FakeCluster, packhorse: Run) -> None:
    add_application(cluster, "ffmpeg")

    lines = packhorse("app", "list").stdout.splitlines()

    assert lines[0].split() == ["APPLICATION", "DEFAULT", "VERSIONS", "UPDATES", "AGE"]
    assert lines[1].split()[:4] == ["FFMPEG", "4.2.2", "4.2.2,7.0.2", "true"]


def test_wide_adds_columns(cluster: FakeCluster, packhorse: Run) -> None:
    add_application(cluster, "ffmpeg")

    line = packhorse("app", "list", "-o", "wide").stdout.splitlines()[1]

    assert line.endswith("Films          3          56.8 MB")


def test_lists_longer_than_a_page_are_whole(cluster: FakeCluster, packhorse: Run) -> None:
    cluster.page = 2
    for name in "abcde":
        add_application(cluster, name)

    result = packhorse("app", "list", "-o", "name")

    assert result.stdout.splitlines() == [f"application.packhorse.dev/{name}" for name in "abcde"]


def test_yaml_and_json_are_lists_that_kubectl_takes(cluster: FakeCluster, packhorse: Run) -> None:
    add_application(cluster, "ffmpeg")

    as_yaml = yaml.safe_load(packhorse("app", "list", "-o", "yaml").stdout)
    as_json = json.loads(packhorse("app", "list", "-o", "json").stdout)

    assert as_yaml == as_json
    assert as_yaml["kind"] == "List"
    assert as_yaml["items"][0]["spec"]["defaultVersion"] == "4.2.2"


def test_no_application_is_said_beside_the_result(packhorse: Run) -> None:
    result = packhorse("app", "list")

    assert result.exit_code == 0
    assert result.stdout == ""
    assert "No applications in namespace default" in result.stderr
