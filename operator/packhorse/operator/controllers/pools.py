"""Makes the objects of each Pool, keeps its nodes as they should be, and its status."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import (
    CONFIG_MAP,
    NETWORK_POLICY,
    POD,
    STATEFUL_SET,
    VOLUME_CLAIM,
    ApiError,
    Client,
    Kind,
    kind_of,
)
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.status import write_status
from packhorse.domain import azure
from packhorse.domain.conditions import NODES_UP_TO_DATE, READY, ROLLING_UPDATE_STOPPED
from packhorse.domain.nodepod import NodeSettings, config_map, network_policy, stateful_set
from packhorse.domain.podstate import VOLUME, Pod
from packhorse.domain.pools import (
    PoolView,
    Resolution,
    fingerprint,
    observe_nodes,
    plan_pool,
    pool_status,
    resolve_pool,
    scale,
)
from packhorse.domain.upkeep import Plan, Purpose, unread_annotations
from packhorse.model import Pool, PoolStatus
from packhorse.model.node import BROKEN
from packhorse.operator.caches import Caches
from packhorse.operator.dispatcher import Dispatcher
from packhorse.operator.trial import at_fault, refusal
from packhorse.protocol import PackagesRemoved

_log = logging.getLogger(__name__)

CONFLICT = "Conflict"
INVALID_TEMPLATE = "InvalidTemplate"
TEMPLATE_RETRY = 30.0
"""Seconds after which a refused template is tried again: a priority class that it names may be there by then."""
MOST_TOLD = 20
"""Events of one kind about one pool at a time: 500 nodes that fail for one reason are not 500 events."""


class PoolController:
    """Makes the StatefulSet of each Pool, restarts and drains its nodes, and keeps its status."""

    def __init__(
        self, client: Client, caches: Caches, events: EventRecorder, settings: NodeSettings, dispatcher: Dispatcher
    ) -> None:
        self._client = client
        self._caches = caches
        self._events = events
        self._settings = settings
        self._dispatcher = dispatcher
        self._applied: dict[str, tuple[str, int]] = {}
        self._wanted: dict[str, str] = {}
        self._retry: defaultdict[str, set[str]] = defaultdict(set)

    def retry(self, pools: Iterable[Pool]) -> None:
        """What made nodes of these pools unusable may be gone: restart those that are, as they are reconciled."""
        for pool in pools:
            broken = {node.name for node in pool.status.nodes if node.state in BROKEN}
            pods = self._caches.nodes_of(pool.key)
            self._retry[pool.metadata.uid] |= {pod.uid for pod in pods if pod.name in broken}

    async def packages_removed(self, pool: Pool, node: str, message: PackagesRemoved) -> None:
        """Tell that a node made room."""
        names = ", ".join(message.references)
        note = (
            f"node {node} removed {names}, least recently used, to make room ({message.freed} bytes): {message.reason}"
        )
        await self._events.record(pool, "PackagesRemoved", note, action="MakeRoom")

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one Pool; the seconds after which to look again."""
        pool = self._caches.pools.get(key)
        if pool is None or pool.metadata.deletion_timestamp is not None:
            return None
        resolution = resolve_pool(pool, self._caches.catalog(key[0]))
        self._notice_change(pool, resolution)
        now = timestamp()
        view = self._view(pool, resolution)
        target, run, again = scale(view, now)
        if target != pool.spec.target_nodes:
            await self._scale(pool, target)  # the change of the Pool comes back as news
            return 2.0
        nodes = observe_nodes(view, now)
        plan = plan_pool(view, nodes, now)
        # No task may be given to a node between the plan and this.
        self._dispatcher.drain(pool, {name: drain.option for name, drain in plan.drains.items()})
        await self._restart(pool, plan)
        node_set = self._caches.node_sets.get(key)
        trouble = None
        if node_set is not None or resolution.packages is not None:
            trouble = await self._apply(pool, plan.replicas)
        status = pool_status(view, nodes, plan, now, trouble=trouble, run=run)
        raw = await write_status(self._client, pool, status)
        if raw is not None:
            self._caches.pools.put(raw)
            await self._tell(pool, status)
        await self._tell_unread(pool)
        retry = TEMPLATE_RETRY if trouble and trouble[0] == INVALID_TEMPLATE else None
        waits = [seconds for seconds in (again, plan.again, retry) if seconds is not None]
        return max(0.1, min(waits)) if waits else None

    def _view(self, pool: Pool, resolution: Resolution) -> PoolView:
        key = pool.key
        node_set = self._caches.node_sets.get(key)
        pods = self._caches.nodes_of(key)
        self._retry[pool.metadata.uid] &= {pod.uid for pod in pods}
        return PoolView(
            pool=pool,
            resolution=resolution,
            pods=pods,
            presence=self._dispatcher.presence(key),
            held=self._dispatcher.held(key),
            demand=self._dispatcher.demand(key) if pool.spec.auto_scale else {},
            revision=node_set.revision if node_set else "",
            retry=frozenset(self._retry[pool.metadata.uid]),
        )

    def _notice_change(self, pool: Pool, resolution: Resolution) -> None:
        """Where a node would get something else now than before, those that failed may well succeed."""
        uid = pool.metadata.uid
        packages = [str(item.package.directory) for item in resolution.packages or ()]
        pods = pool.spec.model_dump_json(include={"image", "template"})
        wanted = " ".join([fingerprint(pool), pods, resolution.message, *packages])
        if self._wanted.get(uid, wanted) != wanted and resolution.packages is not None:
            self.retry([pool])
        self._wanted[uid] = wanted

    async def _scale(self, pool: Pool, target: int) -> None:
        body = {"metadata": {"resourceVersion": pool.metadata.resource_version}, "spec": {"replicas": target}}
        await self._client.patch(kind_of(Pool), *pool.key, body, subresource="scale")
        note = f"from {pool.spec.target_nodes} to {target} node(s), for the tasks that wait and run"
        await self._events.record(pool, "Scaled", note, action="Scale")

    async def _restart(self, pool: Pool, plan: Plan) -> None:
        """Restart the nodes whose turn it is: StatefulSets make a deleted pod anew by themselves."""
        for pod in plan.lost:
            self._dispatcher.lost((pod.namespace, pod.name))
        for pod in plan.reimages:
            if not pool.spec.node_storage.ephemeral:
                # First: it stays until the pod is gone, and the next pod is not made before it is.
                await self._client.delete(VOLUME_CLAIM, pod.namespace, f"{VOLUME}-{pod.name}")
            await self._delete(pool, pod, Purpose.REIMAGE)
        for pod in plan.reboots:
            await self._delete(pool, pod, Purpose.REBOOT)

    async def _delete(self, pool: Pool, pod: Pod, purpose: Purpose) -> None:
        self._retry[pool.metadata.uid].discard(pod.uid)
        await self._client.delete(POD, pod.namespace, pod.name, uid=pod.uid)
        _log.info("node %s/%s: %s", pod.namespace, pod.name, purpose)

    async def _tell_unread(self, pool: Pool) -> None:
        """Tell of annotations that mean nothing: they change no status, so nothing else shows them."""
        unread = [*unread_annotations(pool), *_unread(self._caches.nodes_of(pool.key))]
        if unread:
            note = f"{'; '.join(unread)}: not understood, so nothing is done; see docs/pools.md"
            await self._events.record(pool, "InvalidAnnotation", note, warning=True)

    async def _tell(self, pool: Pool, status: PoolStatus) -> None:
        """Events for what a person should notice, once each."""
        before, ready = pool.status.condition(READY), status.condition(READY)
        told = before.reason if before else ""
        reasons = {CONFLICT, INVALID_TEMPLATE, azure.INVALID_REFERENCES}
        if ready is not None and ready.reason in reasons and ready.reason != told:
            await self._events.record(pool, ready.reason, ready.message, warning=True)
        update = status.condition(NODES_UP_TO_DATE)
        if update is not None and update.reason == ROLLING_UPDATE_STOPPED:
            await self._events.record(pool, update.reason, update.message, action="Update", warning=True)
        earlier = {node.name: node.errors for node in pool.status.nodes}
        news = [node for node in status.nodes if node.errors and node.errors != earlier.get(node.name)]
        for node in news[:MOST_TOLD]:
            error = node.errors[0]
            details = "; ".join(f"{detail.name}: {detail.value}" for detail in error.error_details)
            note = f"node {node.name}: {error.message}; {details}"
            await self._events.record(pool, "NodeUnusable", note, action="Install", warning=True)

    async def _apply(self, pool: Pool, replicas: int) -> tuple[str, str] | None:
        """Apply the pool's objects unless they are as they should be; why they cannot be, as reason and message."""
        name = pool.metadata.name
        found = self._caches.node_sets.get(pool.key)
        if found is not None and found.pool_uid != pool.metadata.uid:
            return CONFLICT, (
                f"there is a StatefulSet '{name}' that belongs to something else;"
                " delete it or give the pool another name"
            )
        wanted = self._objects(pool, replicas)
        digest = hashlib.sha256(msgspec.json.encode([body for _, body in wanted], order="sorted")).hexdigest()
        if found is not None and self._applied.get(pool.metadata.uid) == (digest, found.generation):
            return None
        if found is None and await self._client.find(STATEFUL_SET, *pool.key) is not None:
            # not ours: ours carry the label that the cache is filled by
            return CONFLICT, f"there is a StatefulSet '{name}' already; delete it or give the pool another name"
        if not self._settings.network_policy:
            policy = network_policy(pool)["metadata"]
            await self._client.delete(NETWORK_POLICY, policy["namespace"], policy["name"])
        for kind, body in wanted:
            raw, told = await self._put(kind, body)
            if told:
                if kind is STATEFUL_SET and found is not None:  # nodes as they were, and as many as there shall be
                    await self._client.patch(STATEFUL_SET, *pool.key, {"spec": {"replicas": replicas}})
                return INVALID_TEMPLATE, f"the {kind.plural} of the pool's nodes is refused: {told}; see spec.template"
            if kind is STATEFUL_SET:
                self._caches.node_sets.put(raw)
                self._applied[pool.metadata.uid] = (digest, raw["metadata"]["generation"])
        return None

    async def _put(self, kind: Kind, body: dict[str, object]) -> tuple[dict[str, Any], str]:
        """Apply an object of a pool, a StatefulSet after a trial; the object, or why it is refused."""
        try:
            told = await refusal(self._client, body) if kind is STATEFUL_SET else None
            if told is None:
                return await self._client.apply(kind, body), ""
        except ApiError as error:
            if not at_fault(error):
                raise
            told = str(error)
        return {}, told

    def _objects(self, pool: Pool, replicas: int) -> list[tuple[Kind, dict[str, object]]]:
        policies = [(NETWORK_POLICY, network_policy(pool))] if self._settings.network_policy else []
        return [
            (CONFIG_MAP, config_map(pool, self._settings)),
            *policies,
            (STATEFUL_SET, stateful_set(pool, self._settings, replicas=replicas)),
        ]


def _unread(pods: Collection[Pod]) -> list[str]:
    return [f"pod {pod.name}: {text}" for pod in pods for text in pod.unread]
