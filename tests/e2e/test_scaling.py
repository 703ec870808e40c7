"""Pools grow and shrink: by hand with Batch's options, and by their tasks."""

import json

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pool, task

pytestmark = pytest.mark.cluster

WAITS = 'until [ -e "$AZ_BATCH_NODE_SHARED_DIR/go" ]; do sleep 0.1; done'
EPHEMERAL = {"size": "1Gi", "ephemeral": True}


def target(namespace: Namespace, name: str) -> int:
    found: int = namespace.get("phpool", name)["spec"]["targetNodes"]
    return found


def nodes_of(namespace: Namespace, name: str) -> int:
    found: int = namespace.get("phpool", name)["status"]["currentNodes"]
    return found


def running(namespace: Namespace, name: str) -> list[str]:
    return [
        each["metadata"]["name"]
        for each in namespace.list("phtask")
        if each["spec"]["pool"] == name and each["status"]["state"] == "running"
    ]


def let_go(namespace: Namespace, *nodes: str) -> None:
    for node in nodes:
        namespace.kubectl("exec", node, "-c", "node", "--", "touch", "/mnt/batch/tasks/shared/go")


def test_a_node_that_leaves_waits_for_its_tasks(namespace: Namespace, installed: Cluster) -> None:
    option = "taskcompletion"
    namespace.apply(pool("shrink", 2, installed.task_image, nodeStorage=EPHEMERAL, nodeDeallocationOption=option))
    namespace.idle("shrink", 2)
    namespace.apply(task("a", "shrink", WAITS), task("b", "shrink", WAITS))
    eventually(
        lambda: {each["status"].get("nodeName") for each in namespace.list("phtask")} == {"shrink-0", "shrink-1"}, ""
    )
    namespace.kubectl("scale", "phpool", "shrink", "--replicas=1")
    eventually(lambda: namespace.nodes("shrink")["shrink-1"]["state"] == "leavingpool", "it is about to leave")
    assert namespace.nodes("shrink")["shrink-1"]["pending"] == "leave"
    assert namespace.get("phpool", "shrink")["status"]["allocationState"] == "resizing"
    namespace.apply(task("c", "shrink", "true"))
    let_go(namespace, "shrink-1")
    eventually(lambda: nodes_of(namespace, "shrink") == 1, "it has left")
    assert namespace.get("phtask", "c")["status"]["state"] == "active", "it got no further task"
    let_go(namespace, "shrink-0")
    for name in ("a", "b", "c"):
        status = namespace.finished(name)
        assert (status["executionInfo"]["result"], status["attempt"]) == ("success", 1)


def test_a_node_that_leaves_gives_its_tasks_back(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("drop", 2, installed.task_image, nodeStorage=EPHEMERAL))
    namespace.idle("drop", 2)
    command = f'test "$AZ_BATCH_TASK_ATTEMPT" -gt 1 || {{ {WAITS}; }}'
    namespace.apply(task("left", "drop", command), task("right", "drop", command))
    eventually(lambda: len(running(namespace, "drop")) == 2, "both run")
    namespace.kubectl("scale", "phpool", "drop", "--replicas=1")
    eventually(lambda: nodes_of(namespace, "drop") == 1, "one node is left")
    let_go(namespace, "drop-0")
    counts = sorted(namespace.finished(name)["executionInfo"]["requeueCount"] for name in ("left", "right"))
    assert counts == [0, 1]


def test_nodes_follow_the_tasks_from_none_and_back(namespace: Namespace, installed: Cluster) -> None:
    scale = {"minNodes": 0, "maxNodes": 2, "scaleDownDelay": "5s"}
    auto = pool("auto", 0, installed.task_image, nodeStorage=EPHEMERAL, taskSlotsPerNode=2, autoScale=scale)
    del auto["spec"]["targetNodes"]
    namespace.apply(auto)
    eventually(lambda: target(namespace, "auto") == 0, "nobody needs a node")
    eventually(lambda: nodes_of(namespace, "auto") == 0, "there is none")
    names = [f"wave-{number}" for number in range(5)]
    namespace.apply(*[task(name, "auto", WAITS) for name in names])
    eventually(lambda: target(namespace, "auto") == 2, "as many as it may have")
    eventually(lambda: len(running(namespace, "auto")) == 4, "all slots are taken")
    assert namespace.get("phpool", "auto")["status"]["autoScaleRun"]["neededNodes"] == 2
    let_go(namespace, "auto-0", "auto-1")
    for name in names:
        status = namespace.finished(name)
        assert (status["executionInfo"]["result"], status["executionInfo"]["requeueCount"]) == ("success", 0)
    eventually(lambda: nodes_of(namespace, "auto") == 0, "all nodes have gone")
    events = namespace.kubectl("get", "events", "-o", "jsonpath={.items[?(@.reason=='Scaled')].message}")
    assert events.count("from ") <= 4, f"it does not flap: {events}"
    namespace.apply(auto)
    assert target(namespace, "auto") == 0, "who applies the Pool again does not undo it"


def test_another_autoscaler_may_take_over(namespace: Namespace, installed: Cluster) -> None:
    scale = {"minNodes": 0, "maxNodes": 3, "scaleDownDelay": "1s"}
    namespace.apply(pool("other", 0, installed.task_image, nodeStorage=EPHEMERAL, autoScale=scale))
    remove = [{"op": "remove", "path": "/spec/autoScale"}]
    namespace.kubectl("patch", "phpool", "other", "--type=json", "-p", json.dumps(remove))
    namespace.kubectl("scale", "phpool", "other", "--replicas=1")
    namespace.idle("other", 1)
    shown = json.loads(namespace.kubectl("get", "--raw", f"{api(namespace)}/pools/other/scale"))
    assert (shown["spec"]["replicas"], shown["status"]["replicas"]) == (1, 1)
    assert shown["status"]["selector"] == "packhorse.dev/pool=other"


def api(namespace: Namespace) -> str:
    return f"/apis/packhorse.dev/v1alpha1/namespaces/{namespace.name}"
