"""Nodes that get no further tasks, for whatever reason, and what becomes of those that they run."""

import asyncio

import pytest

from packhorse.cluster.client import POD
from packhorse.model import Pool, RunningTaskOption
from packhorse.protocol import EndTask, Hello, NodeProblem, Problem, StartTaskChanged, StartTaskState
from tests.unit.objects import NAMESPACE, NOW
from tests.unit.operator.test_dispatcher import in_virtual_time
from tests.unit.operator.world import POOL, World
from tests.unit.virtual_time import settle

REQUEUE, TERMINATE, COMPLETION = RunningTaskOption
KEY = (NAMESPACE, "render")


def drain(world: World, **drains: RunningTaskOption) -> None:
    pool = Pool.model_validate(world.api.objects[POOL, NAMESPACE, "render"])
    world.operator.dispatcher.drain(pool, {name.replace("_", "-"): option for name, option in drains.items()})


@in_virtual_time
async def test_a_drained_node_keeps_its_tasks_and_gets_no_others() -> None:
    world = World(nodes=2)
    await world.start()
    first, second = world.create(), world.create()
    await settle()
    drain(world, render_0=COMPLETION)
    third = world.create()
    await settle()
    assert world.operator.dispatcher.held(KEY) == {"render-0": 1, "render-1": 1}
    on_zero = next(uid for uid in (first, second) if world.runs(uid) == [("render-0", 1)])
    await world.finish(on_zero)
    assert (world.state(on_zero), world.runs(third)) == ("completed", [])
    drain(world)
    await settle()
    assert world.runs(third) == [("render-0", 1)], "it gets tasks again when nothing is said of it any more"


@pytest.mark.parametrize(("option", "state", "requeued"), [(REQUEUE, "running", 1), (TERMINATE, "completed", 0)])
def test_a_drained_nodes_tasks_are_ended(option: RunningTaskOption, state: str, requeued: int) -> None:
    @in_virtual_time
    async def story() -> None:
        world = World(nodes=2)
        await world.start()
        uid = world.create()
        await settle()
        drain(world, render_0=option)
        drain(world, render_0=option)
        await settle()
        node = world.nodes["render-0"]
        ends = [message for message in node.messages if isinstance(message, EndTask)]
        assert {message.requeue for message in ends} == {option is REQUEUE}
        node.finish((uid, 1), 143)
        await settle()
        task = world.task(uid)
        assert (task.status.state, task.status.execution_info.requeue_count) == (state, requeued)
        assert world.runs(uid) == ([("render-1", 2)] if option is REQUEUE else [])
        assert world.operator.dispatcher.held(KEY) == ({"render-1": 1} if option is REQUEUE else {})

    story()


@in_virtual_time
async def test_a_task_that_was_just_given_is_ended_when_the_plan_is_looked_at_again() -> None:
    world = World()
    await world.start()
    world.api.latency = lambda: 5.0
    uid = world.create()
    await settle()
    drain(world, render_0=REQUEUE)
    before = world.operator.changed[KEY]
    await asyncio.sleep(20)
    assert world.operator.changed[KEY] > before, "whoever plans is asked again"
    drain(world, render_0=REQUEUE)
    await settle()
    world.nodes["render-0"].finish((uid, 1), 143)
    await asyncio.sleep(20)
    assert world.state(uid) == "active"


@pytest.mark.parametrize("annotation", ["reboot", "reimage", "disable-scheduling"])
def test_a_new_operator_gives_nothing_to_a_node_that_is_to_go(annotation: str) -> None:
    @in_virtual_time
    async def story() -> None:
        world = World(nodes=1)
        await world.start()
        change = {"metadata": {"annotations": {f"packhorse.dev/{annotation}": "taskcompletion"}}}
        world.api.change(POD, NAMESPACE, "render-0", change)
        world.nodes["render-0"].raw = world.api.objects[POD, NAMESPACE, "render-0"]
        await world.restart_operator()
        uid = world.create()
        await settle()
        assert world.state(uid) == "active"

    story()


@in_virtual_time
async def test_a_lost_node_gives_its_tasks_back_and_a_late_result_of_it_counts_no_more() -> None:
    world = World(nodes=2)
    await world.start()
    uid = world.create()
    await settle()
    node = world.nodes["render-0"]
    node.disconnect()
    world.operator.dispatcher.lost((NAMESPACE, "render-0"))
    await settle()
    assert ("render-1", 2) in world.runs(uid)
    node.connect(world.operator)
    await settle()
    assert (uid, 1) in node.ending, "it is told to end what runs elsewhere now"
    node.finish((uid, 1), 0)
    await settle()
    assert (world.state(uid), world.task(uid).status.attempt) == ("running", 2)


RUNNING = StartTaskState("running", NOW)
FAILED = StartTaskState("completed", NOW, NOW, 1, 0, Problem("FailureExitCode", "exit code 1"))
DONE = StartTaskState("completed", NOW, NOW, 0)


@in_virtual_time
async def test_tasks_wait_for_the_start_task() -> None:
    world = World(nodes=0)
    await world.start()
    node = world.boot("render-0")
    node.hello = Hello((), (), start_task=RUNNING)
    node.connect(world.operator)
    uid = world.create()
    await settle()
    assert world.state(uid) == "active"
    node.say(StartTaskChanged(FAILED))
    await settle()
    assert world.state(uid) == "active"
    presence = world.operator.dispatcher.presence(KEY)["render-0"]
    assert presence.start_task == FAILED
    node.say(StartTaskChanged(DONE))
    await settle()
    assert world.runs(uid) == [("render-0", 1)]


@in_virtual_time
async def test_a_start_task_that_nobody_waits_for_holds_up_nothing() -> None:
    world = World(nodes=0)
    await world.start()
    node = world.boot("render-0")
    node.hello = Hello((), (), start_task=StartTaskState("running", NOW, wait_for_success=False))
    node.connect(world.operator)
    uid = world.create()
    await settle()
    assert world.runs(uid) == [("render-0", 1)]


@in_virtual_time
async def test_a_full_node_gets_nothing_until_it_has_room_again() -> None:
    world = World()
    await world.start()
    uid = world.create()
    await settle()
    node = world.nodes["render-0"]
    node.say(NodeProblem(Problem("DiskFull", "There is not enough disk space on the node")))
    node.finish((uid, 1), lost=True)
    await settle()
    task = world.task(uid)
    assert (task.status.state, task.status.execution_info.requeue_count) == ("active", 1)
    node.say(NodeProblem())
    await settle()
    assert world.runs(uid) == [("render-0", 2)]


@in_virtual_time
async def test_what_tasks_need_is_known_by_their_slots() -> None:
    world = World(slots=4)
    await world.start()
    uids = [world.create(requiredSlots=slots) for slots in (3, 3, 1)]
    await settle()
    assert world.operator.dispatcher.demand(KEY) == {3: 2, 1: 1}
    world.delete(uids[1])
    await settle()
    assert world.operator.dispatcher.demand(KEY) == {3: 1, 1: 1}
    await world.finish(uids[0])
    assert world.operator.dispatcher.demand(KEY) == {1: 1}
