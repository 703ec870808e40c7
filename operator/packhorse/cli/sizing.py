"""How many nodes a pool has: set by hand, or following the tasks."""

import contextlib
import re
import time
from collections.abc import Collection
from typing import Any

from packhorse.cli import duration, nodeview, output
from packhorse.cli.cluster import POOLS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import INTERRUPTED, CliError, UsageError
from packhorse.cli.options import RunningTasks, Target
from packhorse.cli.parsing import parse
from packhorse.cli.returning import GOOD
from packhorse.domain.wording import some
from packhorse.model import Pool
from packhorse.model.node import BROKEN
from packhorse.model.pool import AutoScale
from packhorse.model.reference import DURATION_PATTERN

_NAMED = 10  # names in a message


def resize(target: Target, name: str, count: int, option: RunningTasks | None, timeout: str, *, wait: bool) -> None:
    """Set how many nodes a pool has.

    Args:
        target: Where it is.
        name: Its name.
        count: The number.
        option: What becomes of tasks on nodes that leave, from now on; None to leave that as it is.
        timeout: How long to wait.
        wait: Wait until it has so many.

    Raises:
        CliError: It sets the number itself, or is not there; or a new node is broken, or the time is up.
    """
    limit = duration.seconds(timeout)
    with connect(target) as cluster:
        pool = parse(Pool, cluster.get(POOLS, name))
        _refuse_automatic(pool)
        if option and option.value != pool.spec.node_deallocation_option.value:
            cluster.merge(POOLS, name, {"spec": {"nodeDeallocationOption": option.value}})
            print(f"pool/{name} running tasks of nodes that leave: {option}", flush=True)
        before = pool.spec.target_nodes
        if count == before:
            print(f"pool/{name} unchanged ({output.plural(count, 'node')})", flush=True)
        else:
            cluster.merge(POOLS, name, {"spec": {"replicas": count}}, subresource="scale")
            print(f"pool/{name} resized from {before} to {output.plural(count, 'node')}", flush=True)
        if wait:
            deadline = None if limit is None else time.monotonic() + limit
            _await_steady(cluster, name, count, {node.name for node in pool.status.nodes}, deadline)


def _refuse_automatic(pool: Pool) -> None:
    limits, name = pool.spec.auto_scale, pool.metadata.name
    if limits is not None:
        raise CliError(
            f"Pool {name} cannot be resized: its autoScale sets the number of its nodes,"
            f" {limits.min_nodes} to {limits.max_nodes}.",
            f"Change these: packhorse pool autoscale enable {name} --min N --max N, or switch it off:"
            f" packhorse pool autoscale disable {name} --target N",
        )


def _await_steady(cluster: Cluster, name: str, count: int, before: Collection[str], deadline: float | None) -> None:
    """Wait until a pool has so many nodes, and the new ones take tasks or are broken.

    Args:
        cluster: Where it is.
        name: Its name.
        count: How many nodes it is to have.
        before: Names of those that it had before.
        deadline: Until when to wait, of ``time.monotonic``; None for no limit.
    """
    pool: Pool | None = None
    try:
        with contextlib.closing(cluster.follow(POOLS, name=name, deadline=deadline)) as changes:
            for change in changes:
                if name not in change.objects:
                    raise CliError(f"Pool {name} was deleted meanwhile.")
                pool = parse(Pool, change.objects[name])
                if pool.spec.target_nodes != count:
                    raise CliError(f"Pool {name} was resized to {pool.spec.target_nodes} meanwhile.")
                if _is_steady(pool, before):
                    _conclude(pool, before)
                    return
    except KeyboardInterrupt:
        raise CliError("Interrupted; the resize goes on.", exit_code=INTERRUPTED) from None
    current = pool.status.current_nodes if pool else 0
    raise CliError(
        f"The time is up: pool {name} has {current} of {output.plural(count, 'node')}.",
        f"The resize goes on; see: packhorse pool show {name}",
    )


def _is_steady(pool: Pool, before: Collection[str]) -> bool:
    status = pool.status
    new = [node for node in status.nodes if node.name not in before]
    return (
        status.observed_generation >= pool.metadata.generation
        and status.allocation_state == "steady"
        and status.current_nodes == pool.spec.target_nodes
        and all(node.state in GOOD | BROKEN for node in new)
    )


def _conclude(pool: Pool, before: Collection[str]) -> None:
    print(f"pool/{pool.metadata.name} steady: {output.plural(pool.status.current_nodes, 'node')}")
    broken = [node for node in pool.status.nodes if node.name not in before and node.state in BROKEN]
    if broken:
        raise CliError(
            f"{len(broken)} of the new nodes cannot run tasks: {some([node.name for node in broken], _NAMED)}."
            f" {broken[0].name} is {nodeview.trouble(broken[0])}",
            f"See all of it: packhorse pool show {pool.metadata.name}",
        )


def enable_autoscale(target: Target, name: str, least: int | None, most: int | None, delay: str | None) -> None:
    """Let the number of nodes follow the tasks; what is not given stays as it is.

    Raises:
        UsageError: The numbers or the delay make no sense, or the most is not known.
    """
    if delay is not None and not (len(delay) > 1 and re.fullmatch(DURATION_PATTERN, delay)):
        raise UsageError(f"'{delay}' is no duration: write for example 90s, 5m or 1h30m.")
    with connect(target) as cluster:
        pool = parse(Pool, cluster.get(POOLS, name))
        earlier = pool.spec.auto_scale
        if most is None and earlier is None:
            raise UsageError("Say how many nodes there may be at most: --max N.")
        given = {"min_nodes": least, "max_nodes": most, "scale_down_delay": delay}
        fields = (earlier.model_dump() if earlier else {}) | {
            key: value for key, value in given.items() if value is not None
        }
        wanted = AutoScale.model_validate(fields)
        if wanted.min_nodes > wanted.max_nodes:
            raise UsageError(f"--min {wanted.min_nodes} is above --max {wanted.max_nodes}.")
        words = f"{wanted.min_nodes} to {wanted.max_nodes} nodes, fewer after {wanted.scale_down_delay}"
        if wanted == earlier:
            print(f"pool/{name} unchanged (autoscale {words})")
            return
        cluster.merge(POOLS, name, {"spec": {"autoScale": wanted.dump()}})
        print(f"pool/{name} autoscale {words}")


def disable_autoscale(target: Target, name: str, count: int | None) -> None:
    """Keep the number of nodes that there is now, or this one."""
    with connect(target) as cluster:
        pool = parse(Pool, cluster.get(POOLS, name))
        spec: dict[str, Any] = {} if pool.spec.auto_scale is None else {"autoScale": None}
        if count is not None and count != pool.spec.target_nodes:
            spec["targetNodes"] = count
        nodes = output.plural(pool.spec.target_nodes if count is None else count, "node")
        if not spec:
            print(f"pool/{name} unchanged (autoscale is off, {nodes})")
            return
        cluster.merge(POOLS, name, {"spec": spec})
        print(f"pool/{name} autoscale off, {nodes}")
