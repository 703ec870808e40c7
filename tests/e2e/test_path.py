"""The first path through the whole system: package, application, pool, tasks; a new version; a reboot."""

import datetime
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pack, pool, task

pytestmark = pytest.mark.cluster

GREET = "$AZ_BATCH_APP_PACKAGE_greeter/bin/greet"


def greeter(folder: Path, version: str) -> str:
    return str(pack(folder / f"{version}.zip", {"bin/greet": f"#!/bin/sh\necho greeter {version}, $1\n"}))


@pytest.fixture(scope="module")
def ready(namespace: Namespace, installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """Two versions of one application, another application, and a pool of three nodes with the default version."""
    folder = tmp_path_factory.mktemp("packages")
    namespace.cli("package", "upload", "Greeter", "1.0", greeter(folder, "1.0"), "--set-default")
    namespace.cli("package", "upload", "greeter", "2.0-beta", greeter(folder, "2.0-beta"))
    tools = pack(folder / "tools.zip", {"share/motto.txt": "pack light\n"})
    namespace.cli("package", "upload", "tools", "7", str(tools))
    namespace.apply(pool("work", 3, installed.task_image, [{"applicationId": "greeter"}], taskSlotsPerNode=2))
    namespace.idle("work", 3)
    return namespace


def test_the_first_package_creates_the_application(ready: Namespace) -> None:
    application = ready.get("phapp", "greeter")
    assert application["spec"]["id"] == "Greeter"
    assert application["status"]["packages"] == 2
    assert [version["version"] for version in application["status"]["versions"]] == ["1.0", "2.0-beta"]
    listing = ready.cli("app", "list").stdout
    assert "Greeter" in listing
    assert "tools" in listing


def test_an_active_package_tells_its_content_and_takes_the_leave_to_upload_back(ready: Namespace) -> None:
    package = ready.get("phpkg", "greeter.1.0")
    assert package["status"]["state"] == "Active"
    assert package["status"]["sha256"] == package["spec"]["sha256"]
    assert package["status"]["files"] == 1

    def settled() -> bool:
        annotations = ready.get("phpkg", "greeter.1.0")["metadata"].get("annotations", {})
        secrets = ready.kubectl("get", "secrets", "-o", "name")
        return "packhorse.dev/upload" not in annotations and "upload" not in secrets

    eventually(settled, "the annotation and the Secret of the upload are gone")


def test_a_task_finds_its_application_by_every_form_of_the_variable(ready: Namespace) -> None:
    forms = ["greeter", "GREETER", "Greeter", "greeter_1_0", "GREETER_1_0", "Greeter_1_0"]
    lines = "; ".join(f"test -x $AZ_BATCH_APP_PACKAGE_{form}/bin/greet && echo {form}" for form in forms)
    number_sign = "tr '\\0' '\\n' </proc/$$/environ | grep -c '^AZ_BATCH_APP_PACKAGE_Greeter#1.0='"
    ready.apply(task("forms", "work", f"{lines}; {number_sign}"))
    status = ready.finished("forms")
    assert status["output"]["stdout"].split() == [*forms, "1"]


def test_a_tasks_end_lands_in_its_status(ready: Namespace) -> None:
    ready.apply(task("speaks", "work", f"{GREET} Ada; echo trouble >&2; exit 3"))
    status = ready.finished("speaks")
    info = status["executionInfo"]
    assert (info["exitCode"], info["result"]) == (3, "failure")
    assert info["failureInfo"]["code"] == "FailureExitCode"
    assert info["failureInfo"]["category"] == "UserError"
    assert status["output"] == {"stdout": "greeter 1.0, Ada\n", "stderr": "trouble\n"}
    assert status["nodeName"] in {"work-0", "work-1", "work-2"}
    assert status["attempt"] == 1
    begin, end = (datetime.datetime.fromisoformat(info[name]) for name in ("startTime", "endTime"))
    assert begin <= end
    ready.wait("phtask/speaks", "condition=Failed")


def test_a_task_without_fault_is_complete(ready: Namespace) -> None:
    ready.apply(task("fine", "work", "true"))
    ready.wait("phtask/fine", "condition=Complete")
    assert ready.get("phtask", "fine")["status"]["executionInfo"]["result"] == "success"


def test_a_tasks_own_package_is_installed_on_its_node_and_seen_by_it_alone(ready: Namespace) -> None:
    look = "cat $AZ_BATCH_APP_PACKAGE_tools_7/share/motto.txt"
    with_tools = {"applicationPackageReferences": [{"applicationId": "tools", "version": "7"}], "requiredSlots": 2}
    ready.apply(task("own", "work", look, **with_tools))
    assert ready.finished("own")["output"]["stdout"] == "pack light\n"
    blind = [task(f"blind-{number}", "work", "env | grep -c _tools", requiredSlots=2) for number in range(3)]
    ready.apply(*blind)
    for number in range(3):
        assert ready.finished(f"blind-{number}")["output"]["stdout"] == "0\n"


def test_tasks_are_spread_over_all_nodes(ready: Namespace) -> None:
    ready.apply(*[task(f"spread-{number}", "work", "sleep 3") for number in range(6)])
    nodes = [ready.finished(f"spread-{number}")["nodeName"] for number in range(6)]
    assert sorted(nodes) == ["work-0", "work-0", "work-1", "work-1", "work-2", "work-2"]


def test_the_command_line_submits_waits_and_reads(ready: Namespace, tmp_path: Path) -> None:
    submit = ["task", "submit", "--pool", "work", "--name", "typed", "--env", "WHO=Grace", "--wait"]
    ready.cli(*submit, "--", f"{GREET} $WHO; seq 1000; printf 'a\\0b' > picture.bin")
    logs = ready.cli("task", "logs", "typed").stdout
    assert logs.startswith("greeter 1.0, Grace\n1\n")
    assert logs.endswith("\n1000\n")
    ready.cli("task", "cp", "typed:picture.bin", str(tmp_path / "picture.bin"))
    assert (tmp_path / "picture.bin").read_bytes() == b"a\0b"
    failing = ready.cli("task", "submit", "--pool", "work", "--wait", "--", "exit 4", check=False)
    assert failing.returncode == 1


def test_nodes_are_hardened(ready: Namespace) -> None:
    """No token, no route into the agent's files, packages read-only; and the namespace is a restricted one."""
    look = [
        "ls /var/run/secrets 2>&1",
        "ls -A $AZ_BATCH_NODE_ROOT_DIR/.packhorse",
        "touch $AZ_BATCH_APP_PACKAGE_greeter/new 2>&1",
        "id -u",
    ]
    ready.apply(task("looks", "work", "; ".join(look)))
    output = ready.finished("looks")["output"]["stdout"]
    assert "No such file or directory" in output
    assert "agent" not in output
    assert "Read-only file system" in output
    assert output.endswith("\n10002\n")


def test_deleting_a_running_task_ends_its_processes(ready: Namespace) -> None:
    ready.apply(task("long", "work", "sleep 4711 & sleep 4712"))
    eventually(lambda: ready.get("phtask", "long")["status"]["state"] == "running", "it runs")
    node = ready.get("phtask", "long")["status"]["nodeName"]
    each = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$file; echo; done 2>/dev/null"
    count = f"{each} | grep -cx 'sleep 471[12] ' || true"

    def sleeping() -> int:
        return int(ready.kubectl("exec", node, "-c", "node", "--", "/bin/sh", "-c", count).strip())

    eventually(lambda: sleeping() == 2, "both processes are there")
    ready.kubectl("delete", "phtask", "long")
    eventually(lambda: sleeping() == 0, "no process of the task is left")
    eventually(lambda: ready.nodes("work")[node]["runningTasks"] == 0, "its slot is free")


def test_a_task_that_takes_too_long_is_ended(ready: Namespace) -> None:
    ready.apply(task("slow", "work", "sleep 600", constraints={"maxWallClockTime": "1s"}))
    info = ready.finished("slow")["executionInfo"]
    assert info["failureInfo"]["code"] == "TaskEnded"
    assert info["failureInfo"]["category"] == "ServerError"


def test_a_failing_command_is_run_again_in_a_clean_directory(ready: Namespace) -> None:
    command = 'ls; echo clean; touch left-behind; test "$AZ_BATCH_TASK_ATTEMPT" = 3 || exit 7'
    ready.apply(task("again", "work", command, constraints={"maxTaskRetryCount": 5}))
    status = ready.finished("again")
    assert status["executionInfo"]["result"] == "success"
    assert status["executionInfo"]["retryCount"] == 2
    assert status["attempt"] == 3
    assert status["output"]["stdout"] == "clean\n"


# The last test of the file: it changes the pool.
def test_another_version_reaches_the_rebooted_node_alone(ready: Namespace) -> None:
    ready.kubectl("patch", "phpool", "work", "--type=merge", "-p", '{"spec":{"applicationPackageReferences":['
                  '{"applicationId":"greeter","version":"2.0-beta"}]}}')  # fmt: skip
    eventually(lambda: ready.get("phpool", "work")["status"]["outdatedNodes"] == 3, "all nodes are outdated")
    before = ready.get("pod", "work-1")["metadata"]["uid"]
    ready.kubectl("delete", "pod", "work-1")
    eventually(lambda: ready.get("pod", "work-1")["metadata"]["uid"] != before, "another pod")
    nodes = ready.idle("work", 3)
    versions = {name: [package["version"] for package in node["packages"]] for name, node in nodes.items()}
    assert versions == {"work-0": ["1.0"], "work-1": ["2.0-beta"], "work-2": ["1.0"]}
    assert [name for name, node in nodes.items() if node["upToDate"]] == ["work-1"]
    ready.apply(*[task(f"which-{number}", "work", f"{GREET} all; sleep 2", requiredSlots=2) for number in range(3)])
    seen = {
        status["nodeName"]: status["output"]["stdout"]
        for status in map(ready.finished, ["which-0", "which-1", "which-2"])
    }
    assert seen == {
        "work-0": "greeter 1.0, all\n",
        "work-1": "greeter 2.0-beta, all\n",
        "work-2": "greeter 1.0, all\n",
    }
    shown = ready.cli("pool", "show", "work").stdout
    assert "Greeter#2.0-beta" in shown
    kept = ready.kubectl("exec", "work-1", "-c", "node", "--", "ls", "/mnt/batch/tasks/applications/greeter")
    assert kept.split() == ["1.0", "2.0-beta"], "a reboot keeps what earlier deployments left"
