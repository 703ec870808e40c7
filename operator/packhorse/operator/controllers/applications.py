"""Keeps the status of Applications, and holds a deleted one until its packages are gone."""

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import ApiError, Client, kind_of
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.status import write_status
from packhorse.domain import azure
from packhorse.domain.applications import application_status
from packhorse.domain.conditions import READY
from packhorse.model import Application
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
            application = await self._set_finalizer(application, present=True)
        elif not self._caches.packages_of(key):
            # A package that the watch has not told of yet makes the application again, as any first one does.
            await self._set_finalizer(application, present=False)
            return
        status = application_status(application, self._caches.packages_of(key), timestamp())
        raw = await write_status(self._client, application, status)
        if raw is None:
            return
        self._caches.applications.put(raw)
        before, ready = application.status.condition(READY), status.condition(READY)
        if ready is not None and ready.reason in _TOLD and (before is None or before.reason != ready.reason):
            await self._events.record(application, ready.reason, ready.message, warning=True)

    async def _set_finalizer(self, application: Application, *, present: bool) -> Application:
        """Have the application wait for us when it is deleted, or no more; the application as it is then."""
        earlier = application.metadata.finalizers
        if (PACKAGES_FINALIZER in earlier) is present:
            return application
        finalizers = [name for name in earlier if name != PACKAGES_FINALIZER]
        if present:
            finalizers.append(PACKAGES_FINALIZER)
        metadata = {
            "uid": application.metadata.uid,
            "resourceVersion": application.metadata.resource_version,
            "finalizers": finalizers or None,
        }
        try:
            raw = await self._client.patch(kind_of(Application), *application.key, {"metadata": metadata})
        except ApiError as error:
            if error.not_found:
                return application
            raise
        if not present:
            return application
        self._caches.applications.put(raw)
        return self._caches.applications.get(application.key) or application
