"""Anything may happen in any order: in the end every task is completed, and each of its runs is accounted for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from packhorse.cluster.client import ApiUnavailableError
from packhorse.model import Task
from tests.unit.operator.fake_api import Event
from tests.unit.operator.world import TASK, Attempt, Node, World
from tests.unit.virtual_time import VirtualLoop, settle

SLOTS = 2
NODES = 2


class Interleavings(RuleBasedStateMachine):
    """An operator that dies, nodes that go, connections that break, an API server that is away, slow or late."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.world = World(nodes=NODES, slots=SLOTS)
        self.alive = True
        self.deleted: set[str] = set()
        self.uids: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.attempts: dict[str, int] = {}
        self.ends: dict[Attempt, int | None] = {}
        self.pace = 0.0
        self.late = 0.0
        self.world.api.watch(self.see)
        self.run(self.world.start())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.run(self.heal())
            self.check_the_end()
        finally:
            self.runner.close()

    # --- what may happen -----------------------------------------------------------------------------------------

    @rule(slots=st.integers(1, SLOTS), retries=st.integers(-1, 2), priority=st.integers(-1, 1), count=st.integers(1, 3))
    def create(self, slots: int, retries: int, priority: int, count: int) -> None:
        async def create() -> None:
            for _ in range(count):
                limits = {"maxTaskRetryCount": retries}
                uid = self.world.create(requiredSlots=slots, priority=priority, constraints=limits)
                self.uids.append(uid)

        self.run(create())

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 3.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: self.running())
    @rule(choice=st.integers(0, 7), code=st.sampled_from([0, 0, 1, None]))
    def finish(self, choice: int, code: int | None) -> None:
        """An attempt ends; with None its process vanishes with its container."""
        found = self.running()
        node, attempt = found[choice % len(found)]

        async def finish() -> None:
            self.over(node, attempt, code)

        self.run(finish())

    @precondition(lambda self: self.uids)
    @rule(choice=st.integers(0, 20))
    def delete(self, choice: int) -> None:
        uid = self.uids[choice % len(self.uids)]

        async def delete() -> None:
            self.deleted.add(uid)
            self.uids.remove(uid)
            self.world.delete(uid)

        self.run(delete())

    @rule(choice=st.integers(0, NODES - 1))
    def break_connection(self, choice: int) -> None:
        async def disconnect() -> None:
            self.node(choice).disconnect()

        self.run(disconnect())

    @precondition(lambda self: self.alive)
    @rule(choice=st.integers(0, NODES - 1))
    def connect(self, choice: int) -> None:
        async def connect() -> None:
            self.node(choice).connect(self.world.operator)

        self.run(connect())

    @rule(choice=st.integers(0, NODES - 1), comes_back=st.booleans())
    def lose_node(self, choice: int, comes_back: bool) -> None:
        """Its pod vanishes; another of the same name is made, which is connected or not."""

        async def lose() -> None:
            name = self.node(choice).name
            self.world.lose(name)
            await asyncio.sleep(0.5)
            node = self.world.boot(name)
            if comes_back and self.alive:
                await asyncio.sleep(self.late)
                node.connect(self.world.operator)

        self.run(lose())

    @precondition(lambda self: self.alive)
    @rule()
    def kill_operator(self) -> None:
        async def kill() -> None:
            await self.world.operator.kill()
            for node in self.world.nodes.values():
                node.disconnect()

        self.alive = False
        self.run(kill())

    @precondition(lambda self: not self.alive)
    @rule()
    def start_operator(self) -> None:
        self.alive = True
        self.run(self.world.start_operator())
        self.world.operator.delay = lambda: self.late

    @rule(pace=st.sampled_from([0.0, 0.0, 0.1, 2.0]), late=st.sampled_from([0.0, 0.0, 0.3, 5.0]))
    def slow_down(self, pace: float, late: float) -> None:
        """From now on each request takes so long, and so late are events."""
        self.pace, self.late = pace, late
        self.world.api.latency = lambda: self.pace
        self.world.operator.delay = lambda: self.late

    @rule(refuse=st.booleans(), lose=st.booleans())
    def disturb_api(self, refuse: bool, lose: bool) -> None:
        """From now on no request is carried out, or no answer arrives; or all is well."""
        error = ApiUnavailableError("away") if refuse else None
        self.world.api.refuse = lambda method, path: error
        self.world.api.lose = lambda method, path: lose

    # --- what must never happen ----------------------------------------------------------------------------------

    def see(self, event: Event) -> None:
        """Watch over every change of a task's status, from the API server's own point of view."""
        change, kind, raw = event
        if kind != TASK or change == "DELETED":
            return
        uid = raw["metadata"]["uid"]
        task = Task.model_validate(raw)
        status, info = task.status, task.status.execution_info
        assert status.attempt in {self.attempts.get(uid, 0), self.attempts.get(uid, 0) + 1}
        self.attempts[uid] = status.attempt
        if uid in self.results:
            assert raw["status"] == self.results[uid], "a recorded result was overwritten"
        limit = task.spec.constraints.max_task_retry_count
        assert limit < 0 or info.retry_count <= limit
        if status.state == "completed":
            assert self.ends[uid, status.attempt] == info.exit_code
            self.results[uid] = raw["status"]
        else:
            assert info.result is None

    @invariant()
    def no_slot_is_given_twice(self) -> None:
        for node in self.world.nodes.values():
            needed = [
                self.world.task(uid).spec.required_slots
                for uid, number in node.running
                if uid in self.uids and (uid, number) not in node.ending
            ]
            assert sum(needed) <= SLOTS, f"{node.name} runs {node.running.keys()}"

    @invariant()
    def no_task_runs_twice_at_a_time(self) -> None:
        for uid in self.uids:
            assert len(self.world.runs(uid)) <= 1

    # --- the end -------------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        """All that was broken is mended, and nodes work off what they get."""
        self.pace = self.late = 0.0
        self.world.api.refuse = lambda method, path: None
        self.world.api.lose = lambda method, path: False
        if not self.alive:
            await self.world.start_operator()
        for node in self.world.nodes.values():
            if not node.connected:
                node.connect(self.world.operator)
        # the longest pause between two tries, several times
        await asyncio.sleep(100)
        for _ in range(10 + 5 * len(self.uids)):
            for node, attempt in self.running():
                self.over(node, attempt, 0)
            await asyncio.sleep(1)
        await settle()

    def check_the_end(self) -> None:
        for uid in self.uids:
            task = self.world.task(uid)
            info = task.status.execution_info
            note(f"{uid}: {task.status.dump()}")
            assert task.status.state == "completed"
            assert task.status.attempt == 1 + info.retry_count + info.requeue_count, "a run is not accounted for"
        for node in [*self.world.nodes.values()]:
            assert (node.running, node.ended) == ({}, {})
        # What was lost with its node may be run once more by the next one of that name, with the same number.
        nodes = [*self.world.nodes.values(), *self.world.gone]
        told = [attempt for node in nodes for attempt in node.ran if attempt not in {*node.running, *node.ended}]
        assert len(told) == len(set(told)), "the end of an attempt was told by two nodes"

    # --- helpers -------------------------------------------------------------------------------------------------

    def node(self, choice: int) -> Node:
        return self.world.nodes[f"render-{choice}"]

    def running(self) -> list[tuple[Node, Attempt]]:
        return [(node, attempt) for node in self.world.nodes.values() for attempt in sorted(node.running)]

    def over(self, node: Node, attempt: Attempt, code: int | None) -> None:
        self.ends[attempt] = code
        node.finish(attempt, code or 0, lost=code is None)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
)
