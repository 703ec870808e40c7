"""Start tasks: after the packages, before any task, on every start of a node."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pack, pool, task

pytestmark = pytest.mark.cluster

EPHEMERAL = {"size": "1Gi", "ephemeral": True}


def node(namespace: Namespace, name: str) -> dict[str, Any]:
    return namespace.nodes(name.rpartition("-")[0]).get(name, {})


def test_it_runs_after_the_packages_and_before_any_task(
    namespace: Namespace, installed: Cluster, tmp_path: Path
) -> None:
    app = pack(tmp_path / "app.zip", {"bin/app": "#!/bin/sh\necho from the package\n"})
    namespace.cli("package", "upload", "app", "1", str(app))
    start = {
        "commandLine": (
            '"$AZ_BATCH_APP_PACKAGE_app/bin/app" >> "$AZ_BATCH_NODE_SHARED_DIR/started"; echo "$GREETING, $PWD";'
            ' until [ -e "$AZ_BATCH_NODE_SHARED_DIR/go" ]; do sleep 0.1; done; echo done >&2'
        ),
        "environmentSettings": [{"name": "GREETING", "value": "welcome"}],
    }
    references = [{"applicationId": "app", "version": "1"}]
    namespace.apply(pool("host", 1, installed.task_image, references, startTask=start))
    eventually(lambda: node(namespace, "host-0").get("state") == "waitingforstarttask", "it waits for its start task")
    assert node(namespace, "host-0")["startTaskInfo"]["state"] == "running"
    namespace.apply(task("waits", "host", 'cat "$AZ_BATCH_NODE_SHARED_DIR/started"'))
    listing = namespace.kubectl("exec", "host-0", "-c", "node", "--", "ls", "/mnt/batch/tasks/workitems")
    assert listing == "", "no task has begun"
    namespace.kubectl("exec", "host-0", "-c", "node", "--", "touch", "/mnt/batch/tasks/shared/go")
    assert namespace.finished("waits")["output"]["stdout"] == "from the package\n"
    namespace.idle("host", 1)
    info = node(namespace, "host-0")["startTaskInfo"]
    assert (info["state"], info["result"], info["exitCode"]) == ("completed", "success", 0)
    assert namespace.cli("node", "logs", "host-0").stdout == "welcome, /mnt/batch/tasks/startup/wd\n"
    assert namespace.cli("node", "logs", "host-0", "--stderr").stdout == "done\n"

    namespace.kubectl("delete", "pod", "host-0")
    namespace.idle("host", 1)
    namespace.apply(task("again", "host", 'cat "$AZ_BATCH_NODE_SHARED_DIR/started"'))
    assert namespace.finished("again")["output"]["stdout"] == "from the package\n" * 2, "a reboot runs it again"


def test_it_is_retried_and_then_the_node_gets_no_tasks(namespace: Namespace, installed: Cluster) -> None:
    start = {"commandLine": 'echo try >> "$AZ_BATCH_NODE_SHARED_DIR/tries"; exit 7', "maxTaskRetryCount": 1}
    namespace.apply(pool("bad", 1, installed.task_image, nodeStorage=EPHEMERAL, startTask=start))
    eventually(lambda: node(namespace, "bad-0").get("state") == "starttaskfailed", "it has failed")
    info = node(namespace, "bad-0")["startTaskInfo"]
    assert (info["result"], info["exitCode"], info["retryCount"]) == ("failure", 7, 1)
    assert info["failureInfo"]["code"] == "FailureExitCode"
    assert node(namespace, "bad-0")["errors"][0]["code"] == "FailureExitCode"
    tries = namespace.kubectl("exec", "bad-0", "-c", "node", "--", "cat", "/mnt/batch/tasks/shared/tries")
    assert tries == "try\n" * 2
    assert namespace.get("phpool", "bad")["status"]["unusableNodes"] == 1
    assert namespace.condition("phpool", "bad", "Ready")["reason"] == "FailureExitCode"
    namespace.apply(task("later", "bad", "true"))

    good = '{"spec": {"startTask": {"commandLine": "true"}}}'
    namespace.kubectl("patch", "phpool", "bad", "--type=merge", "-p", good)
    assert namespace.finished("later")["executionInfo"]["result"] == "success", "another start task, another try"


def test_tasks_need_not_wait_for_it(namespace: Namespace, installed: Cluster) -> None:
    start = {"commandLine": "sleep 5; exit 1", "waitForSuccess": False}
    namespace.apply(pool("eager", 1, installed.task_image, nodeStorage=EPHEMERAL, startTask=start))
    namespace.apply(task("at-once", "eager", "true"))
    assert namespace.finished("at-once")["executionInfo"]["result"] == "success"

    def failed() -> bool:
        info = node(namespace, "eager-0").get("startTaskInfo", {})
        return bool(info.get("result") == "failure")

    eventually(failed, "it has failed meanwhile")
    assert node(namespace, "eager-0")["state"] == "idle"
    namespace.apply(task("after", "eager", "true"))
    assert namespace.finished("after")["executionInfo"]["result"] == "success"
