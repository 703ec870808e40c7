"""A machine of the cluster dies with nodes on it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import SYSTEM, Namespace, eventually, pool, task

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
LOST = 300.0
"""Seconds: Kubernetes itself takes 40 to notice, and nodes are evicted after the time that they tolerate."""


def worker_of(cluster: Cluster, selector: str) -> str:
    found = cluster.run_kubectl("get", "pods", "-n", SYSTEM, "-l", selector, "-o", "jsonpath={.items[*].spec.nodeName}")
    return found.split()[0] if found else ""


@pytest.fixture
def spare(installed: Cluster) -> Iterator[str]:
    """A machine that neither the operator nor the embedded storage is on."""
    if not installed.own:
        pytest.skip("it is a cluster of somebody else's: none of its machines is stopped")
    workers = [
        node
        for node in installed.run_kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
        if "control-plane" not in node
    ]
    storage = worker_of(installed, "app.kubernetes.io/component=azurite")
    machine = next(worker for worker in workers if worker != storage)
    if worker_of(installed, "app.kubernetes.io/component=operator") == machine:
        installed.run_kubectl("cordon", machine)
        operator = "app.kubernetes.io/component=operator"
        installed.run_kubectl("delete", "pod", "-n", SYSTEM, "-l", operator)
        installed.run_kubectl("rollout", "status", "-n", SYSTEM, "deployment/packhorse-operator", "--timeout=120s")
        installed.run_kubectl("uncordon", machine)
    yield machine
    installed.start_machine(machine)
    installed.run_kubectl("wait", f"node/{machine}", "--for=condition=Ready", "--timeout=120s")
    taints = installed.run_kubectl("get", "node", machine, "-o", "jsonpath={.spec.taints[*].key}").split()
    if OUT_OF_SERVICE in taints:
        installed.run_kubectl("taint", "node", machine, f"{OUT_OF_SERVICE}-")


def test_its_nodes_are_unknown_and_are_replaced(namespace: Namespace, installed: Cluster, spare: str) -> None:
    tolerates: list[dict[str, Any]] = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for key in ("unreachable", "not-ready")
    ]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"packhorse.dev/pool": "sturdy"}},
    }
    template = {"spec": {"tolerations": tolerates, "topologySpreadConstraints": [spread]}}
    storage = {"size": "1Gi", "ephemeral": True}
    namespace.apply(pool("sturdy", 2, installed.task_image, nodeStorage=storage, template=template))
    nodes = namespace.idle("sturdy", 2)
    on_spare = [name for name, node in nodes.items() if node["worker"] == spare]
    assert on_spare, f"a node is on {spare}: {nodes}"
    command = 'test "$AZ_BATCH_TASK_ATTEMPT" -gt 1 || sleep 3600'
    namespace.apply(task("one", "sturdy", command), task("two", "sturdy", command))
    eventually(lambda: [each["status"]["state"] for each in namespace.list("phtask")] == ["running"] * 2, "both run")
    names = {each["status"]["nodeName"]: each["metadata"]["name"] for each in namespace.list("phtask")}

    installed.stop_machine(spare)
    lost = on_spare[0]
    eventually(lambda: namespace.nodes("sturdy")[lost]["state"] == "unknown", f"{lost} is unknown", LOST)
    assert namespace.get("phpool", "sturdy")["status"]["unknownNodes"] == len(on_spare)
    moved = names[lost]

    def requeued() -> bool:
        info = namespace.get("phtask", moved)["status"]["executionInfo"]
        return bool(info.get("requeueCount") == 1)

    eventually(requeued, "Kubernetes gives the pod up, and its task is put back", LOST)
    # Kubernetes deletes such a pod only when somebody says that its machine is really off.
    installed.run_kubectl("taint", "node", spare, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute")
    eventually(
        lambda: namespace.nodes("sturdy").get(lost, {}).get("worker") not in {spare, None}, "it is replaced", LOST
    )
    assert namespace.finished(moved)["attempt"] == 2
