"""Nodes are rebooted, reimaged and taken out of scheduling, with Batch's options for what they run."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pack, pool, task

pytestmark = pytest.mark.cluster

WAITS = 'until [ -e "$AZ_BATCH_NODE_SHARED_DIR/go" ]; do sleep 0.1; done'
ROOT_DIR = "/mnt/batch/tasks"


@pytest.fixture(scope="module")
def ready(namespace: Namespace, installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """A pool of two nodes with a package."""
    app = pack(tmp_path_factory.mktemp("packages") / "app.zip", {"bin/app": "#!/bin/sh\necho works\n"})
    namespace.cli("package", "upload", "app", "1", str(app))
    namespace.apply(pool("farm", 2, installed.task_image, [{"applicationId": "app", "version": "1"}]))
    namespace.idle("farm", 2)
    return namespace


@pytest.fixture(autouse=True)
def tidy(ready: Namespace) -> Iterator[None]:
    """Every test begins with two idle nodes."""
    yield
    ready.kubectl("delete", "phtask", "--all")
    ready.idle("farm", 2)
    for node in ("farm-0", "farm-1"):
        run(ready, node, f"rm -rf {ROOT_DIR}/shared/*")


def run(namespace: Namespace, node: str, command: str) -> str:
    return namespace.kubectl("exec", node, "-c", "node", "--", "sh", "-c", command)


def uid(namespace: Namespace, node: str) -> str:
    found: str = namespace.get("pod", node)["metadata"]["uid"]
    return found


def running(namespace: Namespace, name: str, command: str = WAITS) -> str:
    """Start a task, wait until it runs, and tell the node."""
    namespace.apply(task(name, "farm", command))
    eventually(lambda: namespace.get("phtask", name)["status"]["state"] == "running", f"{name} runs")
    node: str = namespace.get("phtask", name)["status"]["nodeName"]
    return node


def node(namespace: Namespace, name: str) -> dict[str, Any]:
    return namespace.nodes("farm").get(name, {})


def replaced(namespace: Namespace, name: str, before: str) -> None:
    def another() -> bool:
        pods = [found for found in namespace.list("pod") if found["metadata"]["name"] == name]
        return bool(pods) and pods[0]["metadata"]["uid"] != before

    eventually(another, f"{name} is another pod")
    namespace.idle("farm", 2)


def test_a_reboot_that_waits_for_tasks(ready: Namespace) -> None:
    name = running(ready, "slow")
    before = uid(ready, name)
    run(ready, name, f"echo kept > {ROOT_DIR}/shared/file")
    ready.kubectl("annotate", "pod", name, "packhorse.dev/reboot=taskcompletion")
    eventually(lambda: node(ready, name).get("pending") == "reboot", "it waits for its task")
    ready.apply(task("next", "farm", "true"))
    assert ready.finished("next")["nodeName"] != name, "a node that is to be rebooted gets no further tasks"
    assert uid(ready, name) == before
    run(ready, name, f"touch {ROOT_DIR}/shared/go")
    status = ready.finished("slow")
    assert (status["executionInfo"]["result"], status["attempt"]) == ("success", 1)
    replaced(ready, name, before)
    assert run(ready, name, f"cat {ROOT_DIR}/shared/file") == "kept\n", "a reboot keeps the node's files"
    assert [item["version"] for item in node(ready, name)["packages"]] == ["1"]


def test_a_reboot_that_requeues_tasks(ready: Namespace) -> None:
    name = running(ready, "moves", f'test "$AZ_BATCH_TASK_ATTEMPT" -gt 1 || {{ {WAITS}; }}')
    before = uid(ready, name)
    ready.kubectl("annotate", "pod", name, "packhorse.dev/reboot=requeue")
    info = ready.finished("moves")["executionInfo"]
    assert (info["result"], info["requeueCount"], info["retryCount"]) == ("success", 1, 0)
    replaced(ready, name, before)


def test_a_reboot_that_ends_tasks(ready: Namespace) -> None:
    name = running(ready, "ends")
    before = uid(ready, name)
    ready.kubectl("annotate", "pod", name, "packhorse.dev/reboot=terminate")
    info = ready.finished("ends")["executionInfo"]
    assert (info["result"], info["failureInfo"]["code"]) == ("failure", "TaskEnded")
    replaced(ready, name, before)


def test_a_reimage_loses_the_files_and_installs_the_packages_again(ready: Namespace) -> None:
    before, claim = uid(ready, "farm-0"), ready.get("pvc", "node-farm-0")["metadata"]["uid"]
    run(ready, "farm-0", f"echo gone > {ROOT_DIR}/shared/file")
    ready.kubectl("annotate", "pod", "farm-0", "packhorse.dev/reimage=requeue")
    replaced(ready, "farm-0", before)
    assert ready.get("pvc", "node-farm-0")["metadata"]["uid"] != claim
    assert run(ready, "farm-0", f"ls {ROOT_DIR}/shared") == ""
    ready.apply(task("fresh", "farm", "$AZ_BATCH_APP_PACKAGE_app/bin/app"))
    assert ready.finished("fresh")["output"]["stdout"] == "works\n"


def test_all_nodes_of_a_pool_by_one_annotation(ready: Namespace) -> None:
    before = {name: uid(ready, name) for name in ("farm-0", "farm-1")}
    now = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)).isoformat(timespec="seconds")
    ready.kubectl("annotate", "phpool", "farm", "--overwrite", f"packhorse.dev/reboot-before={now}")
    for name, old in before.items():
        replaced(ready, name, old)
    settled = {name: uid(ready, name) for name in before}
    ready.apply(task("after", "farm", "true"))
    ready.finished("after")
    assert {name: uid(ready, name) for name in before} == settled, "the annotation that stays reboots nothing again"


def test_disabled_scheduling(ready: Namespace) -> None:
    name = running(ready, "stays")
    ready.kubectl("annotate", "pod", name, "packhorse.dev/disable-scheduling=taskcompletion")
    eventually(lambda: node(ready, name)["schedulingState"] == "disabled", "it is disabled")
    assert node(ready, name)["state"] == "running"
    run(ready, name, f"touch {ROOT_DIR}/shared/go")
    assert ready.finished("stays")["executionInfo"]["result"] == "success"
    eventually(lambda: node(ready, name)["state"] == "offline", "it is offline")
    assert ready.get("phpool", "farm")["status"]["offlineNodes"] == 1
    ready.apply(*[task(f"elsewhere-{number}", "farm", "true") for number in range(3)])
    assert name not in {ready.finished(f"elsewhere-{number}")["nodeName"] for number in range(3)}
    ready.kubectl("annotate", "pod", name, "packhorse.dev/disable-scheduling-")
    ready.idle("farm", 2)
    assert node(ready, name)["schedulingState"] == "enabled"


def test_disabled_scheduling_that_puts_tasks_back(ready: Namespace) -> None:
    name = running(ready, "moves", f'test "$AZ_BATCH_TASK_ATTEMPT" -gt 1 || {{ {WAITS}; }}')
    before = uid(ready, name)
    ready.kubectl("annotate", "pod", name, "packhorse.dev/disable-scheduling=requeue")
    status = ready.finished("moves")
    assert (status["executionInfo"]["requeueCount"], status["executionInfo"]["result"]) == (1, "success")
    assert status["nodeName"] != name
    eventually(lambda: node(ready, name)["state"] == "offline", "it is offline")
    assert uid(ready, name) == before
    ready.kubectl("delete", "pod", name)
    replaced(ready, name, before)
    assert node(ready, name)["schedulingState"] == "enabled", "a reboot enables scheduling, as in Batch"


def test_an_annotation_that_means_nothing_is_told_and_does_nothing(ready: Namespace) -> None:
    before = uid(ready, "farm-0")
    ready.kubectl("annotate", "pod", "farm-0", "packhorse.dev/reboot=now")

    def told() -> bool:
        events = ready.kubectl("get", "events", "-o", "jsonpath={.items[?(@.reason=='InvalidAnnotation')].message}")
        return "pod farm-0: packhorse.dev/reboot: now" in events

    eventually(told, "an event says so")
    ready.kubectl("annotate", "pod", "farm-0", "packhorse.dev/reboot-")
    assert uid(ready, "farm-0") == before
