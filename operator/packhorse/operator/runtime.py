"""The operator from start to stop: its client, its caches, and the parts that work on them."""

import asyncio
import logging
import signal
import uuid
from collections.abc import Coroutine, Mapping
from typing import Any

from packhorse.cluster.cache import Cache, key_of
from packhorse.cluster.client import ApiError, ApiUnavailableError, Client, Kind
from packhorse.cluster.lease import Lease
from packhorse.operator.authority import issue, server_context
from packhorse.operator.caches import Caches
from packhorse.operator.health import Health
from packhorse.operator.node_service import NodeService
from packhorse.operator.secrets import authority, embedded_account
from packhorse.operator.settings import Settings
from packhorse.operator.storage import LinkedStorage
from packhorse.operator.wiring import Parts

_log = logging.getLogger(__name__)

LEASE_NAME = "packhorse-operator"
COMPARE_EVERY = 300.0
"""Seconds between comparisons of the caches with the API server, for events that were missed."""


class Runtime:
    """The operator without its shell."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._caches = Caches()
        self._health = Health()
        self._by_kind: dict[Kind, tuple[str, Cache[Any]]] = {
            kind: (selector, cache) for kind, selector, cache in self._caches.watched()
        }
        self._client: Client | None = None
        self._service: NodeService | None = None
        self._lease: Lease | None = None
        self._storage: LinkedStorage | None = None
        self._jobs: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that have to be watched."""
        return list(self._by_kind)

    def observe(self, kind: Kind, event: Mapping[str, Any]) -> None:
        """Take an event of a watch: ``type`` and ``object`` as the API server has them."""
        raw = event["object"]
        _, cache = self._by_kind[kind]
        if event.get("type") == "DELETED":
            cache.remove(key_of(raw), int(raw["metadata"]["resourceVersion"]))
        else:
            cache.put(raw)

    async def start(self) -> None:
        """Fill the caches, then let everything work."""
        await self._health.start(self._settings.health_port)
        client = self._client = await Client.connect()
        identity = f"{self._settings.instance}_{uuid.uuid4()}"
        self._lease = Lease(client, self._settings.namespace, LEASE_NAME, identity)
        await self._lease.acquire()
        self._run(self._lease.keep())
        signer = await authority(client, self._settings)
        if self._settings.embedded_storage:
            await embedded_account(client, self._settings, signer)
        storage = self._storage = LinkedStorage(client, self._settings, signer.certificate)
        for kind in self._by_kind:
            await self._compare(kind)
        parts = Parts(self._settings, client, self._caches, storage, signer.certificate)
        parts.subscribe()
        for work in (*parts.work(), self._compare_always()):
            self._run(work)
        self._service = parts.service
        pair = issue(signer, self._settings.node_service.partition(":")[0])
        await self._service.start(self._settings.node_port, server_context(pair))
        self._health.ready = True
        counts = ", ".join(f"{len(cache)} {kind.plural}" for kind, (_, cache) in self._by_kind.items())
        _log.info("ready: %s", counts)

    async def stop(self) -> None:
        """End all that was started."""
        self._health.ready = False
        self._stopping = True
        if self._service is not None:
            await self._service.stop()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        if self._lease is not None:
            await self._lease.release()
        if self._storage is not None:
            self._storage.close()
        if self._client is not None:
            await self._client.close()
        await self._health.stop()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it work until the operator stops; if it ends before, the operator ends too, and is started again."""
        job = asyncio.get_running_loop().create_task(work)
        job.add_done_callback(self._ended)
        self._jobs.append(job)

    def _ended(self, job: asyncio.Task[None]) -> None:
        if not self._stopping:
            error = None if job.cancelled() else job.exception()
            _log.critical("a part of the operator ended, so the operator stops: %s", error, exc_info=error)
            self._stopping = True
            signal.raise_signal(signal.SIGTERM)

    async def _compare_always(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_EVERY)
            for kind in self._by_kind:
                try:
                    await self._compare(kind)
                except (ApiError, ApiUnavailableError) as error:
                    _log.warning("%s not compared with the API server: %s", kind.plural, error)

    async def _compare(self, kind: Kind) -> None:
        """Bring a cache to what the API server has."""
        if self._client is None:
            return
        selector, cache = self._by_kind[kind]
        missing = cache.versions()
        cache.forget_gone()
        for namespace in self._settings.watch_namespaces or (None,):
            async for raw in self._client.list(kind, namespace, selector):
                missing.pop(key_of(raw), None)
                cache.put(raw)
        for key, version in missing.items():
            cache.remove(key, version)
