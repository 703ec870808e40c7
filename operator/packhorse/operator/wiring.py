"""The parts of the operator, and which change wakes which of them."""

from collections.abc import Coroutine, Iterable
from typing import Any

from packhorse.cluster.cache import Key
from packhorse.cluster.client import Client
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.queue import WorkQueue
from packhorse.domain.conditions import STORAGE_LINKED
from packhorse.domain.nodepod import NodeSettings
from packhorse.domain.podstate import Pod
from packhorse.model import Application, ApplicationPackage, Pool, Task
from packhorse.model.names import application_name
from packhorse.operator.caches import Caches, NodeSet
from packhorse.operator.controllers.applications import ApplicationController
from packhorse.operator.controllers.packages import PackageController
from packhorse.operator.controllers.pools import PoolController
from packhorse.operator.dispatcher import Dispatcher
from packhorse.operator.grants import Grants
from packhorse.operator.node_service import NodeService
from packhorse.operator.sessions import Sessions
from packhorse.operator.settings import Settings
from packhorse.operator.storage import LinkedStorage
from packhorse.operator.verifier import Verifier
from packhorse.protocol import PackagesRemoved

POOL_STATUS_DELAY = 0.5
"""Seconds in which changes of a pool's nodes are gathered into one status, since tasks come and go in milliseconds."""
APPLICATION_STATUS_DELAY = 0.3
"""Seconds in which changes of an application's packages are gathered into one status."""


class Parts:
    """Controllers with their queues, the dispatcher and the node service.

    Args:
        authority: PEM certificate that nodes check the node service by.
    """

    def __init__(
        self, settings: Settings, client: Client, caches: Caches, storage: LinkedStorage, authority: str
    ) -> None:
        events = EventRecorder(client, settings.instance)
        nodes = NodeSettings(
            settings.image, settings.pull_policy, settings.node_service, authority, settings.node_network_policy
        )
        self._caches = caches
        self._dispatcher = Dispatcher(client, caches, Sessions(), self._pool_changed)
        applications = ApplicationController(client, caches, events)
        limits = settings.limits
        self._grants = grants = Grants(
            client,
            storage,
            embedded=settings.embedded_storage,
            proxy=_storage_proxy(settings),
            limits=limits,
            package_size=settings.package_size,
        )
        verifier = Verifier(storage, limits, self._package_changed)
        self._package_controller = PackageController(
            client, caches, storage, events, settings=settings, grants=grants, verifier=verifier
        )
        self._pool_controller = pools = PoolController(client, caches, events, nodes, self._dispatcher)
        self._applications: WorkQueue[Key] = WorkQueue("Application", applications.reconcile, group=_namespace)
        self._packages: WorkQueue[Key] = WorkQueue(
            "ApplicationPackage", self._package_controller.reconcile, workers=8, group=_namespace
        )
        self._pools: WorkQueue[Key] = WorkQueue("Pool", pools.reconcile, group=_namespace)
        self.service = NodeService(
            client,
            caches,
            self._dispatcher,
            limits=limits,
            storage=storage,
            package_changed=self._package_changed,
            packages_removed=self._packages_removed,
        )
        storage.on_change(self._storage_changed)

    def work(self) -> Iterable[Coroutine[Any, Any, None]]:
        """What has to run, each until cancelled."""
        return [part.run() for part in (self._applications, self._packages, self._pools, self._dispatcher)]

    def subscribe(self) -> None:
        """Hear of every change from now on, and of every object that is there already: pods before tasks."""
        self._caches.applications.subscribe(self._application_seen)
        self._caches.packages.subscribe(self._package_seen)
        self._caches.pools.subscribe(self._pool_seen)
        self._caches.node_sets.subscribe(self._node_set_seen)
        self._caches.pods.subscribe(self._pod_seen)
        self._caches.tasks.subscribe(self._task_seen)

    def _pool_changed(self, key: Key) -> None:
        self._pools.add(key, POOL_STATUS_DELAY)

    def _pools_changed(self, namespace: str) -> None:
        """References may mean something else now."""
        for pool in self._caches.pools.in_namespace(namespace):
            self._pool_changed(pool.key)

    def _package_changed(self, key: Key) -> None:
        self._packages.add(key)

    async def _packages_removed(self, node: Key, message: PackagesRemoved) -> None:
        pod = self._caches.pods.get(node)
        pool = self._caches.pools.get((pod.namespace, pod.pool)) if pod is not None else None
        if pool is not None:
            await self._pool_controller.packages_removed(pool, node[1], message)

    def _storage_changed(self, namespace: str | None) -> None:
        """An account answers again, or is another one: what waits for it need not wait longer. None: all namespaces."""
        self._grants.forget_all()
        pools = list(self._caches.pools if namespace is None else self._caches.pools.in_namespace(namespace))
        self._pool_controller.retry(pools)
        for pool in pools:
            self._pools.add(pool.key)
        for package in self._caches.packages if namespace is None else self._caches.packages.in_namespace(namespace):
            linked = package.status.condition(STORAGE_LINKED)
            if linked is None or linked.status != "True":
                self._packages.add(package.key)

    def _application_seen(self, key: Key, before: Application | None, now: Application | None) -> None:
        self._applications.add(key)
        if before is not None and now is not None and before.spec == now.spec:
            return
        self._pools_changed(key[0])
        if before is not None:
            for package in self._caches.packages_of(key):
                self._packages.add(package.key)

    def _package_seen(self, key: Key, before: ApplicationPackage | None, now: ApplicationPackage | None) -> None:
        self._packages.add(key)
        seen = now or before
        if seen is None:
            return
        if now is None:
            self._package_controller.forget(seen)
        self._applications.add((key[0], application_name(seen.spec.application_id)), APPLICATION_STATUS_DELAY)
        if before is None or now is None or before.active != now.active or before.status.sha256 != now.status.sha256:
            self._pools_changed(key[0])

    def _pool_seen(self, key: Key, _before: Pool | None, now: Pool | None) -> None:
        self._pools.add(key)
        if now is not None:
            self._dispatcher.pool_seen(now)

    def _node_set_seen(self, key: Key, _before: NodeSet | None, _now: NodeSet | None) -> None:
        self._pool_changed(key)

    def _pod_seen(self, key: Key, before: Pod | None, now: Pod | None) -> None:
        if now is not None:
            self._dispatcher.node_seen(now)
        else:
            self._dispatcher.node_gone(key)
        seen = now or before
        if seen is not None:
            self._pool_changed((key[0], seen.pool))

    def _task_seen(self, _key: Key, before: Task | None, now: Task | None) -> None:
        if before is not None and (now is None or now.metadata.uid != before.metadata.uid):
            self._dispatcher.task_gone(before)
        if now is not None:
            self._dispatcher.task_seen(now)


def _namespace(key: Key) -> str:
    return key[0]


def _storage_proxy(settings: Settings) -> str:
    """Path on the API server that leads to the embedded storage, for those outside the cluster."""
    host, _, port = settings.embedded_storage.partition(":")
    if not host:
        return ""
    return f"/api/v1/namespaces/{settings.namespace}/services/https:{host.partition('.')[0]}:{port}/proxy"
