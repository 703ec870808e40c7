"""Rebooting and reimaging: single nodes, or all nodes that a pool has now."""

import time
from collections.abc import Sequence
from typing import Literal

from packhorse.cli import duration, output
from packhorse.cli.cluster import PODS, POOLS
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError
from packhorse.cli.nodes import Node, find_all
from packhorse.cli.options import RunningTasks, Target
from packhorse.cli.output import say
from packhorse.cli.parsing import parse
from packhorse.cli.returning import await_back
from packhorse.domain.wording import some
from packhorse.model import NodeState, Pool
from packhorse.model.node import (
    OPTION_ANNOTATION,
    POOL_LABEL,
    REBOOT_ANNOTATION,
    REBOOT_BEFORE_ANNOTATION,
    REIMAGE_ANNOTATION,
    REIMAGE_BEFORE_ANNOTATION,
)

Way = Literal["reboot", "reimage"]

_NAMED = 10  # names in a message

_ON_POD: dict[Way, str] = {"reboot": REBOOT_ANNOTATION, "reimage": REIMAGE_ANNOTATION}
_ON_POOL: dict[Way, str] = {"reboot": REBOOT_BEFORE_ANNOTATION, "reimage": REIMAGE_BEFORE_ANNOTATION}
_TASKS = {
    RunningTasks.REQUEUE: "now; tasks that run there are requeued",
    RunningTasks.TERMINATE: "once the tasks that run there are terminated",
    RunningTasks.TASK_COMPLETION: "once the tasks that run there are completed",
}


def restart_nodes(
    target: Target, names: Sequence[str], way: Way, option: RunningTasks, timeout: str, *, wait: bool
) -> None:
    """Ask for a restart of nodes, and wait until they are back where that is wanted.

    Raises:
        CliError: One is not there, then none is restarted; or one came back broken, or the time is up.
    """
    limit = duration.seconds(timeout)
    with connect(target) as cluster:
        nodes = find_all(cluster, names)
        for node in nodes:
            _refuse_going(node, way)
        deadline = None if limit is None else time.monotonic() + limit
        for node in nodes:
            if node.going:
                print(f"node/{node.name} is restarting already", flush=True)
                continue
            cluster.merge(PODS, node.name, {"metadata": {"annotations": {_ON_POD[way]: option.value}}})
            print(f"node/{node.name} {way}s {_TASKS[option]}", flush=True)
            if node.status and node.status.state is NodeState.UNKNOWN:
                say(
                    f"There is no contact with {node.name}. If its machine is lost, its pod stays until that is back,"
                    f" or until: kubectl delete pod {node.name} --force"
                )
        if wait:
            for pool in dict.fromkeys(node.pool.metadata.name for node in nodes):
                own = {node.name: node.uid for node in nodes if node.pool.metadata.name == pool}
                await_back(cluster, pool, own, way, deadline)


def _refuse_going(node: Node, way: Way) -> None:
    """A pod that is on its way out is rebooted by that; its volume would stay."""
    if node.going and way == "reimage":
        raise CliError(
            f"Node {node.name} is restarting now, and cannot be reimaged at the same time.",
            f"Wait until it is back: packhorse node show {node.name}",
        )


def restart_pool(target: Target, name: str, way: Way, option: RunningTasks, timeout: str, *, wait: bool) -> None:
    """Ask for a restart of all nodes that a pool has now, and wait until they are back where that is wanted.

    Raises:
        CliError: There is no such pool; or a node came back broken, or the time is up.
    """
    limit = duration.seconds(timeout)
    with connect(target) as cluster:
        pool = parse(Pool, cluster.get(POOLS, name))
        before = cluster.clock()  # that of the API server, which dates the pods
        pods = cluster.objects(PODS, f"{POOL_LABEL}={pool.metadata.name}")
        uids = {
            pod["metadata"]["name"]: pod["metadata"]["uid"]
            for pod in pods
            if pod["metadata"]["creationTimestamp"] < before  # both to the second, in UTC
        }
        if not uids:
            print(f"pool/{name} unchanged (it has no nodes that were started before {before})")
            return
        annotations = {_ON_POOL[way]: before, OPTION_ANNOTATION: option.value}
        cluster.merge(POOLS, name, {"metadata": {"annotations": annotations}})
        going = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
        if going and way == "reimage":
            say(f"These are restarting already, and keep their volumes: {some(going, _NAMED)}")
        print(f"pool/{name} {way}s {output.plural(len(uids), 'node')} {_TASKS[option]}", flush=True)
        if wait:
            await_back(cluster, name, uids, way, None if limit is None else time.monotonic() + limit)
