"""Pools and their nodes as they are in the cluster, and what the operator does with them."""

import uuid
from datetime import UTC, datetime
from typing import Any

from tests.unit.cli.fake_cluster import FakeCluster

Json = dict[str, Any]

SINCE = "2026-01-01T00:00:00Z"
DISABLE, REBOOT, REIMAGE = (f"packhorse.dev/{what}" for what in ("disable-scheduling", "reboot", "reimage"))
BEFORE = {"packhorse.dev/reboot-before", "packhorse.dev/reimage-before"}
FFMPEG = {"applicationId": "ffmpeg", "version": "4.2.2", "sha256": "ab" * 32}
BROKEN = {
    "code": "ApplicationPackageError",
    "message": "One or more application packages specified for the pool are invalid",
    "errorDetails": [{"name": "Cause", "value": "no route to the storage account"}],
}


def now() -> str:
    return datetime.now(UTC).isoformat()


def node(name: str, state: str = "idle", **more: Any) -> Json:
    """A node as its pool's status has it."""
    entry = {"name": name, "state": state, "stateTransitionTime": SINCE, "packages": [FFMPEG], "upToDate": True}
    return {**entry, "worker": "worker-1", "runningTasks": int(state == "running"), **more}


def broken(name: str) -> Json:
    """A node that cannot run tasks."""
    return node(name, "unusable", packages=[], upToDate=False, errors=[BROKEN])


def add_pod(cluster: FakeCluster, name: str, **metadata: Any) -> Json:
    """A node's pod, new by its uid, with all containers running."""
    labels = {"packhorse.dev/pool": name.rpartition("-")[0]}
    own = {"labels": labels, "uid": str(uuid.uuid4()), "creationTimestamp": SINCE, **metadata}
    cluster.put("pods", name, metadata=own, status={"conditions": [{"type": "Ready", "status": "True"}]})
    return pod(cluster, name)


def pod(cluster: FakeCluster, name: str) -> Json:
    """A pod that is there."""
    found = cluster.find("pods", name)
    assert found is not None
    return found


def annotations(cluster: FakeCluster, name: str) -> Json:
    """What a pod's annotations say."""
    return dict(pod(cluster, name)["metadata"].get("annotations", {}))


def pool(cluster: FakeCluster, name: str = "render") -> Json:
    """A pool that is there."""
    found = cluster.find("pools", name)
    assert found is not None
    return found


def add_pool(cluster: FakeCluster, *nodes: Json, name: str = "render", **spec: Any) -> None:
    """A pool with these nodes and their pods; without any, two that are idle."""
    entries = list(nodes) or [node(f"{name}-{number}") for number in range(2)]
    base = {
        "targetNodes": len(entries),
        "image": "debian:bookworm-slim",
        "taskSlotsPerNode": 2,
        "applicationPackageReferences": [{"applicationId": "ffmpeg"}],
    }
    status = {"observedGeneration": 1, "allocationState": "steady", "packages": [FFMPEG]}
    status |= {"currentNodes": len(entries), "nodes": entries}
    cluster.put("pools", name, spec=base | spec, status=status)
    for entry in entries:
        add_pod(cluster, entry["name"])


def change_nodes(cluster: FakeCluster, *nodes: Json, name: str = "render", **status: Any) -> None:
    """What the operator says of the nodes from now on."""
    generation = pool(cluster, name)["metadata"]["generation"]
    given = {"nodes": list(nodes), "currentNodes": len(nodes), "observedGeneration": generation, **status}
    cluster.update("pools", name, status=given)


class NodeOperator:
    """Restarts nodes and resizes pools as soon as it is asked to.

    Attributes:
        comes_back: What becomes of a node that is restarted or new, by name; others are idle.
    """

    def __init__(self, **comes_back: Json) -> None:
        self.comes_back = {name.replace("_", "-"): entry for name, entry in comes_back.items()}

    def __call__(self, cluster: FakeCluster, plural: str, item: Json) -> None:
        name, asked = item["metadata"]["name"], item["metadata"].get("annotations", {})
        if plural == "pods" and {REBOOT, REIMAGE} & asked.keys():
            self._restart(cluster, name)
        if plural == "pools":
            for entry in item["status"]["nodes"] if BEFORE & asked.keys() else ():
                self._restart(cluster, entry["name"])
            self._resize(cluster, name, item["spec"]["targetNodes"])

    def _entry(self, name: str) -> Json:
        return {**self.comes_back.get(name, node(name)), "stateTransitionTime": now()}

    def _restart(self, cluster: FakeCluster, name: str) -> None:
        owner = pod(cluster, name)["metadata"]["labels"]["packhorse.dev/pool"]
        add_pod(cluster, name)
        nodes = pool(cluster, owner)["status"]["nodes"]
        changed = [self._entry(name) if entry["name"] == name else entry for entry in nodes]
        change_nodes(cluster, *changed, name=owner)

    def _resize(self, cluster: FakeCluster, name: str, count: int) -> None:
        nodes = pool(cluster, name)["status"]["nodes"]
        if len(nodes) == count:
            return
        kept = [entry for entry in nodes if int(entry["name"].rpartition("-")[2]) < count]
        new = [f"{name}-{number}" for number in range(len(kept), count)]
        for each in new:
            add_pod(cluster, each)
        for entry in nodes[len(kept) :]:
            cluster.remove("pods", entry["name"])
        change_nodes(cluster, *kept, *(self._entry(each) for each in new), name=name)
