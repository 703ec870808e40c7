"""The fleet against a naive model of it: slots, order, and who gets what."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from packhorse.domain.fleet import Assignment, Fleet, NodeKey, PoolKey, Waiting
from packhorse.model.pool import NodeFillType

POOLS: list[PoolKey] = [("team", "render"), ("other", "render")]
NODES: list[NodeKey] = [("team", f"render-{number}") for number in range(4)] + [("other", "render-0")]
SLOTS = 4
SPREAD, PACK = NodeFillType.SPREAD, NodeFillType.PACK


def pool_of(node: NodeKey) -> PoolKey:
    return node[0], "render"


@dataclass
class Node:
    enabled: bool
    held: dict[str, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return SLOTS - sum(self.held.values())


def naive_assign(
    pool: PoolKey, waiting: list[Waiting], nodes: dict[NodeKey, Node], fill: NodeFillType
) -> list[Assignment]:
    """Best task first; each to the node that the policy prefers; end at the first that finds no room."""
    result = []
    for task in sorted(waiting):
        fitting = [
            key for key, node in nodes.items() if pool_of(key) == pool and node.enabled and node.free >= task.slots
        ]
        if not fitting:
            break
        sign = -1 if fill is SPREAD else 1
        chosen = min(fitting, key=lambda key: (sign * nodes[key].free, int(key[1].rpartition("-")[2])))
        nodes[chosen].held[task.uid] = task.slots
        result.append(Assignment(task.uid, chosen))
    return result


class FleetMachine(RuleBasedStateMachine):
    """Anything that can happen to a fleet, in any order."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.nodes: dict[NodeKey, Node] = {}
        self.waiting: dict[str, tuple[PoolKey, Waiting]] = {}
        self.count = 0

    @rule(node=st.sampled_from(NODES), enabled=st.booleans())
    def set_node(self, node: NodeKey, enabled: bool) -> None:
        ordinal = int(node[1].rpartition("-")[2])
        self.fleet.set_node(node, pool=pool_of(node), ordinal=ordinal, slots=SLOTS, enabled=enabled)
        self.nodes.setdefault(node, Node(enabled)).enabled = enabled

    @rule(node=st.sampled_from(NODES))
    def remove_node(self, node: NodeKey) -> None:
        removed = self.nodes.pop(node, None)
        assert sorted(self.fleet.remove_node(node)) == sorted(removed.held if removed else ())

    @rule(
        target=tasks,
        pool=st.sampled_from(POOLS),
        priority=st.integers(-1, 1),
        age=st.integers(0, 3),
        slots=st.integers(1, SLOTS),
    )
    def create_task(self, pool: PoolKey, priority: int, age: int, slots: int) -> tuple[PoolKey, Waiting]:
        self.count += 1
        name = f"task-{self.count}"
        task = (pool, Waiting(-priority, f"2026-05-01T12:00:0{age}Z", name, f"uid-{name}", slots))
        self.enqueue(task)
        return task

    @rule(task=tasks)
    def enqueue(self, task: tuple[PoolKey, Waiting]) -> None:
        self.fleet.enqueue(*task)
        if self.holder(task[1].uid) is None:
            self.waiting[task[1].uid] = task

    @rule(task=tasks)
    def release(self, task: tuple[PoolKey, Waiting]) -> None:
        uid = task[1].uid
        holder = self.holder(uid)
        assert self.fleet.release(uid) == holder
        self.waiting.pop(uid, None)
        if holder:
            del self.nodes[holder].held[uid]

    @rule(task=tasks, node=st.sampled_from(NODES))
    def hold_after_a_restart(self, task: tuple[PoolKey, Waiting], node: NodeKey) -> None:
        """As the statuses and the nodes' reports tell; they never tell more than a node has slots."""
        uid, slots = task[1].uid, task[1].slots
        known = self.nodes.get(node)
        if known is not None and uid not in known.held and known.free < slots:
            return
        assert self.fleet.hold(uid, node, slots) == (known is not None)
        if known is None:
            return
        self.waiting.pop(uid, None)
        for other in self.nodes.values():
            other.held.pop(uid, None)
        known.held[uid] = slots

    @precondition(lambda self: self.waiting)
    @rule(pool=st.sampled_from(POOLS), fill=st.sampled_from([SPREAD, PACK]))
    def assign(self, pool: PoolKey, fill: NodeFillType) -> None:
        queue = [task for key, task in self.waiting.values() if key == pool]
        wanted = naive_assign(pool, queue, self.nodes, fill)
        assert list(self.fleet.assign(pool, fill)) == wanted
        for assignment in wanted:
            del self.waiting[assignment.uid]

    def holder(self, uid: str) -> NodeKey | None:
        return next((key for key, node in self.nodes.items() if uid in node.held), None)

    @invariant()
    def nothing_is_lost_and_no_slot_given_twice(self) -> None:
        for key in NODES:
            node = self.nodes.get(key, Node(enabled=False))
            assert sorted(self.fleet.held(key)) == sorted(node.held)
            assert node.free >= 0
            for uid in node.held:
                assert self.fleet.holder(uid) == key
        for pool in POOLS:
            assert self.fleet.waiting(pool) == sum(key == pool for key, _ in self.waiting.values())
        for uid in self.waiting:
            assert self.fleet.holder(uid) is None


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=40)


def fleet_of(nodes: int, slots: int) -> Fleet:
    fleet = Fleet()
    for number in range(nodes):
        fleet.set_node(("team", f"render-{number}"), pool=POOLS[0], ordinal=number, slots=slots, enabled=True)
    return fleet


def enqueue(fleet: Fleet, name: str, *, priority: int = 0, created: str = "1", slots: int = 1) -> None:
    fleet.enqueue(POOLS[0], Waiting(-priority, created, name, name, slots))


def assign(fleet: Fleet, fill: NodeFillType = SPREAD) -> list[tuple[str, str]]:
    return [(assignment.uid, assignment.node[1]) for assignment in fleet.assign(POOLS[0], fill)]


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        (SPREAD, ["render-0", "render-1", "render-2", "render-0"]),
        (PACK, ["render-0", "render-0", "render-1", "render-1"]),
    ],
)
def test_spread_and_pack(fill: NodeFillType, wanted: list[str]) -> None:
    fleet = fleet_of(3, slots=2)
    for number in range(4):
        enqueue(fleet, f"task-{number}", created=str(number))
    assert [node for _, node in assign(fleet, fill)] == wanted


def test_pack_fills_a_node_in_use_before_one_that_is_empty() -> None:
    fleet = fleet_of(3, slots=3)
    assert fleet.hold("earlier", ("team", "render-2"), 1)
    enqueue(fleet, "task")
    assert assign(fleet, PACK) == [("task", "render-2")]


def test_higher_priority_first_then_older() -> None:
    fleet = fleet_of(1, slots=4)
    enqueue(fleet, "young", created="2026-05-01T12:00:02Z")
    enqueue(fleet, "urgent", priority=5, created="2026-05-01T12:00:03Z")
    enqueue(fleet, "old", created="2026-05-01T12:00:01Z")
    enqueue(fleet, "unimportant", priority=-1, created="2026-05-01T12:00:00Z")
    assert [uid for uid, _ in assign(fleet)] == ["urgent", "old", "young", "unimportant"]


def test_a_task_that_needs_many_slots_is_not_overtaken() -> None:
    fleet = fleet_of(1, slots=4)
    assert fleet.hold("running", ("team", "render-0"), 2)
    enqueue(fleet, "big", created="1", slots=3)
    enqueue(fleet, "small", created="2", slots=1)
    assert assign(fleet) == []
    fleet.release("running")
    assert assign(fleet) == [("big", "render-0"), ("small", "render-0")]


def test_a_node_that_is_not_enabled_gets_nothing_and_keeps_what_it_holds() -> None:
    fleet = fleet_of(2, slots=1)
    enqueue(fleet, "first")
    assert assign(fleet) == [("first", "render-0")]
    fleet.set_node(("team", "render-0"), pool=POOLS[0], ordinal=0, slots=1, enabled=False)
    for name in ("second", "third"):
        enqueue(fleet, name)
    assert assign(fleet) == [("second", "render-1")]
    assert fleet.holder("first") == ("team", "render-0")


def test_more_slots_can_be_used_at_once() -> None:
    fleet = fleet_of(1, slots=1)
    for name in ("first", "second"):
        enqueue(fleet, name)
    assert assign(fleet) == [("first", "render-0")]
    fleet.set_node(("team", "render-0"), pool=POOLS[0], ordinal=0, slots=2, enabled=True)
    assert assign(fleet) == [("second", "render-0")]


def test_a_task_that_was_released_is_not_given_away() -> None:
    fleet = fleet_of(1, slots=1)
    enqueue(fleet, "deleted", created="1")
    enqueue(fleet, "kept", created="2")
    assert fleet.release("deleted") is None
    assert assign(fleet) == [("kept", "render-0")]


def test_what_a_lost_node_held_is_told() -> None:
    fleet = fleet_of(1, slots=2)
    for name in ("first", "second"):
        enqueue(fleet, name)
    assign(fleet)
    assert sorted(fleet.remove_node(("team", "render-0"))) == ["first", "second"]
    assert fleet.holder("first") is None
    assert fleet.remove_node(("team", "render-0")) == ()
