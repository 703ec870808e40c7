"""The operator itself: it may be killed at any moment, and what it may do is little."""

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import SYSTEM, Namespace, eventually, pool, task

pytestmark = pytest.mark.cluster


def operator_pod(cluster: Cluster) -> str:
    selector = "app.kubernetes.io/component=operator"
    running = "--field-selector=status.phase=Running"
    return cluster.run_kubectl("get", "pods", "-n", SYSTEM, "-l", selector, running, "-o", "name").strip()


@pytest.mark.alone
def test_tasks_outlive_the_operator_and_none_runs_twice(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("steady", 2, installed.task_image, taskSlotsPerNode=4))
    namespace.idle("steady", 2)
    note = 'echo "$AZ_BATCH_TASK_ID" >> $AZ_BATCH_NODE_SHARED_DIR/ran'
    names = [f"keep-{number:02}" for number in range(24)]
    namespace.apply(*[task(name, "steady", f"{note}; sleep 2") for name in names])
    eventually(lambda: any(entry["status"]["state"] == "running" for entry in namespace.list("phtask")), "some run")
    before = operator_pod(installed)
    installed.run_kubectl("delete", "-n", SYSTEM, before, "--grace-period=0", "--force")
    for name in names:
        status = namespace.finished(name)
        assert status["executionInfo"]["result"] == "success", status
        assert status["attempt"] == 1, status
    runs = [
        namespace.kubectl("exec", node, "-c", "node", "--", "cat", "/mnt/batch/tasks/shared/ran").split()
        for node in ("steady-0", "steady-1")
    ]
    assert sorted(runs[0] + runs[1]) == names
    eventually(lambda: operator_pod(installed) not in {"", before}, "another operator")


def test_a_rebooted_node_gives_its_tasks_to_another(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("shaky", 2, installed.task_image))
    namespace.idle("shaky", 2)
    namespace.apply(task("moves", "shaky", 'test "$AZ_BATCH_TASK_ATTEMPT" -gt 1 || sleep 600'))
    eventually(lambda: namespace.get("phtask", "moves")["status"]["state"] == "running", "it runs")
    node = namespace.get("phtask", "moves")["status"]["nodeName"]
    namespace.kubectl("delete", "pod", node, "--wait=false")
    status = namespace.finished("moves")
    assert status["executionInfo"]["result"] == "success"
    assert status["executionInfo"]["requeueCount"] == 1
    assert status["executionInfo"]["retryCount"] == 0
    assert status["attempt"] == 2


def test_kubectl_scale_changes_a_pool(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("elastic", 1, installed.task_image, nodeStorage={"size": "1Gi", "ephemeral": True}))
    namespace.idle("elastic", 1)
    namespace.kubectl("scale", "phpool", "elastic", "--replicas=2")
    namespace.idle("elastic", 2)
    namespace.kubectl("scale", "phpool", "elastic", "--replicas=0")
    eventually(lambda: namespace.get("phpool", "elastic")["status"]["currentNodes"] == 0, "no nodes are left")


def test_deleting_a_pool_removes_all_that_it_consists_of(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("brief", 1, installed.task_image))
    namespace.idle("brief", 1)
    namespace.kubectl("delete", "phpool", "brief")
    kinds = "pod,statefulset,configmap,persistentvolumeclaim"
    eventually(lambda: not namespace.list(kinds, "packhorse.dev/pool=brief"), "everything of the pool is gone")


def test_explain_teaches(installed: Cluster) -> None:
    for kind in ("phapp", "phpkg", "phpool", "phtask"):
        text = installed.run_kubectl("explain", f"{kind}.spec", "--recursive=false")
        assert "<no description>" not in text
        assert len(text.split()) > 30
