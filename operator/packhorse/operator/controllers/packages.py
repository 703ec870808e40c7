"""Activates ApplicationPackages, and gives out leave to upload them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from packhorse.archive import Limits
from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import SECRET, ApiError, Client, kind_of
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.status import write_status
from packhorse.domain.conditions import READY
from packhorse.domain.packages import Blob, Missing, Seen, package_status, unchanged
from packhorse.model import Application, ApplicationPackage
from packhorse.model.meta import API_VERSION
from packhorse.model.names import application_name
from packhorse.model.package import UPLOAD_ANNOTATION
from packhorse.operator.caches import Caches
from packhorse.operator.storage import LinkedStorage
from packhorse.storage.account import Account, NotLinkedError, UnavailableError, not_linked, unavailable

LOOK_AGAIN = 15.0
"""Seconds after which a package that waits for its blob, or for storage, is looked at again."""
CHECK_AGAIN = 300.0
"""Seconds after which an active package's blob is looked at again."""
GRANT_AGAIN = 3600.0
"""Seconds after which a waiting uploader gets new leave; it holds for four hours."""


class PackageController:
    """Reconciles ApplicationPackages.

    Args:
        upload_proxy: Path on the API server by which the embedded storage is reached; empty where there is none.
    """

    def __init__(
        self, client: Client, caches: Caches, storage: LinkedStorage, events: EventRecorder, upload_proxy: str
    ) -> None:
        self._client = client
        self._caches = caches
        self._storage = storage
        self._events = events
        self._upload_proxy = upload_proxy
        self._granted: dict[str, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one ApplicationPackage; seconds until it should be looked at again."""
        package = self._caches.packages.get(key)
        if package is None or package.metadata.deletion_timestamp is not None:
            return None
        if not package.upload_requested:
            self._granted.pop(package.metadata.uid, None)
        await self._create_application(package)
        seen = await self._look(package)
        if isinstance(seen, Blob) and not package.upload_requested and not unchanged(package, seen):
            package = await self._settle(package, seen)
            seen = await self._verify(package)
        if not (isinstance(seen, Blob) and package.upload_requested):
            package = await self._settle(package, seen)
        if package.active and not package.upload_requested:
            await self._end_upload(package)
            return CHECK_AGAIN
        return LOOK_AGAIN

    async def _create_application(self, package: ApplicationPackage) -> None:
        """The first package of an unknown application creates it, as in Batch's portal."""
        namespace, name = package.metadata.namespace, application_name(package.spec.application_id)
        if self._caches.applications.get((namespace, name)) is not None:
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": Application.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"id": package.spec.application_id},
        }
        try:
            self._caches.applications.put(await self._client.create(kind_of(Application), namespace, body))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _look(self, package: ApplicationPackage) -> Seen:
        async def look(account: Account) -> Seen:
            if package.upload_requested:
                await self._grant(package, account.writable(package.blob))
            return await asyncio.to_thread(account.look, package.blob)

        return await self._see(look)

    async def _verify(self, package: ApplicationPackage) -> Seen:
        return await self._see(lambda account: asyncio.to_thread(account.verify, package.blob, Limits()))

    async def _see(self, ask: Callable[[Account], Awaitable[Seen]]) -> Seen:
        """What the linked account shows, or why it shows nothing."""
        try:
            return await ask(await self._storage.account())
        except NotLinkedError as error:
            return not_linked(error)
        except UnavailableError as error:
            return unavailable(error)

    async def _grant(self, package: ApplicationPackage, url: str) -> None:
        """Give leave to write the blob: a Secret, since whoever reads it can write."""
        uid = package.metadata.uid
        if time.monotonic() - self._granted.get(uid, float("-inf")) < GRANT_AGAIN:
            return
        owner = {"apiVersion": API_VERSION, "kind": package.kind, "name": package.metadata.name, "uid": uid}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": _secret_name(package),
                "namespace": package.metadata.namespace,
                "labels": {"app.kubernetes.io/managed-by": "packhorse"},
                "ownerReferences": [owner],
            },
            "stringData": {"url": url} | ({"proxyPath": self._upload_proxy} if self._upload_proxy else {}),
        }
        await self._client.apply(SECRET, body)
        self._granted[uid] = time.monotonic()

    async def _settle(self, package: ApplicationPackage, seen: Seen) -> ApplicationPackage:
        """Write the status that follows from what was seen, and tell it; the package as it is then."""
        status = package_status(package, seen, timestamp())
        raw = await write_status(self._client, package, status)
        if raw is None:
            return package
        before, ready = package.status.condition(READY), status.condition(READY)
        if ready is not None and ready.reason != "Verifying" and (before is None or before.reason != ready.reason):
            warning = ready.status != "True" and not isinstance(seen, Missing)
            await self._events.record(package, ready.reason, ready.message, action="Activate", warning=warning)
        self._caches.packages.put(raw)
        return self._caches.packages.get(package.key) or package

    async def _end_upload(self, package: ApplicationPackage) -> None:
        """Take the leave back, once the upload was told to be over and its content is active."""
        if UPLOAD_ANNOTATION not in package.metadata.annotations:
            return
        namespace, name = package.key
        await self._client.delete(SECRET, namespace, _secret_name(package))
        body = {"metadata": {"uid": package.metadata.uid, "annotations": {UPLOAD_ANNOTATION: None}}}
        await self._client.patch(kind_of(ApplicationPackage), namespace, name, body)


def _secret_name(package: ApplicationPackage) -> str:
    return f"{package.metadata.name}.upload"
