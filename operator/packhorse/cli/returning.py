"""Waiting until nodes that are restarted are back."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from packhorse.cli import nodeview, output
from packhorse.cli.cluster import PODS, POOLS, Cluster, Json
from packhorse.cli.errors import INTERRUPTED, CliError
from packhorse.cli.parsing import parse
from packhorse.cli.progress import meter
from packhorse.domain.wording import some
from packhorse.model import NodeState, NodeStatus, Pool
from packhorse.model.node import BROKEN, POOL_LABEL

_LOOK = 1.0  # seconds between two looks
_SETTLED = 15.0  # seconds after which a state that has not changed with the pod is the new pod's as well
_FEW = 5  # pods that are looked at one by one
_NAMED = 10  # names in a message

GOOD = frozenset({NodeState.IDLE, NodeState.RUNNING, NodeState.OFFLINE})


@dataclass
class _Awaited:
    """A node that is to come back.

    Attributes:
        uid: Of the pod that is to go; empty where it has gone already.
        since: When the state changed last that was told while that pod was there.
        seen: When the new pod was first seen; None before.
    """

    uid: str
    since: str = ""
    seen: float | None = None

    def is_back(self, entry: NodeStatus | None, pod: Json | None) -> bool:
        """Whether what is told now is told of a new pod, and no longer of one that is still on its way.

        Args:
            entry: What its pool's status told, before the pod was looked at.
            pod: Its pod.
        """
        if pod is None or pod["metadata"]["uid"] == self.uid:
            self.since = entry.state_transition_time if entry else ""
            return False
        self.seen = self.seen or time.monotonic()
        if entry is None or entry.state not in GOOD | BROKEN or "deletionTimestamp" in pod["metadata"]:
            return False
        if entry.state in GOOD and not _is_ready(pod):
            return False
        return entry.state_transition_time != self.since or time.monotonic() - self.seen > _SETTLED


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def await_back(cluster: Cluster, pool: str, uids: Mapping[str, str], way: str, deadline: float | None) -> None:
    """Wait until nodes have new pods, and take tasks or are broken; a line is printed for each.

    Args:
        cluster: Where they are.
        pool: Name of their pool.
        uids: By name of the node, the uid of the pod that is to go; empty where it has gone.
        way: What is done with them, for messages.
        deadline: Until when to wait, of ``time.monotonic``; None for no limit.

    Raises:
        CliError: One is broken afterwards, the pool was deleted, or the time is up.
    """
    left = {name: _Awaited(uid) for name, uid in uids.items()}
    broken: list[str] = []
    try:
        with meter("Nodes", len(left), "nodes", quiet=True) as advance:
            while left:
                found = parse(Pool, cluster.get(POOLS, pool))
                _look(cluster, found, left, broken)
                advance(len(uids) - len(left))
                if not left:
                    break
                if deadline is not None and time.monotonic() >= deadline:
                    raise CliError(
                        f"The time is up: {len(left)} of {output.plural(len(uids), 'node')} not back:"
                        f" {some(sorted(left), _NAMED)}.",
                        f"The {way} goes on; see: packhorse node list {pool}",
                    )
                time.sleep(_LOOK)
    except KeyboardInterrupt:
        raise CliError(
            f"Interrupted: {len(uids) - len(left)} of {output.plural(len(uids), 'node')} back; the {way} goes on.",
            exit_code=INTERRUPTED,
        ) from None
    if broken:
        raise CliError(
            f"{len(broken)} of {output.plural(len(uids), 'node')} cannot run tasks: {some(sorted(broken), _NAMED)}.",
            f"See the whole cause: packhorse node show {min(broken)}",
        )


def _look(cluster: Cluster, pool: Pool, left: dict[str, _Awaited], broken: list[str]) -> None:
    """Take out of what is left the nodes that are back, or have left the pool."""
    entries = {node.name: node for node in pool.status.nodes}
    pods = _pods(cluster, pool, left)
    for name in sorted(left, key=_number):
        entry, pod = entries.get(name), pods.get(name)
        if pod is None and _number(name) >= pool.spec.target_nodes:
            print(f"node/{name} left the pool", flush=True)
            del left[name]
        elif left[name].is_back(entry, pod) and entry:
            print(f"node/{name} {nodeview.trouble(entry)}", flush=True)
            if entry.state in BROKEN:
                broken.append(name)
            del left[name]


def _number(name: str) -> int:
    found = re.search(r"-([0-9]+)$", name)
    return int(found[1]) if found else 0


def _pods(cluster: Cluster, pool: Pool, names: Mapping[str, object]) -> dict[str, Json]:
    """Pods of these names, as far as they are there."""
    if len(names) <= _FEW:
        found = [cluster.find(PODS, name) for name in names]
    else:
        found = list(cluster.objects(PODS, f"{POOL_LABEL}={pool.metadata.name}"))
    return {pod["metadata"]["name"]: pod for pod in found if pod is not None}
