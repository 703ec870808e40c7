"""Tasks come to nodes and their results back, whatever fails on the way."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from packhorse.cluster.client import POD, ApiError, ApiUnavailableError
from packhorse.domain.environment import PREFIX
from packhorse.protocol import EndTask, RunTask, TaskEnded, TaskRecorded
from tests.unit.objects import LATER, NAMESPACE, NOW, deployed, raw_application, raw_package, raw_task
from tests.unit.operator.world import APPLICATION, PACKAGE, POOL, TASK, World
from tests.unit.virtual_time import run, settle


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test's coroutine in virtual time."""

    @wraps(test)
    def runs(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named))

    return runs


def lose_one_answer(world: World) -> list[str]:
    """The next patch is carried out, and its answer does not arrive; the path is noted in the returned list."""
    lost: list[str] = []

    def lose(method: str, path: str) -> bool:
        if method != "PATCH" or lost:
            return False
        lost.append(path)
        return True

    world.api.lose = lose
    return lost


@in_virtual_time
async def test_a_task_runs_and_its_result_is_recorded_once() -> None:
    world = World()
    await world.start()
    uid = world.create(commandLine="echo hello", jobId="nightly", environmentSettings=[{"name": "A", "value": "1"}])
    await settle()
    assert (world.state(uid), world.task(uid).status.node_name, world.task(uid).status.attempt) == (
        "running",
        "render-0",
        1,
    )
    (message,) = world.nodes["render-0"].messages
    assert isinstance(message, RunTask)
    assert (message.uid, message.attempt, message.command_line, message.job_id) == (uid, 1, "echo hello", "nightly")
    assert message.environment["A"] == "1"
    assert message.environment["AZ_BATCH_TASK_ATTEMPT"] == "1"
    await world.finish(uid)
    status = world.task(uid).status
    assert (status.state, status.execution_info.result, status.execution_info.exit_code) == ("completed", "success", 0)
    assert world.nodes["render-0"].messages[-1] == TaskRecorded(uid, 1)
    patches = [path for method, path in world.api.requests if method == "PATCH"]
    assert len(patches) == 2


@in_virtual_time
async def test_the_status_is_written_before_the_node_is_told() -> None:
    world = World()
    await world.start()
    world.api.refuse = lambda method, path: ApiUnavailableError("away") if method == "PATCH" else None
    uid = world.create()
    await asyncio.sleep(60)
    assert world.nodes["render-0"].messages == []
    world.api.refuse = lambda method, path: None
    await asyncio.sleep(60)
    assert world.runs(uid) == [("render-0", 1)]


@in_virtual_time
async def test_an_attempt_is_not_counted_again_when_the_answer_to_its_write_gets_lost() -> None:
    world = World()
    await world.start()
    lost = lose_one_answer(world)
    uid = world.create()
    await asyncio.sleep(60)
    assert len(lost) == 1
    assert world.runs(uid) == [("render-0", 1)]
    assert world.task(uid).status.attempt == 1


@in_virtual_time
async def test_a_failure_is_not_counted_again_when_the_answer_to_its_write_gets_lost() -> None:
    world = World()
    await world.start()
    uid = world.create(constraints={"maxTaskRetryCount": 5})
    await settle()
    lost = lose_one_answer(world)
    await world.finish(uid, 1)
    await asyncio.sleep(60)
    assert len(lost) == 1
    status = world.task(uid).status
    assert (status.execution_info.retry_count, status.attempt) == (1, 2)


@in_virtual_time
async def test_retries_until_the_limit() -> None:
    world = World()
    await world.start()
    uid = world.create(constraints={"maxTaskRetryCount": 2})
    await settle()
    for number in (1, 2, 3):
        assert world.runs(uid) == [("render-0", number)]
        await world.finish(uid, 9)
    info = world.task(uid).status.execution_info
    assert (world.state(uid), info.retry_count, info.exit_code, info.result) == ("completed", 2, 9, "failure")


@in_virtual_time
async def test_a_repeated_report_is_recorded_once_and_acknowledged_again() -> None:
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    node = world.nodes["render-0"]
    await world.finish(uid)
    recorded = world.task(uid)
    end = TaskEnded(uid, 1, NOW, LATER, exit_code=7)
    node.ended[uid, 1] = end
    node.connect(world.operator)
    await settle()
    assert world.task(uid) == recorded
    assert node.messages[-1] == TaskRecorded(uid, 1)
    assert node.ended == {}


@in_virtual_time
async def test_a_report_of_an_earlier_attempt_changes_nothing() -> None:
    world = World(nodes=2)
    await world.start()
    uid = world.create()
    await settle()
    ((first, _),) = world.runs(uid)
    stale = world.nodes[first]
    world.lose(first)
    await settle()
    ((second, number),) = world.runs(uid)
    assert (second != first, number) == (True, 2)
    again = world.boot(first)
    again.ended[uid, 1] = TaskEnded(uid, 1, NOW, LATER, exit_code=0)
    again.connect(world.operator)
    await settle()
    assert stale.ran == [(uid, 1)]
    assert (world.state(uid), world.task(uid).status.attempt) == ("running", 2)
    assert again.ended == {}


@in_virtual_time
async def test_a_lost_node_requeues_and_counts_no_retry() -> None:
    world = World(nodes=1, slots=2)
    await world.start()
    uids = [world.create(), world.create()]
    await settle()
    world.lose("render-0")
    await settle()
    assert [world.state(uid) for uid in uids] == ["active", "active"]
    world.boot("render-0").connect(world.operator)
    await settle()
    for uid in uids:
        assert world.runs(uid) == [("render-0", 2)]
        info = world.task(uid).status.execution_info
        assert (info.requeue_count, info.retry_count) == (1, 0)


@in_virtual_time
async def test_a_reboot_is_seen_also_where_the_deletion_is_not() -> None:
    """The same name, another pod."""
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    world.nodes["render-0"].disconnect()
    world.boot("render-0").connect(world.operator)
    await settle()
    assert world.runs(uid) == [("render-0", 2)]


@in_virtual_time
async def test_a_process_that_vanished_with_its_container_is_requeued() -> None:
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    await world.finish(uid, lost=True)
    info = world.task(uid).status.execution_info
    assert (info.requeue_count, info.retry_count) == (1, 0)
    assert world.runs(uid) == [("render-0", 2)]


@in_virtual_time
async def test_a_node_that_is_away_keeps_its_tasks_and_gets_no_others() -> None:
    world = World(nodes=1, slots=2)
    await world.start()
    uid = world.create()
    await settle()
    node = world.nodes["render-0"]
    node.disconnect()
    other = world.create()
    await asyncio.sleep(600)
    assert (world.state(uid), world.state(other)) == ("running", "active")
    node.finish((uid, 1))
    node.connect(world.operator)
    await settle()
    assert world.state(uid) == "completed"
    assert world.runs(other) == [("render-0", 1)]


@in_virtual_time
async def test_a_hello_without_an_attempt_gets_it_again() -> None:
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    node = world.nodes["render-0"]
    node.running.clear()  # the message was lost on its way
    node.connect(world.operator)
    await settle()
    assert [message.attempt for message in node.messages if isinstance(message, RunTask)] == [1, 1]
    assert world.task(uid).status.attempt == 1


@in_virtual_time
async def test_a_hello_with_an_attempt_that_is_not_wanted_ends_it() -> None:
    world = World()
    await world.start()
    node = world.nodes["render-0"]
    unknown = RunTask("unknown", "t", "default", 1, "sleep 1", {})
    node.running["unknown", 1] = unknown
    node.connect(world.operator)
    await settle()
    assert node.messages == [EndTask("unknown", 1)]
    node.finish(("unknown", 1))
    await settle()
    assert node.messages[-1] == TaskRecorded("unknown", 1)


@in_virtual_time
async def test_deleting_a_running_task_ends_it_and_frees_its_slots_then() -> None:
    world = World()
    await world.start()
    first = world.create()
    await settle()
    second = world.create()
    world.delete(first)
    await settle()
    node = world.nodes["render-0"]
    assert node.messages[-1] == EndTask(first, 1)
    assert world.state(second) == "active"
    node.finish((first, 1))
    await settle()
    assert TaskRecorded(first, 1) in node.messages
    assert world.runs(second) == [("render-0", 1)]


@in_virtual_time
async def test_deleting_a_task_while_its_node_is_away() -> None:
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    node = world.nodes["render-0"]
    node.disconnect()
    world.delete(uid)
    await settle()
    node.connect(world.operator)
    await settle()
    assert EndTask(uid, 1) in node.messages


@in_virtual_time
async def test_deleting_a_task_whose_write_is_in_flight() -> None:
    world = World()
    await world.start()
    world.api.latency = lambda: 1.0
    first = world.create()
    await asyncio.sleep(0.5)
    world.delete(first)
    second = world.create()
    await asyncio.sleep(60)
    assert world.nodes["render-0"].ran == [(second, 1)]


@in_virtual_time
async def test_deleting_a_waiting_task_lets_those_behind_it_go() -> None:
    world = World(slots=2)
    await world.start()
    world.create()
    await settle()
    big = world.create(requiredSlots=2)
    small = world.create()
    await settle()
    assert world.state(small) == "active"
    world.delete(big)
    await settle()
    assert world.runs(small) == [("render-0", 1)]


@in_virtual_time
async def test_a_task_that_is_being_deleted_is_not_started() -> None:
    world = World()
    await world.start()
    first = world.create()
    await settle()
    waiting = world.create("second")
    raw = dict(world.api.objects[TASK, NAMESPACE, "second"])
    raw["metadata"] = {**raw["metadata"], "deletionTimestamp": NOW, "finalizers": ["example.com/hold"]}
    world.api.put(TASK, raw)
    third = world.create()
    await world.finish(first)
    assert (world.state(waiting), world.runs(third)) == ("active", [("render-0", 1)])


@in_virtual_time
async def test_a_namesake_has_nothing_of_the_task_before() -> None:
    world = World()
    await world.start()
    first = world.create("frame", commandLine="one")
    await settle()
    world.delete(first)
    second = world.create("frame", commandLine="two")
    await settle()
    world.nodes["render-0"].finish((first, 1))
    await settle()
    assert world.runs(second) == [("render-0", 1)]
    await world.finish(second)
    assert world.task(second).status.attempt == 1


@in_virtual_time
async def test_a_namesake_is_not_given_the_status_of_the_task_before() -> None:
    """The result comes in while the API server has another task of that name already, and nobody told us so."""
    world = World()
    await world.start()
    first = world.create("frame")
    await settle()
    world.operator.delay = lambda: 5.0
    world.delete(first)
    second = world.create("frame")
    await world.finish(first)
    assert (world.state(second), world.task(second).status.attempt) == ("active", 0)
    await asyncio.sleep(60)
    assert world.runs(second) == [("render-0", 1)]


@in_virtual_time
async def test_a_task_waits_for_its_pool_and_says_so() -> None:
    world = World()
    await world.start()
    world.api.remove(POOL, NAMESPACE, "render")
    uid = world.create()
    await settle()
    scheduled = world.task(uid).status.condition("Scheduled")
    assert scheduled is not None
    assert (scheduled.status, scheduled.reason) == ("False", "PoolNotFound")
    assert "'render'" in scheduled.message
    world.make_pool()
    await settle()
    assert world.runs(uid) == [("render-0", 1)]
    assert world.task(uid).status.conditions == ()


@in_virtual_time
async def test_a_task_that_needs_more_slots_than_any_node_has_holds_nobody_up() -> None:
    world = World(slots=2)
    await world.start()
    big = world.create(requiredSlots=3)
    small = world.create()
    await settle()
    assert world.runs(small) == [("render-0", 1)]
    scheduled = world.task(big).status.condition("Scheduled")
    assert scheduled is not None
    assert scheduled.reason == "NotEnoughSlots"
    assert "3 slots" in scheduled.message
    assert "has 2" in scheduled.message


@in_virtual_time
async def test_nor_does_it_when_it_was_there_before_its_pool() -> None:
    world = World(slots=2)
    await world.start()
    world.api.remove(POOL, NAMESPACE, "render")
    big = world.create(requiredSlots=3)
    small = world.create()
    await settle()
    world.make_pool()
    await settle()
    assert world.runs(small) == [("render-0", 1)]
    scheduled = world.task(big).status.condition("Scheduled")
    assert scheduled is not None
    assert scheduled.reason == "NotEnoughSlots"


def with_packages(world: World, default: str | None = "2.7") -> None:
    world.api.put(APPLICATION, raw_application("blender", default))
    world.api.put(APPLICATION, raw_application("ffmpeg"))
    for application_id, version in (("blender", "2.7"), ("blender", "3.0"), ("ffmpeg", "7.1")):
        world.api.put(PACKAGE, raw_package(application_id, version))


def reference(application_id: str, version: str | None = None) -> dict[str, str]:
    return {"applicationId": application_id} | ({"version": version} if version else {})


@in_virtual_time
async def test_a_tasks_own_packages_are_its_own() -> None:
    world = World(slots=2, packages=(deployed("blender", "2.7"),))
    with_packages(world)
    await world.start()
    own = world.create(applicationPackageReferences=[reference("ffmpeg", "7.1"), reference("blender", "3.0")])
    other = world.create()
    await settle()
    messages = {message.uid: message for message in world.nodes["render-0"].messages if isinstance(message, RunTask)}
    assert [package.reference for package in messages[own].packages] == ["ffmpeg:7.1", "blender:3.0"]
    assert messages[other].packages == ()
    seen = {uid: {name for name in messages[uid].environment if name.startswith(PREFIX)} for uid in (own, other)}
    assert PREFIX + "ffmpeg_7_1" in seen[own]
    assert PREFIX + "blender_3_0" in seen[own]
    assert not any("ffmpeg" in name.lower() or "3" in name for name in seen[other])
    assert PREFIX + "blender_2_7" in seen[other]


@in_virtual_time
async def test_preparing_while_packages_are_installed() -> None:
    world = World()
    with_packages(world)
    await world.start()
    world.api.latency = lambda: 1.0
    uid = world.create(applicationPackageReferences=[reference("ffmpeg", "7.1")])
    states = []
    for _ in range(6):
        await asyncio.sleep(0.9)
        states.append(world.state(uid))
    assert sorted(set(states), key=states.index) == ["active", "preparing", "running"]


@in_virtual_time
async def test_a_task_that_ends_at_once_stays_completed_though_its_start_is_told_late() -> None:
    world = World()
    with_packages(world)
    await world.start()
    uid = world.create(applicationPackageReferences=[reference("ffmpeg", "7.1")])
    refused: list[str] = []

    def refuse_once(method: str, path: str) -> ApiUnavailableError | None:
        if world.state(uid) == "preparing" and not refused:
            refused.append(path)
            return ApiUnavailableError("away")
        return None

    world.api.refuse = refuse_once
    await settle()
    await world.finish(uid)
    await asyncio.sleep(60)
    assert refused
    assert world.state(uid) == "completed"


@pytest.mark.parametrize(
    ("references", "told", "cause"),
    [
        ([reference("maya", "1")], "maya:1", "no application 'maya'"),
        ([reference("ffmpeg")], "ffmpeg:None", "no default version"),
        ([reference("blender", "9")], "blender:9", "it has 2.7, 3.0"),
    ],
)
@in_virtual_time
async def test_an_unknown_package_fails_the_task_in_batchs_words(
    references: list[dict[str, str]], told: str, cause: str
) -> None:
    world = World()
    with_packages(world)
    await world.start()
    uid = world.create(applicationPackageReferences=references, constraints={"maxTaskRetryCount": 3})
    following = world.create()
    await settle()
    info = world.task(uid).status.execution_info
    assert (world.state(uid), info.result, info.retry_count, info.exit_code) == ("completed", "failure", 0, None)
    assert info.failure_info is not None
    assert info.failure_info.category == "ServerError"
    assert info.failure_info.code == "ApplicationPackageError"
    assert info.failure_info.message == "One or more application packages specified for the task are invalid"
    details = {detail.name: detail.value for detail in info.failure_info.details}
    assert details["ApplicationPackageReference"] == told
    assert cause in details["Cause"]
    assert [attempt[0] for attempt in world.nodes["render-0"].ran] == [following]


@in_virtual_time
async def test_the_default_version_is_the_one_of_now_for_each_task() -> None:
    world = World(slots=2, packages=(deployed("blender", "2.7", by_default=True),))
    with_packages(world)
    await world.start()
    first = world.create(applicationPackageReferences=[reference("blender")])
    await settle()
    world.api.put(APPLICATION, raw_application("blender", "3.0"))
    second = world.create(applicationPackageReferences=[reference("blender")])
    await settle()
    chosen = {
        message.uid: message.environment[PREFIX + "blender"]
        for message in world.nodes["render-0"].messages
        if isinstance(message, RunTask)
    }
    assert "/2.7/" in chosen[first]
    assert "/3.0/" in chosen[second]


@in_virtual_time
async def test_a_node_may_fetch_what_its_tasks_refer_to_while_they_run() -> None:
    world = World()
    with_packages(world)
    await world.start()
    uid = world.create(applicationPackageReferences=[reference("ffmpeg", "7.1")])
    await settle()
    node = (NAMESPACE, "render-0")
    assert {package.reference for package in world.operator.dispatcher.packages_for(node)} == {"ffmpeg:7.1"}
    await world.finish(uid)
    assert world.operator.dispatcher.packages_for(node) == set()


@in_virtual_time
async def test_slots_are_given_as_they_are_needed() -> None:
    world = World(nodes=2, slots=2)
    await world.start()
    wide = world.create(requiredSlots=2)
    narrow = [world.create() for _ in range(3)]
    await settle()
    ((wide_node, _),) = world.runs(wide)
    others = [world.runs(uid) for uid in narrow]
    assert others[0] == others[1] != [(wide_node, 1)]
    assert others[2] == []
    await world.finish(wide)
    assert world.runs(narrow[2]) == [(wide_node, 1)]


@in_virtual_time
async def test_a_node_that_is_being_deleted_gets_no_more_tasks() -> None:
    world = World(nodes=1, slots=2)
    await world.start()
    first = world.create()
    await settle()
    raw = dict(world.nodes["render-0"].raw)
    raw["metadata"] = {**raw["metadata"], "deletionTimestamp": NOW}
    world.api.put(POD, raw)
    second = world.create()
    await settle()
    assert (world.state(first), world.state(second)) == ("running", "active")


@in_virtual_time
async def test_presence_of_nodes() -> None:
    packages = (deployed("blender", "2.7"),)
    world = World(nodes=2, slots=2, packages=packages)
    await world.start()
    world.create()
    await settle()
    found = world.operator.dispatcher.presence((NAMESPACE, "render"))
    assert {name: presence.running for name, presence in found.items()} == {"render-0": 1, "render-1": 0}
    assert found["render-0"].packages == packages
    world.nodes["render-1"].disconnect()
    assert set(world.operator.dispatcher.presence((NAMESPACE, "render"))) == {"render-0"}
    world.lose("render-0")
    assert world.operator.dispatcher.presence((NAMESPACE, "render")) == {}


@in_virtual_time
async def test_pools_hear_of_what_changes_in_them() -> None:
    world = World()
    await world.start()
    changed, key = world.operator.changed, (NAMESPACE, "render")
    before = changed[key]
    uid = world.create()
    await settle()
    given = changed[key]
    assert given > before
    await world.finish(uid)
    assert changed[key] > given
    freed = changed[key]
    world.nodes["render-0"].disconnect()
    assert changed[key] > freed


@in_virtual_time
async def test_an_api_server_that_is_away_for_days_delays_and_loses_nothing() -> None:
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    world.api.refuse = lambda method, path: ApiUnavailableError("away")
    await world.finish(uid, 0)
    await asyncio.sleep(3 * 86400)
    world.api.refuse = lambda method, path: None
    await asyncio.sleep(60)
    assert world.state(uid) == "completed"
    assert world.nodes["render-0"].ended == {}


@in_virtual_time
async def test_a_status_that_the_api_server_calls_wrong_is_not_tried_again_at_once() -> None:
    world = World(slots=2)
    await world.start()
    tries: list[str] = []

    def refuse(method: str, path: str) -> ApiError | None:
        if method == "PATCH" and "bad" in path:
            tries.append(path)
            return ApiError(422, "Invalid", "status.attempt: Invalid value")
        return None

    world.api.refuse = refuse
    bad, good = world.create("bad"), world.create("good")
    await asyncio.sleep(120)
    assert 2 <= len(tries) <= 20
    assert (world.state(bad), world.runs(good)) == ("active", [("render-0", 1)])
    world.api.refuse = lambda method, path: None
    await asyncio.sleep(120)
    assert world.runs(bad) == [("render-0", 1)]


@in_virtual_time
async def test_a_label_set_meanwhile_is_no_hindrance() -> None:
    """Somebody changes the object between our last look at it and our write."""
    world = World()
    await world.start()
    uid = world.create("frame")
    await settle()
    world.operator.delay = lambda: 3600.0
    raw = dict(world.api.objects[TASK, NAMESPACE, "frame"])
    raw["metadata"] = {**raw["metadata"], "labels": {"seen": "true"}}
    world.api.put(TASK, raw)
    await world.finish(uid)
    await asyncio.sleep(10)
    assert world.state(uid) == "completed"


@in_virtual_time
async def test_another_operator_is_not_overruled() -> None:
    """Two operators are alive for a moment, and the other one was first."""
    world = World(nodes=2)
    await world.start()
    world.operator.delay = lambda: 5.0
    other = raw_task("frame")
    other["metadata"] |= {"uid": "theirs"}
    world.api.put(TASK, other)
    given = dict(world.api.objects[TASK, NAMESPACE, "frame"])
    given["status"] = {"state": "running", "attempt": 1, "nodeName": "render-1", "executionInfo": {}}
    world.operator.caches.tasks.put(world.api.objects[TASK, NAMESPACE, "frame"])
    world.api.put(TASK, given)
    await asyncio.sleep(60)
    assert world.nodes["render-0"].ran == []
    assert (world.task("theirs").status.attempt, world.task("theirs").status.node_name) == (1, "render-1")


@in_virtual_time
async def test_a_requeue_and_a_result_at_the_same_time_give_one_of_the_two() -> None:
    world = World(nodes=2)
    await world.start()
    uid = world.create()
    await settle()
    world.api.refuse = lambda method, path: ApiUnavailableError("away")
    ((name, _),) = world.runs(uid)
    await world.finish(uid)
    world.lose(name)
    await asyncio.sleep(10)
    world.api.refuse = lambda method, path: None
    await asyncio.sleep(60)
    info = world.task(uid).status.execution_info
    if world.state(uid) == "completed":
        assert (info.result, info.requeue_count, world.runs(uid)) == ("success", 0, [])
    else:
        assert (info.result, info.requeue_count, len(world.runs(uid))) == (None, 1, 1)


@in_virtual_time
async def test_a_restart_between_write_and_message() -> None:
    world = World()
    await world.start()
    world.api.latency = lambda: 1.0
    uid = world.create()
    await asyncio.sleep(1.5)
    assert (world.state(uid), world.nodes["render-0"].ran) == ("running", [])
    world.api.latency = lambda: 0.0
    await world.restart_operator()
    assert world.runs(uid) == [("render-0", 1)]
    await world.finish(uid)
    assert world.state(uid) == "completed"


@in_virtual_time
async def test_a_restart_while_tasks_run_starts_nothing_twice_and_gives_no_slot_twice() -> None:
    world = World(nodes=2, slots=2)
    await world.start()
    uids = [world.create(requiredSlots=2), world.create(requiredSlots=2), world.create()]
    await settle()
    await world.restart_operator()
    assert sorted(len(world.runs(uid)) for uid in uids) == [0, 1, 1]
    for uid in uids[:2]:
        await world.finish(uid)
    assert len(world.runs(uids[2])) == 1
    assert sum(len(node.ran) for node in world.nodes.values()) == 3


@in_virtual_time
async def test_a_restart_while_a_node_is_lost() -> None:
    world = World(nodes=2)
    await world.start()
    uid = world.create()
    await settle()
    ((name, _),) = world.runs(uid)
    await world.operator.kill()
    world.lose(name)
    await world.start_operator()
    ((other, number),) = world.runs(uid)
    assert (other != name, number) == (True, 2)
    assert world.task(uid).status.execution_info.requeue_count == 1


@in_virtual_time
async def test_a_task_deleted_unseen_is_not_tried_over_and_over() -> None:
    """The API server says that it is gone before the watch does."""
    world = World()
    await world.start()
    world.operator.delay = lambda: 60.0
    uid = world.create()
    await asyncio.sleep(59)
    world.delete(uid)
    await asyncio.sleep(30)
    assert len(world.api.requests) <= 2
    assert world.nodes["render-0"].ran == []


@in_virtual_time
async def test_a_start_that_was_written_while_its_node_rebooted_is_taken_back() -> None:
    world = World()
    await world.start()
    world.api.latency = lambda: 1.0
    uid = world.create()
    await asyncio.sleep(1.5)
    world.lose("render-0")
    node = world.boot("render-0")
    node.connect(world.operator)
    await asyncio.sleep(60)
    assert node.ran == [(uid, 2)]
    assert world.task(uid).status.execution_info.requeue_count == 1


@in_virtual_time
async def test_a_rebooted_node_is_not_given_more_than_it_has_slots() -> None:
    """The statuses tell more than it can hold: it was given others since, and the operator died meanwhile."""
    world = World(slots=1)
    await world.start()
    first = world.create("first")
    await settle()
    await world.operator.kill()
    second = world.create("second")
    world.api.put(TASK, {**world.api.objects[TASK, NAMESPACE, "second"], "status": world.task(first).status.dump()})
    world.lose("render-0")
    node = world.boot("render-0")
    await world.start_operator()
    assert len(node.running) == 1
    for _ in range(2):
        ((uid, _),) = node.running
        await world.finish(uid)
    assert [world.state(uid) for uid in (first, second)] == ["completed", "completed"]


@in_virtual_time
async def test_a_node_that_goes_away_unseen_is_given_nothing() -> None:
    """Its pod is so new that the watch has not told of it, and its connection ends."""
    world = World(nodes=0)
    await world.start()
    world.operator.delay = lambda: 60.0
    node = world.boot("render-0")
    node.connect(world.operator)
    node.disconnect()
    uid = world.create()
    world.operator.caches.tasks.put(world.api.objects[TASK, NAMESPACE, "task-" + uid[1:]])
    await asyncio.sleep(30)
    assert world.state(uid) == "active"
    node.connect(world.operator)
    await settle()
    assert world.runs(uid) == [("render-0", 1)]


@in_virtual_time
async def test_what_a_task_waits_for_is_told_anew_when_its_pool_is_there() -> None:
    world = World()
    await world.start()
    first = world.create()
    await settle()
    world.api.remove(POOL, NAMESPACE, "render")
    uid = world.create()
    await settle()
    world.make_pool()
    await settle()
    scheduled = world.task(uid).status.condition("Scheduled")
    assert scheduled is not None
    assert (scheduled.status, scheduled.reason) == ("False", "WaitingForNode")
    await world.finish(first)
    assert world.task(uid).status.conditions == ()
