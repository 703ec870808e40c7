"""Disabling and enabling the scheduling of tasks on nodes."""

from collections.abc import Sequence

from packhorse.cli.cluster import PODS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError
from packhorse.cli.nodes import Node, find_all
from packhorse.cli.options import RunningTasks, Target
from packhorse.model.node import DISABLE_ANNOTATION

_TASKS = {
    RunningTasks.REQUEUE: "tasks that run there are requeued",
    RunningTasks.TERMINATE: "tasks that run there are terminated",
    RunningTasks.TASK_COMPLETION: "tasks that run there go on to their ends",
}


def disable(target: Target, names: Sequence[str], option: RunningTasks | None) -> None:
    """Let nodes get no further tasks. One that is disabled already stays so, unless another option is given.

    Args:
        target: Where they are.
        names: Their names.
        option: What becomes of running tasks; None for the default one.

    Raises:
        CliError: One is not there; then none is changed.
    """
    with connect(target) as cluster:
        for node in _find_present(cluster, names):
            given = node.annotations.get(DISABLE_ANNOTATION)
            wanted = option or RunningTasks.REQUEUE
            if given is not None and (option is None or given == option.value):
                print(f"node/{node.name} unchanged (scheduling is disabled already)")
                continue
            cluster.merge(PODS, node.name, {"metadata": {"annotations": {DISABLE_ANNOTATION: wanted.value}}})
            print(f"node/{node.name} disabled; {_TASKS[wanted]}")


def enable(target: Target, names: Sequence[str]) -> None:
    """Let nodes get tasks again.

    Raises:
        CliError: One is not there; then none is changed.
    """
    with connect(target) as cluster:
        for node in _find_present(cluster, names):
            if DISABLE_ANNOTATION not in node.annotations:
                print(f"node/{node.name} unchanged (scheduling is enabled already)")
                continue
            cluster.merge(PODS, node.name, {"metadata": {"annotations": {DISABLE_ANNOTATION: None}}})
            print(f"node/{node.name} enabled")


def _find_present(cluster: Cluster, names: Sequence[str]) -> list[Node]:
    """The nodes of these names, whose pods are there to stay: a setting of one that goes would go with it."""
    nodes = find_all(cluster, names)
    for node in nodes:
        if node.going:
            raise CliError(
                f"Node {node.name} is restarting now; a restart enables scheduling.",
                f"Wait until it is back: packhorse node show {node.name}",
            )
    return nodes
