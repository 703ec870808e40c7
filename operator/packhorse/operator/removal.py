"""Removes what belongs to a deleted ApplicationPackage, and lets it go.

It cannot wedge: without an account there is nothing to remove, and an account that stays away is given up after a time.
"""

import datetime
import logging
import time

from packhorse.clock import timestamp
from packhorse.cluster.client import NAMESPACE, ApiError, Client, kind_of
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.finalizers import remove_finalizer
from packhorse.cluster.status import write_status
from packhorse.domain.packages import NotLinked, Unavailable, deletion_status, locked
from packhorse.model import Application, ApplicationPackage
from packhorse.model.names import application_name, object_name
from packhorse.model.package import BLOB_FINALIZER
from packhorse.operator.caches import Caches
from packhorse.operator.storage import LinkedStorage

_log = logging.getLogger(__name__)

PATIENCE = 900.0
"""Seconds after a deletion for which an account that does not answer is asked again; then the blob is left there."""


class Removal:
    """Finishes the deletion of packages."""

    def __init__(self, client: Client, caches: Caches, storage: LinkedStorage, events: EventRecorder) -> None:
        self._client = client
        self._caches = caches
        self._storage = storage
        self._events = events

    async def finish(self, seen: ApplicationPackage) -> float | None:
        """Remove the blob and the default setting, then the finalizer; seconds until it should be tried again.

        The package is looked at anew: an old one must not take the blob of its namesake along.
        """
        raw = await self._client.find(kind_of(ApplicationPackage), *seen.key)
        if raw is None or raw["metadata"]["uid"] != seen.metadata.uid:
            return None
        package = ApplicationPackage.model_validate(raw)
        if package.metadata.deletion_timestamp is None or BLOB_FINALIZER not in package.metadata.finalizers:
            return None
        raw = await self._client.find(
            kind_of(Application), package.metadata.namespace, application_name(package.spec.application_id)
        )
        application = Application.model_validate(raw) if raw is not None else None
        if locked(package, application) and not await self._namespace_goes(package.metadata.namespace):
            await self._keep(package, "its application does not allow updates; allow them before deleting")
        else:
            again = await self._remove_blobs(package)
            if again is not None:
                return again
        if application is not None:
            await self._clear_default(application, package)
        await remove_finalizer(self._client, package, BLOB_FINALIZER)
        return None

    async def _remove_blobs(self, package: ApplicationPackage) -> float | None:
        """Remove what the package was made of and what it should be made of; seconds to wait, or None when done."""
        for path in dict.fromkeys([package.blob, package.status.blob or package.blob]):
            if self._caches.packages_made_of(path) - {package.key}:
                continue
            gone = await self._storage.delete(package.metadata.namespace, path)
            if isinstance(gone, NotLinked):
                await self._keep(package, gone.message)
            elif isinstance(gone, Unavailable):
                if _age(package) < PATIENCE:
                    await write_status(self._client, package, deletion_status(package, gone, timestamp()))
                    return max(gone.retry_after, 5.0)
                await self._keep(package, f"given up after {PATIENCE / 60:.0f} minutes: {gone.message}")
        return None

    async def _keep(self, package: ApplicationPackage, why: str) -> None:
        """Say that the blob stays in the account."""
        note = f"the blob '{package.blob}' is left in the storage account: {why}"
        _log.warning("package %s/%s is deleted, but %s", *package.key, note)
        await self._events.record(package, "BlobRetained", note, action="Delete", warning=True)

    async def _clear_default(self, application: Application, package: ApplicationPackage) -> None:
        """As in Batch: with the default version goes the setting."""
        default = application.spec.default_version
        if default is None or object_name(default) != object_name(package.spec.version):
            return
        metadata = {"uid": application.metadata.uid, "resourceVersion": application.metadata.resource_version}
        body = {"metadata": metadata, "spec": {"defaultVersion": None}}
        try:
            raw = await self._client.patch(kind_of(Application), *application.key, body)
        except ApiError as error:
            if error.not_found:
                return
            raise
        self._caches.applications.put(raw)
        note = f"version '{default}' was the default and is deleted: references without a version mean nothing now"
        await self._events.record(application, "DefaultVersionCleared", note, action="Delete", warning=True)

    async def _namespace_goes(self, namespace: str) -> bool:
        """Whether the whole namespace is being deleted."""
        raw = await self._client.find(NAMESPACE, "", namespace)
        return raw is None or "deletionTimestamp" in raw["metadata"]


def _age(package: ApplicationPackage) -> float:
    """Seconds since it was deleted."""
    deleted = datetime.datetime.fromisoformat(package.metadata.deletion_timestamp or timestamp())
    return time.time() - deleted.timestamp()
