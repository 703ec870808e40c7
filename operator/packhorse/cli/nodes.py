"""Nodes: what there is, and finding the one that is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from packhorse.cli import nodeview, output
from packhorse.cli.cluster import PODS, POOLS, Cluster, Json
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.domain.wording import some
from packhorse.model import NodeStatus, Pool
from packhorse.model.node import POOL_LABEL

_NAMED = 10  # names in a message


@dataclass(frozen=True)
class Node:
    """A node that somebody named.

    Attributes:
        pool: Its pool.
        status: What is known of it; None where the operator has not seen it yet.
        pod: Its pod; None between two, while it is restarted.
    """

    name: str
    pool: Pool
    status: NodeStatus | None
    pod: Json | None

    @property
    def uid(self) -> str:
        """Of its pod; empty where there is none."""
        return str(self.pod["metadata"]["uid"]) if self.pod else ""

    @property
    def annotations(self) -> dict[str, str]:
        """Of its pod."""
        return dict(self.pod["metadata"].get("annotations") or {}) if self.pod else {}

    @property
    def going(self) -> bool:
        """Whether its pod is gone or on its way out."""
        return self.pod is None or "deletionTimestamp" in self.pod["metadata"]


def find(cluster: Cluster, name: str) -> Node:
    """The node of that name.

    Raises:
        CliError: There is none; the message says where to look.
    """
    pod = cluster.find(PODS, name)
    if pod is not None:
        pool_name = (pod["metadata"].get("labels") or {}).get(POOL_LABEL, "")
        if not pool_name:
            raise CliError(f"Pod {name} is no node: it does not belong to a pool.", "List them: packhorse node list")
    else:
        pool_name = name.rpartition("-")[0]
    item = cluster.find(POOLS, pool_name) if pool_name else None
    if item is None:
        raise _nowhere(cluster, name)
    pool = parse(Pool, item)
    status = next((node for node in pool.status.nodes if node.name == name), None)
    if pod is None and status is None:
        raise _not_there(pool, name)
    return Node(name, pool, status, pod)


def find_all(cluster: Cluster, names: Sequence[str]) -> list[Node]:
    """The nodes of these names, each once. Raises CliError where one is not there."""
    return [find(cluster, name) for name in dict.fromkeys(names)]


def _nowhere(cluster: Cluster, name: str) -> CliError:
    pools = [item["metadata"]["name"] for item in cluster.objects(POOLS)]
    there = f"The pools here: {some(pools, _NAMED)}." if pools else "There are no pools here: check the namespace (-n)."
    return CliError(
        f"There is no node '{name}' here, and no pool that it may belong to. {there}",
        "Nodes are named POOL-NUMBER; list them: packhorse node list" if pools else "",
    )


def _not_there(pool: Pool, name: str) -> CliError:
    there = [node.name for node in pool.status.nodes]
    has = f"{output.plural(len(there), 'node')}: {some(there, _NAMED)}" if there else "no nodes"
    return CliError(
        f"There is no node '{name}' here: pool {pool.metadata.name} has {has}.",
        f"List them: packhorse node list {pool.metadata.name}",
    )


def show_all(target: Target, pool: str | None, form: Output | None) -> None:
    """Print the nodes of a namespace, or those of one pool."""
    with connect(target) as cluster:
        items = [cluster.get(POOLS, pool)] if pool else cluster.objects(POOLS)
    nodes = [(item, node) for item in items for node in item.get("status", {}).get("nodes") or []]
    if form is Output.NAME:
        for _, node in nodes:
            print(f"pod/{node['name']}")
    elif form in {Output.YAML, Output.JSON}:
        print(output.dump([_entry(item, node) for item, node in nodes], form))
    elif not nodes:
        of = f"Pool {pool} has no nodes" if pool else f"No nodes in namespace {cluster.namespace}"
        output.say(f"{of}.")
    else:
        pools = [parse(Pool, item) for item in items]
        rows = [(each, node) for each in pools for node in each.status.nodes]
        print(nodeview.table(rows, wide=form is Output.WIDE, pools=pool is None))


def _entry(item: Json, node: Json) -> Json:
    """A node as its pool's status has it, with the pool's name."""
    return {"pool": item["metadata"]["name"], **node}


def show(target: Target, name: str, form: Output | None) -> None:
    """Print one node."""
    with connect(target) as cluster:
        node = find(cluster, name)
    if form is Output.NAME:
        print(f"pod/{name}")
        return
    if form in {Output.YAML, Output.JSON}:
        entry: dict[str, Any] = node.status.dump() if node.status else {"name": name}
        print(output.dump({"pool": node.pool.metadata.name, **entry}, form))
        return
    print(output.facts(_facts(node)))
    if node.status and (lines := nodeview.errors(node.status)):
        print("\n" + "\n".join(lines))


def _facts(node: Node) -> list[tuple[str, str]]:
    facts = [("Node", node.name), ("Pool", node.pool.metadata.name)]
    if node.pod:
        facts.append(("Started", f"{output.age(node.pod['metadata']['creationTimestamp'])} ago"))
    status = node.status
    if status is None:
        return [*facts, ("State", "not known yet: the operator has not seen it")]
    waits = nodeview.pending(status)
    facts += [
        ("State", f"{status.state} since {output.age(status.state_transition_time)}"),
        ("Pending", f"{waits}, once its tasks have ended" if waits else ""),
        ("Scheduling", status.scheduling_state),
        ("Worker", status.worker or ""),
        ("Tasks", f"{output.plural(status.running_tasks, 'task')}, slots: {node.pool.spec.task_slots_per_node}"),
        ("Packages", nodeview.packages(status.packages, wide=True, now=node.pool.status.packages) or "none"),
        ("Up to date", "yes" if status.up_to_date else "no"),
        ("Start task", nodeview.start_task(status.start_task_info) if status.start_task_info else ""),
    ]
    return [fact for fact in facts if fact[1]]
