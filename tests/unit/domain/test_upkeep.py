"""What is done with a pool's nodes: drained, restarted, updated, given up."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.domain.podstate import Install, Pod
from packhorse.domain.upkeep import Drain, Plan, Purpose, plan, reimages, unread_annotations
from packhorse.model import NodeState, NodeStatus, Pool, RunningTaskOption
from packhorse.model.node import NodeError
from tests.unit.objects import NOW, raw_pool

REQUEUE, TERMINATE, COMPLETION = RunningTaskOption
BEFORE, AFTER = "2026-05-01T11:00:00Z", "2026-05-01T11:45:00Z"


def make(target: int = 3, annotations: dict[str, str] | None = None, **spec: Any) -> Pool:
    raw = raw_pool(targetNodes=target, **spec)
    raw["metadata"]["annotations"] = annotations or {}
    return Pool.model_validate(raw)


def pod(number: int, **more: Any) -> Pod:
    given = Pod(
        namespace="team",
        name=f"render-{number}",
        uid=f"uid-{number}",
        owner_uid="set",
        pool="render",
        ordinal=number,
        revision="r1",
        worker="worker",
        install=Install.DONE,
        problem=None,
        ready=True,
        created=AFTER,
        deletion="",
    )
    return replace(given, **more)


def node(number: int, state: NodeState = NodeState.IDLE, *, current: bool = True, **more: Any) -> NodeStatus:
    return NodeStatus(name=f"render-{number}", state=state, state_transition_time=NOW, up_to_date=current, **more)


def planned(
    pool: Pool,
    pods: list[Pod],
    nodes: list[NodeStatus] | None = None,
    held: dict[str, int] | None = None,
    retry: tuple[str, ...] = (),
    *,
    resolved: bool = True,
) -> Plan:
    nodes = nodes if nodes is not None else [node(each.ordinal) for each in pods]
    return plan(pool, pods, nodes, held=held or {}, retry=retry, resolved=resolved, now=NOW)


def names(pods: tuple[Pod, ...]) -> list[str]:
    return [each.name for each in pods]


def test_nothing_is_done_where_nothing_is_asked() -> None:
    assert planned(make(), [pod(0), pod(1), pod(2)]) == Plan(replicas=3)


# --- reboots and reimages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["reboot", "reimage"])
@pytest.mark.parametrize(
    ("option", "held", "now"),
    [(REQUEUE, 2, True), (TERMINATE, 2, False), (COMPLETION, 1, False), (COMPLETION, 0, True)],
)
def test_a_node_goes_when_its_tasks_have_or_at_once_where_they_are_requeued(
    what: str, option: RunningTaskOption, held: int, now: bool
) -> None:
    found = planned(make(1), [pod(0, **{what: option})], held={"render-0": held} if held else {})
    assert found.drains == {"render-0": Drain(option, Purpose(what))}
    due = found.reboots if what == "reboot" else found.reimages
    assert names(due) == (["render-0"] if now else [])
    assert found.replicas == 1


def test_a_pool_names_a_time_and_older_nodes_go() -> None:
    pods = [pod(0, created=BEFORE), pod(1), pod(2, created=BEFORE, deletion=NOW)]
    found = planned(make(3, {"packhorse.dev/reboot-before": "2026-05-01T11:30:00Z"}), pods)
    assert names(found.reboots) == ["render-0"]
    assert found.drains["render-0"].option is REQUEUE
    annotations = {
        "packhorse.dev/reimage-before": "2026-05-01T13:30:00+02:00",
        "packhorse.dev/running-tasks": "taskcompletion",
    }
    found = planned(make(3, annotations), pods, held={"render-0": 1})
    assert found.drains["render-0"] == Drain(COMPLETION, Purpose.REIMAGE)
    assert found.reimages == ()


def test_what_is_asked_for_on_a_node_itself_counts_more_than_disabled_scheduling() -> None:
    found = planned(make(1), [pod(0, disable=COMPLETION, reboot=REQUEUE, reimage=TERMINATE)])
    assert found.drains["render-0"] == Drain(TERMINATE, Purpose.REIMAGE)


def test_disabled_scheduling_alone_takes_nothing_away() -> None:
    found = planned(make(1), [pod(0, disable=REQUEUE)])
    assert (found.drains, found.reboots, found.replicas) == ({"render-0": Drain(REQUEUE)}, (), 1)


def test_reimages_are_told_from_reboots() -> None:
    assert reimages(pod(0, reimage=REQUEUE), make())
    assert reimages(pod(0, created=BEFORE), make(1, {"packhorse.dev/reimage-before": NOW}))
    assert not reimages(pod(0, reboot=REQUEUE), make())


@pytest.mark.parametrize(
    ("annotations", "unread"),
    [
        ({"packhorse.dev/reboot-before": "yesterday"}, ["packhorse.dev/reboot-before: yesterday"]),
        ({"packhorse.dev/reboot-before": "2026-05-01T11:30:00"}, ["packhorse.dev/reboot-before: 2026-05-01T11:30:00"]),
        ({"packhorse.dev/running-tasks": "kill"}, ["packhorse.dev/running-tasks: kill"]),
        ({"packhorse.dev/reimage-before": NOW, "packhorse.dev/running-tasks": "terminate"}, []),
    ],
)
def test_annotations_that_mean_nothing_do_nothing(annotations: dict[str, str], unread: list[str]) -> None:
    pool = make(1, annotations)
    assert unread_annotations(pool) == unread
    if unread:
        assert planned(pool, [pod(0, created=BEFORE)]) == Plan(replicas=1)


# --- fewer nodes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "held", "replicas"),
    [
        (REQUEUE, {"render-3": 1}, 2),
        (TERMINATE, {"render-3": 1}, 4),
        (COMPLETION, {"render-2": 1}, 3),
        (COMPLETION, {}, 2),
    ],
)
def test_nodes_leave_from_the_top_when_they_may(option: RunningTaskOption, held: dict[str, int], replicas: int) -> None:
    found = planned(make(2, nodeDeallocationOption=option.value), [pod(number) for number in range(4)], held=held)
    assert found.replicas == replicas
    assert found.drains == {name: Drain(option, Purpose.LEAVE) for name in ("render-2", "render-3")}


def test_autoscale_never_takes_a_task_from_a_node() -> None:
    pool = make(0, nodeDeallocationOption="requeue", autoScale={"minNodes": 0, "maxNodes": 4})
    found = planned(pool, [pod(0), pod(1)], held={"render-0": 1})
    assert found.replicas == 1
    assert found.drains["render-0"] == Drain(COMPLETION, Purpose.LEAVE)


def test_more_nodes_are_made_at_once() -> None:
    assert planned(make(9), [pod(0)]).replicas == 9


# --- rolling updates --------------------------------------------------------------------------------------------------


def rolling(target: int, unavailable: int = 1, **spec: Any) -> Pool:
    return make(target, nodeUpdatePolicy="Rolling", rollingUpdate={"maxUnavailable": unavailable}, **spec)


def test_on_reboot_no_node_is_touched() -> None:
    assert planned(make(2), [pod(0), pod(1)], [node(0, current=False), node(1, current=False)]) == Plan(replicas=2)


def test_idle_nodes_are_updated_first_and_only_so_many() -> None:
    pods = [pod(number) for number in range(3)]
    nodes = [
        node(0, current=False),
        node(1, NodeState.RUNNING, current=False, running_tasks=2),
        node(2, NodeState.RUNNING, current=False, running_tasks=1),
    ]
    found = planned(rolling(3, 2), pods, nodes, {"render-1": 2, "render-2": 1})
    assert names(found.reboots) == ["render-0"]
    assert set(found.drains) == {"render-0", "render-2"}, (
        "a busy one gets nothing further, and is updated when it is idle"
    )


def test_who_has_begun_goes_on_though_another_is_idle_now() -> None:
    nodes = [
        node(0, current=False),
        node(1, NodeState.RUNNING, current=False, running_tasks=1, pending="update"),
    ]
    found = planned(rolling(2), [pod(0), pod(1)], nodes, {"render-1": 1})
    assert (set(found.drains), found.reboots) == ({"render-1"}, ())


@pytest.mark.parametrize("state", [NodeState.STARTING, NodeState.UNKNOWN, NodeState.CREATING, NodeState.OFFLINE])
def test_a_node_that_is_out_for_another_reason_counts(state: NodeState) -> None:
    nodes = [node(0, state), node(1, current=False)]
    assert planned(rolling(2), [pod(0), pod(1)], nodes) == Plan(replicas=2)
    assert names(planned(rolling(2, 2), [pod(0), pod(1)], nodes).reboots) == ["render-1"]


@pytest.mark.parametrize("state", [NodeState.UNUSABLE, NodeState.START_TASK_FAILED])
def test_a_first_failure_stops_it(state: NodeState) -> None:
    error = NodeError(code="ApplicationPackageError", message="Some package is bad")
    nodes = [node(0, state, current=False, errors=(error,)), node(1, current=False), node(2, current=False)]
    found = planned(rolling(3, 3), [pod(0), pod(1), pod(2)], nodes)
    assert (found.reboots, found.drains) == ((), {})
    assert "node render-0 has failed: Some package is bad; 2 node(s) keep what they have" in found.stopped
    again = planned(rolling(3, 3), [pod(0), pod(1), pod(2)], nodes, retry=("uid-0",))
    assert "render-0" in names(again.reboots), "something else is wanted now: the failed one tries that first"
    assert again.stopped == ""


def test_a_failed_node_is_restarted_where_its_cause_may_be_gone_in_every_pool() -> None:
    nodes = [node(0, NodeState.UNUSABLE, current=False), node(1)]
    assert names(planned(make(2), [pod(0), pod(1)], nodes, retry=("uid-0", "uid-1")).reboots) == ["render-0"]
    assert planned(make(2), [pod(0), pod(1)], nodes, {"render-0": 1}, retry=("uid-0",)).reboots == ()


def test_references_that_mean_nothing_disturb_no_node() -> None:
    assert planned(rolling(1), [pod(0)], [node(0, current=False)], resolved=False) == Plan(replicas=1)


@dataclass
class World:
    """A pool that is updated, in steps: what is deleted comes back up to date some steps later, or fails."""

    size: int
    unavailable: int
    failing: set[int]
    busy: dict[int, int]
    current: set[int] = field(default_factory=set)
    starting: dict[int, int] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    updating: set[str] = field(default_factory=set)

    def nodes(self) -> list[NodeStatus]:
        return [self.node(number) for number in range(self.size)]

    def node(self, number: int) -> NodeStatus:
        current = number in self.current
        if number in self.broken:
            return node(number, NodeState.UNUSABLE, current=False)
        if number in self.starting:
            return node(number, NodeState.STARTING, current=False)
        running = self.busy.get(number, 0)
        state = NodeState.RUNNING if running else NodeState.IDLE
        pending = "update" if f"render-{number}" in self.updating else None
        return node(number, state, current=current, running_tasks=running, pending=pending)

    def step(self) -> Plan:
        pods = [pod(number) for number in range(self.size)]
        held = {f"render-{number}": count for number, count in self.busy.items() if count}
        found = planned(rolling(self.size, self.unavailable), pods, self.nodes(), held)
        out = len(self.starting) + len(self.broken)
        draining = {name for name, drain in found.drains.items() if drain.purpose is Purpose.UPDATE}
        assert out + len(draining) <= max(self.unavailable, out), "never more than allowed are out of work"
        assert not (self.broken and draining), "a failure stops it"
        self.updating = draining
        self.starting = {number: left - 1 for number, left in self.starting.items()}
        for number in [number for number, left in self.starting.items() if left <= 0]:
            del self.starting[number]
            (self.broken if number in self.failing else self.current).add(number)
        for each in found.reboots:
            assert not self.busy.get(each.ordinal), "no task is taken from a node"
            self.starting[each.ordinal] = 2
        self.busy = {number: count - 1 for number, count in self.busy.items() if count > 0}
        return found


@given(
    st.integers(1, 8),
    st.integers(1, 4),
    st.sets(st.integers(0, 7), max_size=2),
    st.dictionaries(st.integers(0, 7), st.integers(0, 5)),
)
def test_an_update_comes_to_its_end_or_stops_at_failures(
    size: int, unavailable: int, failing: set[int], busy: dict[int, int]
) -> None:
    busy = {number: count for number, count in busy.items() if number < size}
    world = World(size, unavailable, {number for number in failing if number < size}, busy)
    for _ in range(size * 10):
        last = world.step()
    if world.failing:
        assert 1 <= len(world.broken) <= unavailable
        assert len(world.current) + len(world.broken) < size or not last.stopped
    else:
        assert world.current == set(range(size))
        assert last == Plan(replicas=size)


# --- lost machines ----------------------------------------------------------------------------------------------------


def test_tasks_of_a_pod_that_had_to_be_gone_are_given_up() -> None:
    gone = pod(0, deletion="2026-05-01T11:59:00Z")
    unknown = [node(0, NodeState.REBOOTING)]
    assert planned(make(1), [gone], unknown, {"render-0": 1}).lost == (gone,)
    assert planned(make(1), [gone], unknown).lost == ()
    connected = [node(0, NodeState.REBOOTING, running_tasks=1)]
    assert planned(make(1), [gone], connected, {"render-0": 1}).lost == ()
    late = pod(0, deletion="2026-05-01T12:00:10Z")
    found = planned(make(1), [late], unknown, {"render-0": 1})
    assert (found.lost, found.again) == ((), 15)
