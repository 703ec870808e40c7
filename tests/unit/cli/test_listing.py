import json

import yaml

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster

READY = {"type": "Ready", "status": "False", "reason": "Waiting", "lastTransitionTime": "2026-01-01T00:00:00Z"}


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


def add_pool(cluster: FakeCluster) -> None:
    package = {"applicationId": "ffmpeg", "version": "4.2.2", "sha256": "ab" * 32}
    broken = {
        "code": "ApplicationPackageError",
        "message": "One or more application packages specified for the pool are invalid",
        "errorDetails": [{"name": "Cause", "value": "no route to the storage account"}],
    }
    since = "2026-01-01T00:00:00Z"
    idle = {"name": "render-0", "state": "idle", "stateTransitionTime": since, "packages": [package]}
    bad = {"name": "render-1", "state": "unusable", "stateTransitionTime": since, "errors": [broken]}
    cluster.put(
        "pools",
        "render",
        spec={
            "targetNodes": 2,
            "image": "debian:bookworm-slim",
            "taskSlotsPerNode": 2,
            "applicationPackageReferences": [{"applicationId": "ffmpeg"}],
        },
        status={
            "observedGeneration": 1,
            "allocationState": "steady",
            "currentNodes": 2,
            "packages": [package],
            "nodes": [{**idle, "upToDate": True, "runningTasks": 1}, bad],
            "conditions": [{**READY, "message": "1 of 2 nodes is unusable"}],
        },
    )


def test_pool_shows_its_nodes_and_their_errors(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    text = packhorse("pool", "show", "render").stdout

    assert "Nodes:           2 of 2 (steady)" in text
    assert "References:      ffmpeg (default version)" in text
    assert "Not ready:       1 of 2 nodes is unusable" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("render-")]
    assert rows[0][:2] + rows[0][3:] == ["render-0", "idle", "ffmpeg#4.2.2", "yes", "1"]
    assert rows[1][:2] + rows[1][3:] == ["render-1", "unusable", "<none>", "no", "0"]
    assert "render-1: ApplicationPackageError: One or more" in text
    assert "  Cause: no route to the storage account" in text


def test_wide_pool_shows_digests(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    assert "ffmpeg#4.2.2@abababababab" in packhorse("pool", "show", "render", "-o", "wide").stdout


def test_change_that_nobody_acted_on_is_said(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    cluster.update("pools", "render", metadata={"generation": 2})

    assert "has not acted on the latest change" in packhorse("pool", "show", "render").stdout


def test_pool_as_json_is_the_object(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    assert json.loads(packhorse("pool", "show", "render", "-o", "json").stdout)["spec"]["targetNodes"] == 2


def test_state_of_a_newer_operator_is_no_traceback(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    node = {"name": "render-0", "state": "levitating", "stateTransitionTime": "2026-01-01T00:00:00Z"}
    cluster.update("pools", "render", status={"nodes": [node]})

    result = packhorse("pool", "show", "render")

    assert result.exit_code == 1
    assert "does not understand Pool 'render': status.nodes.0.state" in result.stderr
    assert "update this program" in result.stderr
