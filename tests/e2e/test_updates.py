"""A pool's packages change: nodes follow when they are rebooted, or one after the other."""

from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pack, pool, task

pytestmark = pytest.mark.cluster

APP = "$AZ_BATCH_APP_PACKAGE_app/bin/app"


@pytest.fixture(scope="module")
def packages(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """Three versions of one application; the first one is the default."""
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1", "2", "3"):
        file = pack(folder / f"{version}.zip", {"bin/app": f"#!/bin/sh\necho version {version}\n"})
        namespace.cli("package", "upload", "app", version, str(file))
    default(namespace, "1")
    return namespace


def default(namespace: Namespace, version: str) -> None:
    body = f'{{"spec": {{"defaultVersion": "{version}"}}}}'
    namespace.kubectl("patch", "phapp", "app", "--type=merge", "-p", body)


def refer(namespace: Namespace, name: str, version: str) -> None:
    body = f'{{"spec": {{"applicationPackageReferences": [{{"applicationId": "app", "version": "{version}"}}]}}}}'
    namespace.kubectl("patch", "phpool", name, "--type=merge", "-p", body)


def versions(namespace: Namespace, name: str) -> dict[str, list[str]]:
    return {
        node: [item["version"] for item in entry.get("packages", ())] for node, entry in namespace.nodes(name).items()
    }


def status(namespace: Namespace, name: str) -> dict[str, Any]:
    found: dict[str, Any] = namespace.get("phpool", name)["status"]
    return found


def uids(namespace: Namespace, name: str) -> dict[str, str]:
    pods = namespace.list("pod", f"packhorse.dev/pool={name}")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def test_nodes_follow_when_they_are_rebooted(packages: Namespace, installed: Cluster) -> None:
    packages.apply(pool("calm", 2, installed.task_image, [{"applicationId": "app"}]))
    packages.idle("calm", 2)
    before = uids(packages, "calm")
    default(packages, "2")
    eventually(lambda: status(packages, "calm").get("outdatedNodes") == 2, "both are behind")
    condition = packages.condition("phpool", "calm", "NodesUpToDate")
    assert (condition["status"], condition["reason"]) == ("False", "NodesBehind")
    assert [item["version"] for item in status(packages, "calm")["packages"]] == ["2"]
    assert versions(packages, "calm") == {"calm-0": ["1"], "calm-1": ["1"]}
    packages.apply(task("old", "calm", APP))
    assert packages.finished("old")["output"]["stdout"] == "version 1\n", "the variables follow what is deployed"
    packages.kubectl("delete", "pod", "calm-1")
    eventually(lambda: versions(packages, "calm").get("calm-1") == ["2"], "the rebooted one has it")
    assert uids(packages, "calm")["calm-0"] == before["calm-0"]
    packages.kubectl("scale", "phpool", "calm", "--replicas=3")
    eventually(lambda: versions(packages, "calm").get("calm-2") == ["2"], "a new one has it")
    assert status(packages, "calm")["outdatedNodes"] == 1
    kept = packages.kubectl("exec", "calm-1", "-c", "node", "--", "ls", "/mnt/batch/tasks/applications/app").split()
    assert kept == ["1", "2"], "a rebooted node keeps what earlier deployments left"
    default(packages, "1")
    packages.kubectl("delete", "phpool", "calm")


def test_a_rolling_update_goes_one_by_one_and_leaves_busy_nodes_alone(packages: Namespace, installed: Cluster) -> None:
    references = [{"applicationId": "app", "version": "1"}]
    packages.apply(pool("roll", 2, installed.task_image, references, nodeUpdatePolicy="Rolling"))
    packages.idle("roll", 2)
    packages.apply(task("busy", "roll", 'until [ -e "$AZ_BATCH_NODE_SHARED_DIR/go" ]; do sleep 0.1; done'))
    eventually(lambda: packages.get("phtask", "busy")["status"]["state"] == "running", "it runs")
    busy = packages.get("phtask", "busy")["status"]["nodeName"]
    other = {"roll-0": "roll-1", "roll-1": "roll-0"}[busy]
    before = uids(packages, "roll")
    refer(packages, "roll", "2")
    eventually(lambda: versions(packages, "roll").get(other) == ["2"], "the idle one is updated")
    eventually(lambda: packages.nodes("roll")[busy].get("pending") == "update", "the busy one waits for its task")
    assert uids(packages, "roll")[busy] == before[busy]
    packages.kubectl("exec", busy, "-c", "node", "--", "touch", "/mnt/batch/tasks/shared/go")
    done = packages.finished("busy")
    assert (done["executionInfo"]["result"], done["attempt"]) == ("success", 1)
    eventually(lambda: versions(packages, "roll").get(busy) == ["2"], "then it is updated too")
    packages.idle("roll", 2)
    packages.wait("phpool/roll", "condition=NodesUpToDate")


def test_a_rolling_update_stops_at_the_first_failure_and_goes_back(packages: Namespace, installed: Cluster) -> None:
    references = [{"applicationId": "app", "version": "1"}]
    start = {"commandLine": 'test "$(${AZ_BATCH_APP_PACKAGE_app}/bin/app)" != "version 3"'}
    packages.apply(pool("stop", 3, installed.task_image, references, nodeUpdatePolicy="Rolling", startTask=start))
    packages.idle("stop", 3)
    refer(packages, "stop", "3")

    def stopped() -> bool:
        return packages.condition("phpool", "stop", "NodesUpToDate").get("reason") == "RollingUpdateStopped"

    eventually(stopped, "the update stops")
    states = sorted(node["state"] for node in packages.nodes("stop").values())
    assert states == ["idle", "idle", "starttaskfailed"], "one node alone has failed"
    packages.apply(*[task(f"on-{number}", "stop", APP) for number in range(3)])
    for number in range(3):
        assert packages.finished(f"on-{number}")["output"]["stdout"] == "version 1\n", "the others work on"
    events = packages.kubectl("get", "events", "-o", "jsonpath={.items[?(@.reason=='RollingUpdateStopped')].message}")
    assert "2 node(s) keep what they have" in events
    refer(packages, "stop", "1")
    packages.idle("stop", 3)
    packages.wait("phpool/stop", "condition=NodesUpToDate")
    assert set(map(tuple, versions(packages, "stop").values())) == {("1",)}
