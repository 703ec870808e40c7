import json
from datetime import UTC, datetime

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.fake_nodes import (
    FFMPEG,
    SINCE,
    NodeOperator,
    add_pod,
    add_pool,
    broken,
    change_nodes,
    node,
    pod,
    pool,
)
from tests.unit.cli.fake_operator import add_package, condition


def test_pools_are_a_table(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    add_pool(cluster, broken("films-0"), name="films", autoScale={"minNodes": 0, "maxNodes": 20})
    cluster.update("pools", "render", status={"idleNodes": 2})
    cluster.update(
        "pools", "films", status={"unusableNodes": 1, "allocationState": "resizing"}, spec={"targetNodes": 3}
    )

    lines = packhorse("pool", "list").stdout.splitlines()
    wide = packhorse("pool", "list", "-o", "wide").stdout.splitlines()

    assert lines[0].split() == ["POOL", "NODES", "STATE", "IDLE", "RUNNING", "UNUSABLE", "OUTDATED", "AGE"]
    assert lines[1].split()[:-1] == ["films", "1/3", "resizing", "0", "0", "1", "0"]
    assert lines[2].split()[:-1] == ["render", "2/2", "steady", "2", "0", "0", "0"]
    assert wide[1].split()[-3:] == ["0-20", "ffmpeg#4.2.2@abababababab", "debian:bookworm-slim"]
    assert packhorse("pool", "list", "-o", "name").stdout == "pool.packhorse.dev/films\npool.packhorse.dev/render\n"


def test_no_pools_is_said_beside_the_result(packhorse: Run) -> None:
    result = packhorse("pool", "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "No pools in namespace default." in result.stderr


# --- one pool --------------------------------------------------------------------------------------------------------


def facts(text: str) -> dict[str, str]:
    lines = text.partition("\n\n")[0].splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_pool_shows_its_nodes_and_their_errors(cluster: FakeCluster, packhorse: Run) -> None:
    old = {**FFMPEG, "sha256": "cd" * 32}
    behind = node("render-1", "running", packages=[old], upToDate=False, pending="reboot")
    add_pool(cluster, node("render-0"), behind, broken("render-2"))
    trouble = [condition("Ready", "False", "1 of 3 nodes is unusable"), condition("PackagesResolved", "True")]
    cluster.update("pools", "render", status={"conditions": trouble})

    text = packhorse("pool", "show", "render").stdout

    told = facts(text)
    assert told["Nodes"] == "3 of 3 (steady)"
    assert told["States"] == "1 idle, 1 running, 1 unusable"
    assert told["References"] == "ffmpeg (default version)"
    assert told["Installs now"] == "ffmpeg#4.2.2@abababababab"
    assert told["Updates"] == "OnReboot"
    assert told["Not ready"] == "1 of 3 nodes is unusable"
    assert "Packages" not in told
    rows = [line.split("  ") for line in text.splitlines() if line.startswith("render-")][:3]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0][:2] + cells[0][3:] == ["render-0", "idle", "ffmpeg#4.2.2", "yes", "0", "<none>", "worker-1"]
    assert cells[1][3:] == ["ffmpeg#4.2.2 (old)", "no", "1", "reboot", "worker-1"]
    assert cells[2][:2] + cells[2][3:5] == ["render-2", "unusable", "<none>", "no"]
    assert "render-2: ApplicationPackageError: One or more" in text
    assert text.endswith("  Cause: no route to the storage account\n")


def test_wide_pool_shows_digests(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    assert text_of_node(packhorse("pool", "show", "render", "-o", "wide").stdout) == "ffmpeg#4.2.2@abababababab"


def text_of_node(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("render-0")).split()[3]


def test_pool_that_scales_and_rolls_says_so(cluster: FakeCluster, packhorse: Run) -> None:
    limits = {"minNodes": 1, "maxNodes": 20, "scaleDownDelay": "10m"}
    add_pool(cluster, autoScale=limits, nodeUpdatePolicy="Rolling", rollingUpdate={"maxUnavailable": 2})
    run = {"neededNodes": 1, "peakNodes": 2, "scaleDownSince": datetime.now(UTC).isoformat()}

    first = facts(packhorse("pool", "show", "render").stdout)
    cluster.update("pools", "render", status={"autoScaleRun": run})
    second = facts(packhorse("pool", "show", "render").stdout)

    assert first["Autoscale"] == "1 to 20 nodes"
    assert second["Autoscale"].startswith("1 to 20 nodes; needed now: 1; at most 2 for ")
    assert second["Autoscale"].endswith("s, goes down after 10m")
    assert second["Updates"] == "Rolling, at most 2 nodes unavailable"


def test_what_was_asked_of_a_pool_is_shown(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", "running", pending="reboot"))
    asked = {"packhorse.dev/reboot-before": SINCE, "packhorse.dev/running-tasks": "taskcompletion"}
    cluster.update("pools", "render", metadata={"generation": 2, "annotations": asked})

    told = facts(packhorse("pool", "show", "render").stdout)
    cluster.update("pools", "render", metadata={"annotations": {"packhorse.dev/reboot-before": "soon"}})
    wrong = facts(packhorse("pool", "show", "render").stdout)

    assert told["Reboots"] == f"nodes from before {SINCE}; running tasks: taskcompletion"
    assert told["Note"] == "the operator has not acted on the latest change yet"
    assert wrong["Not understood"] == "packhorse.dev/reboot-before: soon"


def test_pool_that_goes_says_so(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    cluster.update("pools", "render", metadata={"deletionTimestamp": SINCE})

    assert facts(packhorse("pool", "show", "render").stdout)["Deleting"].startswith("since ")
    assert " deleting " in packhorse("pool", "list").stdout


def test_pool_as_json_is_the_object(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    assert json.loads(packhorse("pool", "show", "render", "-o", "json").stdout)["spec"]["targetNodes"] == 2


def test_state_of_a_newer_operator_is_no_traceback(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, node("render-0", "levitating"))

    result = packhorse("pool", "show", "render")

    assert result.exit_code == 1
    assert "does not understand Pool 'render': status.nodes.0.state" in result.stderr
    assert "update this program" in result.stderr


# --- packages --------------------------------------------------------------------------------------------------------


def references(cluster: FakeCluster) -> object:
    return pool(cluster)["spec"]["applicationPackageReferences"]


def test_packages_are_replaced(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)
    add_package(cluster, "ffmpeg.7.0.2")
    add_package(cluster, "blender.4.2", application={"defaultVersion": "4.2"})

    first = packhorse("pool", "set", "render", "--package", "ffmpeg#7.0.2", "--package", "Blender")
    again = packhorse("pool", "set", "render", "--package", "ffmpeg:7.0.2", "--package", "Blender")

    assert first.exit_code == 0, first.output
    assert first.stdout == "pool/render packages: ffmpeg#7.0.2, Blender (were: ffmpeg)\n"
    assert "2 nodes keep what they have until they are rebooted: packhorse pool reboot render" in first.stderr
    assert references(cluster) == [{"applicationId": "ffmpeg", "version": "7.0.2"}, {"applicationId": "Blender"}]
    assert again.stdout == "pool/render unchanged (packages: ffmpeg#7.0.2, Blender)\n"


def test_packages_are_removed_and_rolling_pools_update_themselves(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, nodeUpdatePolicy="Rolling")

    result = packhorse("pool", "set", "render", "--no-packages")

    assert result.stdout == "pool/render packages: none (were: ffmpeg)\n"
    assert "The operator updates 2 nodes" in result.stderr
    assert references(cluster) == []


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("blender", "there is no application blender here", "packhorse app list"),
        ("ffmpeg", "application ffmpeg has no default version", "Active versions: 2."),
        ("ffmpeg#1", "version 1 of ffmpeg is not active: it is damaged", "Active versions: 2."),
        ("ffmpeg#9", "version 9 of ffmpeg is not active: there is no such package", "Active versions: 2."),
    ],
)
def test_packages_that_are_not_active_are_refused(
    reference: str, message: str, hint: str, cluster: FakeCluster, packhorse: Run
) -> None:
    add_pool(cluster)
    add_package(cluster, "ffmpeg.1", state="Failed", message="it is damaged")
    add_package(cluster, "ffmpeg.2")

    result = packhorse("pool", "set", "render", "--package", "ffmpeg#2", "--package", reference)

    assert result.exit_code == 1
    assert f"InvalidApplicationPackageReferences: {message}" in result.stderr
    assert hint in result.stderr
    assert references(cluster) == [{"applicationId": "ffmpeg"}]


@pytest.mark.parametrize("options", [[], ["--package", "ffmpeg", "--no-packages"], ["--package", "ffmpeg#"]])
def test_packages_have_to_be_said(options: list[str], cluster: FakeCluster, packhorse: Run) -> None:
    assert packhorse("pool", "set", "render", *options).exit_code == 2
    assert cluster.requests == []


# --- size ------------------------------------------------------------------------------------------------------------


def test_pool_is_resized_through_its_scale(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    first = packhorse("pool", "resize", "render", "5")
    again = packhorse("pool", "resize", "render", "5")

    assert first.stdout == "pool/render resized from 2 to 5 nodes\n"
    assert again.stdout == "pool/render unchanged (5 nodes)\n"
    assert pool(cluster)["spec"]["targetNodes"] == 5
    patched = [path for method, path in cluster.requests if method == "PATCH"]
    assert patched == ["/apis/packhorse.dev/v1alpha1/namespaces/default/pools/render/scale"]


def test_running_tasks_of_nodes_that_leave(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    result = packhorse("pool", "resize", "render", "0", "--running-tasks", "taskcompletion")

    assert result.stdout.splitlines() == [
        "pool/render running tasks of nodes that leave: taskcompletion",
        "pool/render resized from 2 to 0 nodes",
    ]
    assert pool(cluster)["spec"]["nodeDeallocationOption"] == "taskcompletion"
    assert packhorse("pool", "resize", "render", "1", "--running-tasks", "never").exit_code == 2
    assert packhorse("pool", "resize", "render", "-1").exit_code == 2


def test_pool_that_scales_by_itself_is_not_resized(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, autoScale={"minNodes": 1, "maxNodes": 20})

    result = packhorse("pool", "resize", "render", "5", "--running-tasks", "terminate")

    assert result.exit_code == 1
    assert "its autoScale sets the number of its nodes, 1 to 20." in result.stderr
    assert "packhorse pool autoscale disable render --target N" in result.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


@pytest.mark.parametrize("count", [0, 1, 4])
def test_resize_is_awaited(count: int, cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    def go_on(fake: FakeCluster) -> None:
        moving = [node(f"render-{number}", "starting") for number in range(count)]
        change_nodes(fake, *moving, allocationState="resizing")
        change_nodes(fake, *moving, allocationState="steady")
        change_nodes(fake, *(node(f"render-{number}") for number in range(count)))

    cluster.on_watch.append(go_on)

    result = packhorse("pool", "resize", "render", str(count), "--wait", "--timeout", "30s")

    assert result.exit_code == 0, result.output
    plural = "node" if count == 1 else "nodes"
    assert result.stdout.splitlines()[1] == f"pool/render steady: {count} {plural}"


def test_resize_fails_where_a_new_node_cannot_run_tasks(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, broken("render-0"))
    cluster.react(NodeOperator(render_2=broken("render-2")))

    result = packhorse("pool", "resize", "render", "3", "--wait", "--timeout", "30s")
    elder = packhorse("pool", "resize", "render", "3", "--wait", "--timeout", "30s")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[1] == "pool/render steady: 3 nodes"
    assert "1 of the new nodes cannot run tasks: render-2. render-2 is unusable: ApplicationPackage" in result.stderr
    assert "packhorse pool show render" in result.stderr
    assert elder.exit_code == 0, "the nodes that there were are not of this resize"


def test_resize_that_takes_too_long(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    result = packhorse("pool", "resize", "render", "3", "--wait", "--timeout", "1s")

    assert result.exit_code == 1
    assert "The time is up: pool render has 2 of 3 nodes." in result.stderr
    assert "The resize goes on" in result.stderr


@pytest.mark.parametrize(
    ("happening", "message"),
    [
        (lambda fake: fake.update("pools", "render", spec={"targetNodes": 7}), "was resized to 7 meanwhile"),
        (lambda fake: fake.remove("pools", "render"), "was deleted meanwhile"),
    ],
)
def test_resize_that_somebody_else_ends(
    happening: "object", message: str, cluster: FakeCluster, packhorse: Run
) -> None:
    add_pool(cluster)
    assert callable(happening)
    cluster.on_watch.append(happening)

    result = packhorse("pool", "resize", "render", "3", "--wait", "--timeout", "30s")

    assert result.exit_code == 1
    assert message in result.stderr


def test_autoscale_is_enabled_and_changed(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    first = packhorse("pool", "autoscale", "enable", "render", "--max", "20", "--scale-down-delay", "10m")
    second = packhorse("pool", "autoscale", "enable", "render", "--min", "2")
    third = packhorse("pool", "autoscale", "enable", "render", "--min", "2")

    assert first.stdout == "pool/render autoscale 0 to 20 nodes, fewer after 10m\n"
    assert second.stdout == "pool/render autoscale 2 to 20 nodes, fewer after 10m\n"
    assert third.stdout == "pool/render unchanged (autoscale 2 to 20 nodes, fewer after 10m)\n"
    assert pool(cluster)["spec"]["autoScale"] == {"minNodes": 2, "maxNodes": 20, "scaleDownDelay": "10m"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--max N"),
        (["--min", "5", "--max", "3"], "--min 5 is above --max 3."),
        (["--max", "3", "--scale-down-delay", "soon"], "'soon' is no duration"),
        (["--max", "0"], "--max"),
    ],
)
def test_autoscale_that_makes_no_sense(options: list[str], message: str, cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    result = packhorse("pool", "autoscale", "enable", "render", *options)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "autoScale" not in pool(cluster)["spec"]


def test_autoscale_is_disabled(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, autoScale={"maxNodes": 20})

    first = packhorse("pool", "autoscale", "disable", "render", "--target", "3")
    again = packhorse("pool", "autoscale", "disable", "render")

    assert first.stdout == "pool/render autoscale off, 3 nodes\n"
    assert again.stdout == "pool/render unchanged (autoscale is off, 3 nodes)\n"
    assert "autoScale" not in pool(cluster)["spec"]


# --- rebooting and deleting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["reboot", "reimage"])
def test_all_nodes_are_restarted_by_the_clock_of_the_server(way: str, cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, *(node(f"render-{number}") for number in range(7)))
    earlier = datetime.now(UTC).replace(microsecond=0)

    result = packhorse("pool", way, "render", "--running-tasks", "terminate")

    assert result.stdout == f"pool/render {way}s 7 nodes once the tasks that run there are terminated\n"
    asked = pool(cluster)["metadata"]["annotations"]
    assert asked["packhorse.dev/running-tasks"] == "terminate"
    assert earlier <= datetime.fromisoformat(asked[f"packhorse.dev/{way}-before"]) <= datetime.now(UTC)


def test_restart_of_a_pool_is_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster, *(node(f"render-{number}") for number in range(7)))
    cluster.react(NodeOperator(render_3=broken("render-3"), render_4=node("render-4", "running")))

    result = packhorse("pool", "reboot", "render", "--wait", "--timeout", "30s")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[4:6] == [
        "node/render-3 unusable: ApplicationPackageError: One or more application packages specified for the pool are"
        " invalid; Cause: no route to the storage account",
        "node/render-4 running",
    ]
    assert "1 of 7 nodes cannot run tasks: render-3." in result.stderr
    assert "packhorse node show render-3" in result.stderr


def test_nodes_that_were_just_started_are_left_alone(cluster: FakeCluster, packhorse: Run) -> None:
    later = "2999-01-01T00:00:00Z"
    add_pool(cluster, node("render-0"))
    add_pod(cluster, "render-0", creationTimestamp=later)

    none = packhorse("pool", "reboot", "render", "--wait")
    add_pod(cluster, "render-1", deletionTimestamp=SINCE)
    one = packhorse("pool", "reimage", "render")

    assert none.stdout.startswith("pool/render unchanged (it has no nodes that were started before 20")
    assert one.stdout == "pool/render reimages 1 node now; tasks that run there are requeued\n"
    assert "These are restarting already, and keep their volumes: render-1" in one.stderr


def test_pool_is_deleted_with_its_nodes(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    def collect(fake: FakeCluster) -> None:
        fake.remove("pods", "render-0")
        add_pod(fake, "render-1")  # of a new pool of that name

    cluster.on_watch.append(collect)

    result = packhorse("pool", "delete", "render")

    assert result.exit_code == 0, result.output
    assert result.stdout == "pool/render deleted\n"
    assert cluster.find("pools", "render") is None


def test_nodes_that_stay_are_named(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    result = packhorse("pool", "delete", "render", "--timeout", "1s")

    assert result.exit_code == 1
    assert "2 nodes of the pool still there: render-0, render-1." in result.stderr


def test_deletion_of_a_pool_need_not_be_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    add_pool(cluster)

    assert packhorse("pool", "delete", "render", "--wait=false").stdout == "pool/render deleted\n"
    assert pod(cluster, "render-0")
    assert packhorse("pool", "delete", "render", "--ignore-not-found").exit_code == 0
    missing = packhorse("pool", "delete", "render")
    assert missing.exit_code == 1
    assert "There is no pool 'render' here." in missing.stderr
