"""How many nodes a pool needs for the tasks that wait and run.

It grows at once, and shrinks only when fewer nodes have been enough for a while, and then to the most that were needed
in that while: so a pool whose tasks come in waves does not flap. The memory of it is in the Pool's status, so that an
operator that is started anew goes on where the last one was.
"""

import datetime
from collections import Counter
from collections.abc import Mapping

from packhorse.domain.tasks import seconds
from packhorse.model.pool import AutoScale, AutoScaleRun


def nodes_for(demand: Mapping[int, int], slots: int) -> int:
    """How many nodes run all these tasks at once.

    Args:
        demand: How many tasks need so many slots.
        slots: Slots of a node. Tasks that need more fit nowhere and are left out.
    """
    room: Counter[int] = Counter()  # nodes by the slots that are left on them
    nodes = 0
    for size in sorted((size for size in demand if 0 < size <= slots), reverse=True):
        count = demand[size]
        for left in sorted((left for left in room if left >= size), reverse=True):
            fitting = left // size
            used = min(room[left], -(-count // fitting))
            if used <= 0:
                break
            placed = min(count, used * fitting)
            full, rest = divmod(placed, fitting)
            room[left] -= used
            room[left - fitting * size] += full
            if rest:
                room[left - rest * size] += 1
            count -= placed
        if count > 0:
            fitting = slots // size
            full, rest = divmod(count, fitting)
            nodes += full + bool(rest)
            room[slots - fitting * size] += full
            if rest:
                room[slots - rest * size] += 1
        room = +room
    return nodes


def decide(
    spec: AutoScale, target: int, needed: int, earlier: AutoScaleRun | None, now: str
) -> tuple[int, AutoScaleRun, float | None]:
    """How many nodes there should be.

    Args:
        spec: What the pool says.
        target: How many there should be until now.
        needed: How many the tasks need now.
        earlier: What was found before.
        now: RFC 3339.

    Returns:
        The number; what to remember; seconds after which to look again though nothing happens, or None.
    """
    needed = min(max(needed, spec.min_nodes), spec.max_nodes)
    if needed >= target:
        return needed, AutoScaleRun(needed_nodes=needed), None
    if target > spec.max_nodes:
        return spec.max_nodes, AutoScaleRun(needed_nodes=needed), 0.0
    since = earlier.scale_down_since if earlier else None
    if earlier is None or since is None:
        since, peak = now, needed
    else:
        peak = max(earlier.peak_nodes, needed)
    left = seconds(spec.scale_down_delay) - _elapsed(since, now)
    if left > 0:
        return target, AutoScaleRun(needed_nodes=needed, peak_nodes=peak, scale_down_since=since), left
    lower = min(peak, target)
    if lower == target:  # so many were needed meanwhile: the wait begins anew
        return (
            target,
            AutoScaleRun(needed_nodes=needed, peak_nodes=needed, scale_down_since=now),
            seconds(spec.scale_down_delay),
        )
    again = AutoScaleRun(needed_nodes=needed, peak_nodes=needed, scale_down_since=now if needed < lower else None)
    return lower, again, seconds(spec.scale_down_delay) if needed < lower else None


def _elapsed(since: str, now: str) -> float:
    return (datetime.datetime.fromisoformat(now) - datetime.datetime.fromisoformat(since)).total_seconds()
