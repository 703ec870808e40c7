import json
import os
import signal
import threading

import pytest
import yaml

from packhorse.cli.options import RunningTasks
from packhorse.model import RunningTaskOption
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.fake_nodes import (
    DISABLE,
    REBOOT,
    SINCE,
    NodeOperator,
    add_pod,
    add_pool,
    annotations,
    broken,
    change_nodes,
    node,
    now,
    pod,
)

PATIENCE = ("--timeout", "30s")


def test_options_for_running_tasks_are_the_models() -> None:
    assert [option.value for option in RunningTasks] == [option.value for option in RunningTaskOption]


def test_nodes_are_a_table(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    add_pool(cluster, node("films-0", "running", schedulingState="disabled"), name="films")

    everywhere = packhorse("node", "list").stdout.splitlines()
    there = packhorse("node", "list", "render").stdout.splitlines()

    assert everywhere[0].split()[:3] == ["POOL", "NODE", "STATE"]
    assert [line.split()[:3] for line in everywhere[1:]] == [
        ["films", "films-0", "running"],
        ["render", "render-0", "idle"],
        ["render", "render-1", "idle"],
    ]
    assert everywhere[1].split()[-2:] == ["offline", "worker-1"], "it waits to be offline"
    assert [line.split()[0] for line in there] == ["NODE", "render-0", "render-1"]


def test_nodes_in_other_forms(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0"))

    assert packhorse("node", "list", "-o", "name").stdout == "pod/render-0\n"
    for form, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        entries = load(packhorse("node", "list", "-o", form).stdout)
        assert entries == [{"pool": "render", **node("render-0")}]
        one = load(packhorse("node", "show", "render-0", "-o", form).stdout)
        assert (one["pool"], one["name"], one["state"]) == ("render", "render-0", "idle")
    assert "abababababab" in packhorse("node", "list", "-o", "wide").stdout
    assert packhorse("node", "show", "render-0", "-o", "name").stdout == "pod/render-0\n"


def test_no_nodes_are_said_beside_the_result(cluster: FakeCluster, packhorse: Run) -> None:
    empty = packhorse("node", "list")
    cluster.put("pools", "render", spec={"image": "x", "targetNodes": 0}, status={})
    of_pool = packhorse("node", "list", "render")

    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "No nodes in namespace default.\n")
    assert (of_pool.exit_code, of_pool.stdout, of_pool.stderr) == (0, "", "Pool render has no nodes.\n")
    assert packhorse("node", "list", "films").exit_code == 1
    assert packhorse("node", "list", "-o", "name").stdout == ""


def test_node_is_shown_with_its_errors(cluster: FakeCluster, packhorse: Run) -> None:
    info = {"state": "completed", "startTime": SINCE, "endTime": SINCE, "exitCode": 3, "retryCount": 2}
    info |= {"result": "failure"}
    add_pool(cluster, {**broken("render-0"), "schedulingState": "disabled", "startTaskInfo": info})

    text = packhorse("node", "show", "render-0").stdout

    facts = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    assert facts["Pool"] == "render"
    assert facts["State"].startswith("unusable since ")
    assert facts["Scheduling"] == "disabled"
    assert facts["Tasks"] == "0 tasks, slots: 2"
    assert facts["Packages"] == "none"
    assert facts["Up to date"] == "no"
    assert facts["Start task"].startswith("failure, exit code 3, 2 retries, ")
    assert "render-0: ApplicationPackageError: One or more application packages" in text
    assert "  Cause: no route to the storage account" in text


def test_node_that_waits_for_its_tasks(cluster: FakeCluster, packhorse: Run) -> None:
    info = {"state": "running", "startTime": now(), "retryCount": 1}
    add_pool(cluster, node("render-0", "running", pending="reimage", startTaskInfo=info))

    text = packhorse("node", "show", "render-0").stdout

    assert "reimage, once its tasks have ended" in text
    assert "running, 1 retry, since " in text


def test_node_that_the_operator_has_not_seen(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    add_pod(cluster, "render-2")

    assert "not known yet" in packhorse("node", "show", "render-2").stdout
    assert json.loads(packhorse("node", "show", "render-2", "-o", "json").stdout) == {
        "pool": "render",
        "name": "render-2",
    }


@pytest.mark.parametrize("command", ["show", "reboot", "reimage", "disable", "enable", "logs"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("render-7", ("pool render has 2 nodes: render-0, render-1.", "packhorse node list render")),
        ("films-0", ("no pool that it may belong to. The pools here: render.", "packhorse node list")),
        ("web", ("Pod web is no node", "packhorse node list")),
        ("render", ("There is no node 'render' here", "POOL-NUMBER")),
    ],
)
def test_node_that_is_none(
    command: str, name: str, words: tuple[str, ...], cluster: FakeCluster, packhorse: Run
) -> None:
    add_pool(cluster)
    cluster.put("pods", "web", metadata={"uid": "1"}, spec={})

    result = packhorse("node", command, name)

    assert result.exit_code == 1
    assert all(text in result.stderr for text in words), result.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_namespace_without_pools_has_no_nodes(packhorse: Run) -> None:
    assert "There are no pools here: check the namespace (-n)." in packhorse("node", "show", "render-0").stderr


# --- reboot and reimage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["reboot", "reimage"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("", "now; tasks that run there are requeued"),
        ("requeue", "now; tasks that run there are requeued"),
        ("terminate", "once the tasks that run there are terminated"),
        ("taskcompletion", "once the tasks that run there are completed"),
    ],
)
def test_restart_is_asked_for_by_an_annotation(
    way: str, option: str, words: str, cluster: FakeCluster, packhorse: Run
) -> None:
    add_pool(cluster)

    result = packhorse("node", way, "render-0", "render-1", *(("--running-tasks", option) if option else ()))

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"node/render-{number} {way}s {words}" for number in range(2)]
    assert annotations(cluster, "render-1") == {f"packhorse.dev/{way}": option or "requeue"}


def test_node_that_may_be_lost_is_told(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", "unknown"), node("render-1"))

    result = packhorse("node", "reboot", "render-0", "render-1")

    assert result.stderr.startswith("There is no contact with render-0.")
    assert "kubectl delete pod render-0 --force" in result.stderr
    assert "render-1" not in result.stderr


def test_no_node_is_restarted_where_one_is_missing(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    assert packhorse("node", "reboot", "render-0", "render-7").exit_code == 1
    assert annotations(cluster, "render-0") == {}
    assert packhorse("node", "reboot", "render-0", "--running-tasks", "kill").exit_code == 2
    assert packhorse("node", "reboot", "render-0", "--wait", "--timeout", "soon").exit_code == 2


def test_restart_is_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    cluster.react(NodeOperator(render_1=node("render-1", "running")))

    result = packhorse("node", "reboot", "render-0", "render-1", "--wait", *PATIENCE)

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[2:] == ["node/render-0 idle", "node/render-1 running"]


def test_what_is_told_of_the_old_pod_does_not_count(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    later = node("render-1")

    def nothing(fake: FakeCluster) -> None:
        assert annotations(fake, "render-0") == {REBOOT: "requeue"}

    def run(fake: FakeCluster) -> None:
        change_nodes(fake, node("render-0", "running", stateTransitionTime=now()), later)

    def replace(fake: FakeCluster) -> None:
        add_pod(fake, "render-0")  # the status still says running, as the old pod was

    def start(fake: FakeCluster) -> None:
        change_nodes(fake, node("render-0", "starting", stateTransitionTime=now()), later)

    def end(fake: FakeCluster) -> None:
        change_nodes(fake, node("render-0", stateTransitionTime=now()), later)

    # The first look finds the node; the others wait.
    cluster.on_get["pools"] = [lambda _: None, nothing, run, replace, start, end]

    result = packhorse("node", "reboot", "render-0", "--wait", *PATIENCE)

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == ["node/render-0 idle"]
    assert cluster.on_get["pools"] == []


@pytest.mark.parametrize("state", ["unusable", "starttaskfailed"])
def test_node_that_comes_back_broken_is_exit_code_1(state: str, cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    cluster.react(NodeOperator(render_0={**broken("render-0"), "state": state}))

    result = packhorse("node", "reimage", "render-0", "--wait", *PATIENCE)

    assert result.exit_code == 1
    assert f"node/render-0 {state}: ApplicationPackageError: One or more" in result.stdout
    assert "1 of 1 node cannot run tasks: render-0." in result.stderr
    assert "packhorse node show render-0" in result.stderr


def test_restart_that_takes_too_long(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    result = packhorse("node", "reboot", "render-0", "--wait", "--timeout", "1s")

    assert result.exit_code == 1
    assert "The time is up: 1 of 1 node not back: render-0." in result.stderr
    assert "The reboot goes on; see: packhorse node list render" in result.stderr


def test_interrupted_wait_leaves_the_restart(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    cluster.on_get["pools"] = [lambda _: None, lambda _: os.kill(os.getpid(), signal.SIGINT)]

    result = packhorse("node", "reboot", "render-0", "--wait", *PATIENCE)

    assert result.exit_code == 130
    assert "Interrupted: 0 of 1 node back; the reboot goes on." in result.stderr


def test_node_that_leaves_meanwhile_is_not_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    def leave(fake: FakeCluster) -> None:
        fake.update("pools", "render", spec={"targetNodes": 1})
        fake.remove("pods", "render-1")
        change_nodes(fake, node("render-0"))

    cluster.on_get["pools"] = [lambda _: None, leave]

    result = packhorse("node", "reboot", "render-1", "--wait", *PATIENCE)

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == ["node/render-1 left the pool"]


@pytest.mark.parametrize("gone", [True, False])
def test_node_that_is_restarting(gone: bool, cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", "rebooting"))
    if gone:
        cluster.remove("pods", "render-0")
    else:
        cluster.update("pods", "render-0", metadata={"deletionTimestamp": SINCE})

    assert packhorse("node", "reboot", "render-0").stdout == "node/render-0 is restarting already\n"
    for command in ("reimage", "disable", "enable"):
        refused = packhorse("node", command, "render-0")
        assert refused.exit_code == 1
        assert "Node render-0 is restarting now" in refused.stderr
        assert "packhorse node show render-0" in refused.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_restart_that_was_under_way_is_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", "rebooting"))
    cluster.remove("pods", "render-0")

    def come(fake: FakeCluster) -> None:
        add_pod(fake, "render-0")
        change_nodes(fake, node("render-0", stateTransitionTime=now()))

    cluster.on_get["pools"] = [lambda _: None, come]

    result = packhorse("node", "reboot", "render-0", "--wait", *PATIENCE)

    assert result.stdout.splitlines() == ["node/render-0 is restarting already", "node/render-0 idle"]


# --- scheduling ------------------------------------------------------------------------------------------------------


def test_scheduling_is_disabled_and_enabled(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    first = packhorse("node", "disable", "render-0", "render-1")
    again = packhorse("node", "disable", "render-0")
    other = packhorse("node", "disable", "render-0", "--running-tasks", "taskcompletion")

    assert first.stdout.splitlines() == [f"node/render-{n} disabled; tasks that run there are requeued" for n in (0, 1)]
    assert (again.exit_code, again.stdout) == (0, "node/render-0 unchanged (scheduling is disabled already)\n")
    assert other.stdout == "node/render-0 disabled; tasks that run there go on to their ends\n"
    assert annotations(cluster, "render-0") == {DISABLE: "taskcompletion"}

    enabled = packhorse("node", "enable", "render-0")
    again = packhorse("node", "enable", "render-0")

    assert enabled.stdout == "node/render-0 enabled\n"
    assert (again.exit_code, again.stdout) == (0, "node/render-0 unchanged (scheduling is enabled already)\n")
    assert annotations(cluster, "render-0") == {}


def test_missing_right_to_change_pods_is_told(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    refused = {"kind": "Status", "reason": "Forbidden", "message": 'pods "render-0" is forbidden: cannot patch'}
    cluster.refusals["PATCH", "pods"] = (403, refused)

    result = packhorse("node", "disable", "render-0")

    assert result.exit_code == 1
    assert "cannot patch" in result.stderr
    assert "administrator" in result.stderr


# --- the start task's output -----------------------------------------------------------------------------------------

START = {"commandLine": "./prepare"}
RUNNING = {"state": "running", "startTime": SINCE}
DONE = {"state": "completed", "startTime": SINCE, "endTime": SINCE, "exitCode": 0, "result": "success"}


def write(cluster: FakeCluster, text: str, file: str = "stdout.txt") -> None:
    """What the start task of node render-0 has written."""
    folder = cluster.folder / "startup"
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(text)


def test_output_of_the_start_task(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", startTaskInfo=DONE), startTask=START)
    write(cluster, "ready\n" * 1000)
    write(cluster, "a warning\n", "stderr.txt")

    assert packhorse("node", "logs", "render-0").stdout == "ready\n" * 1000
    assert packhorse("node", "logs", "--stderr", "render-0").stdout == "a warning\n"
    assert packhorse("node", "logs", "-f", "render-0").stdout == "ready\n" * 1000


def test_output_where_there_is_none(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    none = packhorse("node", "logs", "render-0")
    cluster.update("pools", "render", spec={"startTask": START})
    nothing = packhorse("node", "logs", "render-0")
    change_nodes(cluster, node("render-0", startTaskInfo=DONE))
    followed = packhorse("node", "logs", "-f", "render-0")
    cluster.node_runs = False
    down = packhorse("node", "logs", "render-0")

    assert {result.exit_code for result in (none, nothing, followed, down)} == {1}
    assert "Node render-0 has no start task: pool render says none." in none.stderr
    assert "The start task of node render-0 has written nothing: it has not begun." in nothing.stderr
    assert "The start task of node render-0 has written nothing: it is completed." in followed.stderr
    assert "Node render-0 does not run now" in down.stderr
    assert "packhorse node show render-0" in down.stderr


def test_followed_output_begins_anew_with_a_retry(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", "waitingforstarttask"), startTask=START)

    def go_on() -> None:
        assert cluster.executed.wait_for(1)  # the file is not there yet
        write(cluster, "try one\n")
        change_nodes(cluster, node("render-0", "waitingforstarttask", startTaskInfo=RUNNING))
        assert cluster.executed.wait_for(2)
        (cluster.folder / "startup/stdout.txt").unlink()
        write(cluster, "try two\n")
        retry = {**DONE, "startTime": now(), "retryCount": 1}
        change_nodes(cluster, node("render-0", startTaskInfo=retry))

    thread = threading.Thread(target=go_on)
    thread.start()
    result = packhorse("node", "logs", "-f", "render-0")
    thread.join()

    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("try two\n")
    assert "The start task was run again: retry 1." in result.stderr


def test_pool_that_goes_ends_the_wait(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    cluster.on_get["pools"] = [lambda _: None, lambda fake: fake.remove("pools", "render")]

    result = packhorse("node", "reboot", "render-0", "--wait", *PATIENCE)

    assert result.exit_code == 1
    assert "There is no pool 'render' here." in result.stderr
    assert pod(cluster, "render-0")
    assert cluster.find("pools", "render") is None
