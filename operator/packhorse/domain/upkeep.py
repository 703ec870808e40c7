"""What has to be done with a pool's nodes: which get no further tasks, which are restarted now, how many there may be.

Nothing is remembered here: a plan follows from the Pool, its nodes' pods, and what they hold, so that whoever makes it
again, after a crash too, comes to the same.
"""

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from packhorse.domain.podstate import Pod, task_option
from packhorse.model import NodeState, NodeStatus, Pool, RunningTaskOption
from packhorse.model.node import BROKEN, OPTION_ANNOTATION, REBOOT_BEFORE_ANNOTATION, REIMAGE_BEFORE_ANNOTATION
from packhorse.model.pool import NodeUpdatePolicy

GONE_AFTER = 5.0
"""Seconds after which a pod that had to be gone, and has no connection, counts as lost with its machine."""


class Purpose(StrEnum):
    """Why a node is taken away."""

    REBOOT = "reboot"
    REIMAGE = "reimage"
    LEAVE = "leave"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Drain:
    """A node gets no further tasks.

    Attributes:
        option: What becomes of those that it runs.
        purpose: What happens to it then; None where scheduling is disabled and nothing else.
    """

    option: RunningTaskOption
    purpose: Purpose | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done now.

    Attributes:
        replicas: How many nodes the StatefulSet is to have; more than the target while some still have to leave.
        drains: By name of the node.
        reboots: Pods to delete now.
        reimages: Pods to delete now with their volume.
        lost: Pods that are gone with their machine, for all that can be known: their tasks shall run elsewhere.
        stopped: Why a rolling update does not go on; empty where nothing holds it up.
        again: Seconds after which to look again though nothing happens.
    """

    replicas: int
    drains: Mapping[str, Drain] = field(default_factory=dict)
    reboots: tuple[Pod, ...] = ()
    reimages: tuple[Pod, ...] = ()
    lost: tuple[Pod, ...] = ()
    stopped: str = ""
    again: float | None = None


def reimages(pod: Pod, pool: Pool) -> bool:
    """Whether somebody asked for a reimage of this node."""
    return pod.reimage is not None or _older(pod, pool, REIMAGE_BEFORE_ANNOTATION)


def plan(
    pool: Pool,
    pods: Sequence[Pod],
    nodes: Sequence[NodeStatus],
    *,
    held: Mapping[str, int],
    retry: Collection[str],
    resolved: bool,
    now: str,
) -> Plan:
    """Decide what to do.

    Args:
        pool: The pool.
        pods: Its nodes' pods.
        nodes: What is known of them.
        held: How many tasks each holds, for all the operator knows; by name. None of it is 0.
        retry: Uids of unusable pods whose cause may be gone: they are restarted.
        resolved: Whether all of the pool's references mean something: otherwise no node is updated.
        now: RFC 3339.
    """
    states = {node.name: node for node in nodes}
    there = [pod for pod in pods if not pod.deleting]
    drains = {pod.name: drain for pod in there if (drain := _asked(pool, pod)) is not None}
    stopped = ""
    if resolved and pool.spec.node_update_policy is NodeUpdatePolicy.ROLLING:
        updates, stopped = _rolling(pool, there, states, drains, retry)
        drains |= {name: Drain(RunningTaskOption.TASK_COMPLETION, Purpose.UPDATE) for name in updates}
    due = [
        pod
        for pod in there
        if pod.name in drains and (drains[pod.name].option is RunningTaskOption.REQUEUE or not held.get(pod.name))
    ]
    by_purpose = {purpose: tuple(pod for pod in due if drains[pod.name].purpose is purpose) for purpose in Purpose}
    again_up = tuple(
        pod
        for pod in there
        if pod.uid in retry and pod not in due and not held.get(pod.name) and states[pod.name].state in BROKEN
    )
    leaving = [pod.ordinal + 1 for pod in there if pod.ordinal >= pool.spec.target_nodes and pod not in due]
    lost, again = _lost(pods, states, held, now)
    return Plan(
        replicas=max([pool.spec.target_nodes, *leaving]),
        drains=drains,
        reboots=(*by_purpose[Purpose.REBOOT], *by_purpose[Purpose.UPDATE], *again_up),
        reimages=by_purpose[Purpose.REIMAGE],
        lost=lost,
        stopped=stopped,
        again=again,
    )


def _asked(pool: Pool, pod: Pod) -> Drain | None:
    """What somebody asked for this node; leaving the pool comes first."""
    spec = pool.spec
    if pod.ordinal >= spec.target_nodes:
        waits = spec.auto_scale is not None  # nobody asked for this very moment, so no task has to suffer
        return Drain(RunningTaskOption.TASK_COMPLETION if waits else spec.node_deallocation_option, Purpose.LEAVE)
    option = _pool_option(pool)
    if pod.reimage is not None:
        return Drain(pod.reimage, Purpose.REIMAGE)
    if _older(pod, pool, REIMAGE_BEFORE_ANNOTATION):
        return Drain(option, Purpose.REIMAGE)
    if pod.reboot is not None:
        return Drain(pod.reboot, Purpose.REBOOT)
    if _older(pod, pool, REBOOT_BEFORE_ANNOTATION):
        return Drain(option, Purpose.REBOOT)
    return Drain(pod.disable) if pod.disable is not None else None


def _pool_option(pool: Pool) -> RunningTaskOption:
    return task_option(pool.metadata.annotations, OPTION_ANNOTATION) or RunningTaskOption.REQUEUE


def _older(pod: Pod, pool: Pool, annotation: str) -> bool:
    """Whether a pod was made before the time that an annotation of its pool names."""
    limit = _time(pool.metadata.annotations.get(annotation, ""))
    created = _time(pod.created)
    return limit is not None and created is not None and created < limit


def _time(text: str) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def unread_annotations(pool: Pool) -> list[str]:
    """Annotations of ours on a Pool that mean nothing, as ``name: value``."""
    given = pool.metadata.annotations
    times = [name for name in (REBOOT_BEFORE_ANNOTATION, REIMAGE_BEFORE_ANNOTATION) if given.get(name)]
    wrong = [name for name in times if _time(given[name]) is None]
    if OPTION_ANNOTATION in given and task_option(given, OPTION_ANNOTATION) is None:
        wrong.append(OPTION_ANNOTATION)
    return [f"{name}: {given[name]}" for name in wrong]


def _rolling(
    pool: Pool,
    pods: Sequence[Pod],
    states: Mapping[str, NodeStatus],
    drains: Mapping[str, Drain],
    retry: Collection[str],
) -> tuple[list[str], str]:
    """The nodes to update now, and why there are none though some are behind.

    No more nodes than allowed are out of work at a time, for whatever reason they are. A node that fails stops the
    update: the others go on with what they have.
    """
    staying = [pod for pod in pods if pod.ordinal < pool.spec.target_nodes]
    behind = [pod for pod in staying if _is_behind(states[pod.name]) and pod.name not in drains]
    if not behind:
        return [], ""
    failed = [pod for pod in staying if states[pod.name].state in BROKEN and pod.uid not in retry]
    if failed:
        error = next(iter(states[failed[0].name].errors), None)
        cause = f": {error.message}" if error else ""
        return [], (
            f"node {failed[0].name} has failed{cause}; {len(behind)} node(s) keep what they have until that is mended"
            " (the update goes on then), or the pool refers to what it had before"
        )
    able = [pod for pod in staying if states[pod.name].state in {NodeState.IDLE, NodeState.RUNNING}]
    out = pool.spec.target_nodes - sum(pod.name not in drains for pod in able)
    allowed = pool.spec.rolling_update.max_unavailable - out
    # Those begun before stay in, then the idle ones, then the busy ones; among them the highest numbers first.
    behind.sort(
        key=lambda pod: (states[pod.name].pending != Purpose.UPDATE.value, states[pod.name].running_tasks, -pod.ordinal)
    )
    return [pod.name for pod in behind[: max(0, allowed)]], ""


def _is_behind(node: NodeStatus) -> bool:
    return not node.up_to_date and node.state in {NodeState.IDLE, NodeState.RUNNING, NodeState.OFFLINE}


def _lost(
    pods: Sequence[Pod], states: Mapping[str, NodeStatus], held: Mapping[str, int], now: str
) -> tuple[tuple[Pod, ...], float | None]:
    """Pods that had to be gone, are without connection, and hold tasks; and when the next one may be such."""
    lost, waits = [], []
    present = datetime.datetime.fromisoformat(now)
    for pod in pods:
        end = _time(pod.deletion)
        if end is None or not held.get(pod.name) or states[pod.name].running_tasks:
            continue
        left = GONE_AFTER - (present - end).total_seconds()
        if left > 0:
            waits.append(left)
        else:
            lost.append(pod)
    return tuple(lost), min(waits, default=None)
