"""The fleet in memory: nodes with their slots, tasks that wait, and who runs where.

Everything here can be rebuilt from the API server and the nodes' reports; nothing is decided from time.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from packhorse.model.pool import NodeFillType

PoolKey = tuple[str, str]
NodeKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A task that waits for a node. The order of the fields is the order of the queue.

    Attributes:
        negative_priority: Higher priorities first.
        created: RFC 3339 time of creation: older tasks first.
        name: Breaks ties, so that the order is total within a pool.
    """

    negative_priority: int
    created: str
    name: str
    uid: str
    slots: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task and the node that it shall run on."""

    uid: str
    node: NodeKey


@dataclass(slots=True)
class _Node:
    pool: PoolKey
    ordinal: int
    slots: int
    free: int
    enabled: bool = False
    held: dict[str, int] = field(default_factory=dict)


class Fleet:
    """Nodes, their free slots, and the queues of the pools. Not thread-safe; every method is quick."""

    def __init__(self) -> None:
        self._nodes: dict[NodeKey, _Node] = {}
        self._queues: defaultdict[PoolKey, list[Waiting]] = defaultdict(list)
        self._waiting: dict[str, tuple[PoolKey, int]] = {}
        self._demand: defaultdict[PoolKey, Counter[int]] = defaultdict(Counter)
        self._holders: dict[str, NodeKey] = {}

    def set_node(self, key: NodeKey, *, pool: PoolKey, ordinal: int, slots: int, enabled: bool) -> None:
        """Tell of a node; only an enabled one gets tasks. Known ones keep what they hold."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node(pool, ordinal, slots, slots)
        node.free += slots - node.slots
        node.slots, node.enabled = slots, enabled

    def remove_node(self, key: NodeKey) -> tuple[str, ...]:
        """Forget a node; the uids of the tasks that it held."""
        node = self._nodes.pop(key, None)
        held = tuple(node.held) if node else ()
        for uid in held:
            del self._holders[uid]
        return held

    def enqueue(self, pool: PoolKey, task: Waiting) -> None:
        """Put a task into its pool's queue, unless it waits there already or a node holds it."""
        if task.uid not in self._waiting and task.uid not in self._holders:
            self._waiting[task.uid] = (pool, task.slots)
            self._demand[pool][task.slots] += 1
            heapq.heappush(self._queues[pool], task)

    def hold(self, uid: str, node: NodeKey, slots: int) -> bool:
        """Note that a node holds a task, as after a restart; False where there is no such node."""
        holder = self._nodes.get(node)
        if holder is None:
            return False
        if uid not in holder.held:
            self.release(uid)
            holder.held[uid] = slots
            holder.free -= slots
            self._holders[uid] = node
        self._wait_no_more(uid)
        return True

    def release(self, uid: str) -> NodeKey | None:
        """Forget a task: it no longer waits and no node holds it. The node that held it."""
        self._wait_no_more(uid)
        key = self._holders.pop(uid, None)
        if key is not None:
            node = self._nodes[key]
            node.free += node.held.pop(uid)
        return key

    def holder(self, uid: str) -> NodeKey | None:
        """The node that holds a task."""
        return self._holders.get(uid)

    def held(self, node: NodeKey) -> tuple[str, ...]:
        """The uids of the tasks that a node holds."""
        found = self._nodes.get(node)
        return tuple(found.held) if found else ()

    def free(self, node: NodeKey) -> int:
        """How many slots of a node are free; below 0 where it was found to hold more than it has."""
        found = self._nodes.get(node)
        return found.free if found else 0

    def waiting(self, pool: PoolKey) -> int:
        """How many tasks wait for a pool."""
        return self._demand[pool].total() if pool in self._demand else 0

    def demand(self, pool: PoolKey) -> Counter[int]:
        """How many tasks of a pool need so many slots, those that wait and those that nodes hold."""
        found = Counter(self._demand.get(pool))
        for node in self._nodes.values():
            if node.pool == pool:
                found.update(node.held.values())
        return found

    def _wait_no_more(self, uid: str) -> None:
        entry = self._waiting.pop(uid, None)
        if entry is None:
            return
        pool, slots = entry
        self._demand[pool][slots] -= 1
        if not self._demand[pool][slots]:
            del self._demand[pool][slots]
            if not self._demand[pool]:
                del self._demand[pool]

    def assign(self, pool: PoolKey, fill: NodeFillType) -> Iterator[Assignment]:
        """Give waiting tasks to nodes, best task first, until the first one that no node has room for.

        Spread takes the node with most free slots, Pack the one with fewest; among equals the lowest number, so that
        the highest ones tend to be idle when a pool shrinks. A task that needs many slots is never overtaken: small
        ones behind it would keep it waiting for ever.
        """
        queue = self._queues.get(pool)
        if not queue:
            return
        nodes = {key: node for key, node in self._nodes.items() if node.pool == pool and node.enabled}
        sign = -1 if fill is NodeFillType.SPREAD else 1
        room = [(sign * node.free, node.ordinal, key) for key, node in nodes.items() if node.free > 0]
        heapq.heapify(room)
        while queue and room:
            task = queue[0]
            if self._waiting.get(task.uid, (None, 0))[0] != pool:
                heapq.heappop(queue)
                continue
            chosen = self._take(room, task.slots)
            if chosen is None:
                return
            heapq.heappop(queue)
            key = chosen[2]
            self.hold(task.uid, key, task.slots)
            if nodes[key].free > 0:
                heapq.heappush(room, (sign * nodes[key].free, chosen[1], key))
            yield Assignment(task.uid, key)

    @staticmethod
    def _take(room: list[tuple[int, int, NodeKey]], slots: int) -> tuple[int, int, NodeKey] | None:
        """The best entry with that many free slots, removed; None where there is none, and nothing is removed."""
        passed = []
        chosen = None
        while room:
            entry = heapq.heappop(room)
            if abs(entry[0]) >= slots:
                chosen = entry
                break
            passed.append(entry)
        for entry in passed:
            heapq.heappush(room, entry)
        return chosen
