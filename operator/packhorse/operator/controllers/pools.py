"""Makes the objects of each Pool and keeps its status."""

import hashlib
from collections.abc import Callable

import msgspec

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import CONFIG_MAP, STATEFUL_SET, Client
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.status import write_status
from packhorse.domain import azure
from packhorse.domain.conditions import READY
from packhorse.domain.nodepod import NodeSettings, config_map, stateful_set
from packhorse.domain.nodes import Presence
from packhorse.domain.pools import PoolView, pool_status, resolve_pool
from packhorse.model import Pool, PoolStatus
from packhorse.operator.caches import Caches


class PoolController:
    """Makes the StatefulSet of each Pool and keeps its status.

    Args:
        presence: What the connections of a pool's nodes show, by name of the node.
    """

    def __init__(
        self,
        client: Client,
        caches: Caches,
        events: EventRecorder,
        settings: NodeSettings,
        presence: Callable[[Key], dict[str, Presence]],
    ) -> None:
        self._client = client
        self._caches = caches
        self._events = events
        self._settings = settings
        self._presence = presence
        self._applied: dict[str, tuple[str, int]] = {}

    async def reconcile(self, key: Key) -> None:
        """Reconcile one Pool."""
        pool = self._caches.pools.get(key)
        if pool is None or pool.metadata.deletion_timestamp is not None:
            return
        resolution = resolve_pool(pool, self._caches.catalog(key[0]))
        node_set = self._caches.node_sets.get(key)
        conflict = ""
        if node_set is not None or resolution.packages is not None:
            conflict = await self._apply(pool)
        node_set = self._caches.node_sets.get(key)
        view = PoolView(
            pool=pool,
            resolution=resolution,
            pods=self._caches.nodes_of(key),
            presence=self._presence(key),
            revision=node_set.revision if node_set else "",
            conflict=conflict,
        )
        status = pool_status(view, timestamp())
        raw = await write_status(self._client, pool, status)
        if raw is not None:
            self._caches.pools.put(raw)
            await self._tell(pool, status)

    async def _tell(self, pool: Pool, status: PoolStatus) -> None:
        """Events for what a person should notice, once each."""
        before, ready = pool.status.condition(READY), status.condition(READY)
        told = before.reason if before else ""
        if ready is not None and ready.reason in {"Conflict", azure.INVALID_REFERENCES} and ready.reason != told:
            await self._events.record(pool, ready.reason, ready.message, warning=True)
        earlier = {node.name: node.errors for node in pool.status.nodes}
        for node in status.nodes:
            if node.errors and node.errors != earlier.get(node.name):
                error = node.errors[0]
                details = "; ".join(f"{detail.name}: {detail.value}" for detail in error.error_details)
                note = f"node {node.name}: {error.message}; {details}"
                await self._events.record(pool, "NodeUnusable", note, action="Install", warning=True)

    async def _apply(self, pool: Pool) -> str:
        """Apply the pool's objects unless they are as they should be; why they cannot be made, or nothing."""
        found = self._caches.node_sets.get(pool.key)
        if found is not None and found.pool_uid != pool.metadata.uid:
            return (
                f"there is a StatefulSet '{pool.metadata.name}' that belongs to something else;"
                " delete it or give the pool another name"
            )
        wanted = [(CONFIG_MAP, config_map(pool, self._settings)), (STATEFUL_SET, stateful_set(pool, self._settings))]
        digest = hashlib.sha256(msgspec.json.encode([body for _, body in wanted], order="sorted")).hexdigest()
        if found is not None and self._applied.get(pool.metadata.uid) == (digest, found.generation):
            return ""
        if found is None and await self._client.find(STATEFUL_SET, *pool.key) is not None:
            # not ours: ours carry the label that the cache is filled by
            return f"there is a StatefulSet '{pool.metadata.name}' already; delete it or give the pool another name"
        for kind, body in wanted:
            raw = await self._client.apply(kind, body)
            if kind is STATEFUL_SET:
                self._caches.node_sets.put(raw)
                self._applied[pool.metadata.uid] = (digest, raw["metadata"]["generation"])
        return ""
