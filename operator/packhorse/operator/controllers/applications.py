"""Keeps the status of Applications, and holds a deleted one until its packages are gone."""

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import Client
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.finalizers import add_finalizer, remove_finalizer
from packhorse.cluster.status import write_status
from packhorse.domain import azure
from packhorse.domain.applications import application_status
from packhorse.domain.conditions import READY
from packhorse.model.application import PACKAGES_FINALIZER
from packhorse.operator.caches import Caches

_TOLD = {azure.DEFAULT_VERSION_NOT_ACTIVE, azure.PACKAGES_NOT_EMPTY}


class ApplicationController:
    """Reconciles Applications."""

    def __init__(self, client: Client, caches: Caches, events: EventRecorder) -> None:
        self._client = client
        self._caches = caches
        self._events = events

    async def reconcile(self, key: Key) -> None:
        """Reconcile one Application."""
        application = self._caches.applications.get(key)
        if application is None:
            return
        if application.metadata.deletion_timestamp is None:
            raw = await add_finalizer(self._client, application, PACKAGES_FINALIZER)
            if raw is not None:
                self._caches.applications.put(raw)
                application = self._caches.applications.get(key) or application
        elif not self._caches.packages_of(key):
            # A package that the watch has not told of yet makes the application again, as any first one does.
            await remove_finalizer(self._client, application, PACKAGES_FINALIZER)
            return
        status = application_status(application, self._caches.packages_of(key), timestamp())
        raw = await write_status(self._client, application, status)
        if raw is None:
            return
        self._caches.applications.put(raw)
        before, ready = application.status.condition(READY), status.condition(READY)
        if ready is not None and ready.reason in _TOLD and (before is None or before.reason != ready.reason):
            await self._events.record(application, ready.reason, ready.message, warning=True)
