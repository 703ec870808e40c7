"""Keeps the status of Applications."""

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import Client
from packhorse.cluster.status import write_status
from packhorse.domain.applications import application_status
from packhorse.operator.caches import Caches


class ApplicationController:
    """Keeps the status of Applications."""

    def __init__(self, client: Client, caches: Caches) -> None:
        self._client = client
        self._caches = caches

    async def reconcile(self, key: Key) -> None:
        """Reconcile one Application."""
        application = self._caches.applications.get(key)
        if application is None:
            return
        status = application_status(application, self._caches.packages_of(key), timestamp())
        raw = await write_status(self._client, application, status)
        if raw is not None:
            self._caches.applications.put(raw)
