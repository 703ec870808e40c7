"""Nodes as people see them: a line of a table each, and in full what is wrong with one."""

from collections.abc import Iterable, Sequence

from packhorse.cli import output
from packhorse.model import NodeState, NodeStatus, Pool
from packhorse.model.node import DeployedPackage, StartTaskInfo

HEADING = ["NODE", "STATE", "SINCE", "PACKAGES", "UP TO DATE", "TASKS", "PENDING", "WORKER"]

_DIGEST = 12  # hexadecimal digits of a digest that people see


def table(nodes: Iterable[tuple[Pool, NodeStatus]], *, wide: bool, pools: bool = False) -> str:
    """A line for each node.

    Args:
        nodes: The nodes with their pools.
        wide: Tell packages by their digests too.
        pools: With a column for the pool.
    """
    rows = [([pool.metadata.name] if pools else []) + _row(pool, node, wide=wide) for pool, node in nodes]
    return output.table((["POOL"] if pools else []) + HEADING, rows)


def _row(pool: Pool, node: NodeStatus, *, wide: bool) -> list[str]:
    return [
        node.name,
        str(node.state),
        output.age(node.state_transition_time),
        packages(node.packages, wide=wide, now=pool.status.packages),
        "yes" if node.up_to_date else "no",
        str(node.running_tasks),
        pending(node),
        node.worker or "",
    ]


def pending(node: NodeStatus) -> str:
    """What a node waits for, until its tasks have ended."""
    if node.pending:
        return node.pending
    waits = node.scheduling_state == "disabled" and node.state is NodeState.RUNNING
    return str(NodeState.OFFLINE) if waits else ""


def packages(deployed: Sequence[DeployedPackage], *, wide: bool, now: Sequence[DeployedPackage] | None = None) -> str:
    """Packages in one line.

    Args:
        deployed: The packages.
        wide: With the beginnings of their digests.
        now: What a node would install now; what is not among these is marked. None to mark nothing.
    """
    current = None if now is None else {_content(package) for package in now}
    return ", ".join(
        f"{package.application_id}#{package.version}"
        + (f"@{package.sha256[:_DIGEST]}" if wide else "")
        + (" (old)" if current is not None and _content(package) not in current else "")
        for package in deployed
    )


def _content(package: DeployedPackage) -> tuple[str, str, str]:
    return package.application_id.lower(), package.version.lower(), package.sha256


def errors(node: NodeStatus) -> list[str]:
    """Everything that is wrong with a node, in lines; empty where nothing is."""
    lines = []
    for error in node.errors:
        lines.append(f"{node.name}: {error.code}: {error.message}")
        lines += [f"  {detail.name}: {detail.value}" for detail in error.error_details]
    return lines


def trouble(node: NodeStatus) -> str:
    """What is wrong with a node in one line, beginning with its state."""
    error = next(iter(node.errors), None)
    if error is None:
        return str(node.state)
    details = [f"{detail.name}: {detail.value}" for detail in error.error_details]
    return "; ".join([f"{node.state}: {error.code}: {error.message}", *details])


def start_task(info: StartTaskInfo) -> str:
    """How a start task goes or went."""
    words: list[str] = [info.result or info.state]
    if info.exit_code is not None:
        words.append(f"exit code {info.exit_code}")
    if info.retry_count:
        words.append("1 retry" if info.retry_count == 1 else f"{info.retry_count} retries")
    if info.end_time:
        words.append(f"{output.age(info.end_time)} ago")
    else:
        words.append(f"since {output.age(info.start_time)}")
    return ", ".join(words)
