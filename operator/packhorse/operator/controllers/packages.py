"""Activates ApplicationPackages, keeps an eye on their blobs, and lets deleted ones go."""

import random
import time
from collections.abc import Mapping
from typing import Any

from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.cluster.client import ApiError, Client, kind_of
from packhorse.cluster.events import EventRecorder
from packhorse.cluster.finalizers import add_finalizer
from packhorse.cluster.status import write_status
from packhorse.domain.conditions import READY
from packhorse.domain.packages import (
    VERIFYING,
    Blob,
    Content,
    Missing,
    NotLinked,
    Reading,
    Refused,
    Seen,
    Unavailable,
    locked,
    over_quota,
    package_status,
    too_large,
    unchanged,
)
from packhorse.model import Application, ApplicationPackage
from packhorse.model.meta import API_VERSION
from packhorse.model.names import application_name
from packhorse.model.package import BLOB_FINALIZER, UPLOAD_ANNOTATION, VERIFY_ANNOTATION
from packhorse.operator.caches import Caches
from packhorse.operator.grants import Grants
from packhorse.operator.removal import Removal
from packhorse.operator.settings import Settings
from packhorse.operator.storage import LinkedStorage
from packhorse.operator.verifier import Verifier
from packhorse.storage.errors import NotLinkedError, UnavailableError, not_linked, unavailable

LOOK_AGAIN = 15.0
"""Seconds after which a package that waits for its blob, or for storage, is looked at again."""
CHECK_AGAIN = 300.0
"""Seconds after which an active package's blob is looked at again."""
PROGRESS = 5.0
"""Seconds between two notes of how far a blob was read."""
TELL_TROUBLE = 600.0
"""Seconds between two warnings of the same trouble with an account, whichever package meets it."""


class PackageController:
    """Reconciles ApplicationPackages."""

    def __init__(
        self,
        client: Client,
        caches: Caches,
        storage: LinkedStorage,
        events: EventRecorder,
        *,
        settings: Settings,
        grants: Grants,
        verifier: Verifier,
    ) -> None:
        self._client = client
        self._caches = caches
        self._storage = storage
        self._events = events
        self._settings = settings
        self._grants = grants
        self._verifier = verifier
        self._removal = Removal(client, caches, storage, events)
        self._told: dict[tuple[str, str], float] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one ApplicationPackage; seconds until it should be looked at again."""
        package = self._caches.packages.get(key)
        if package is None:
            return None
        if package.metadata.deletion_timestamp is not None:
            self.forget(package)
            return await self._removal.finish(package)
        package = await self._hold(package)
        application = await self._application(package)
        seen = await self._look(package, application)
        if package.upload_requested and isinstance(seen, Blob | Reading):
            return LOOK_AGAIN  # somebody is about to replace it: whatever is there now is not the point
        if not (isinstance(seen, Reading) and seen.done == 0):
            package = await self._settle(package, application, seen)
        await self._end_what_is_over(package, seen)
        return _again(package, seen)

    def forget(self, package: ApplicationPackage) -> None:
        """Drop what is remembered of a package that is no more, or will not be for long."""
        self._verifier.forget(package.metadata.uid)
        self._grants.forget(package)

    async def _hold(self, package: ApplicationPackage) -> ApplicationPackage:
        """Have the package wait for us when it is deleted."""
        raw = await add_finalizer(self._client, package, BLOB_FINALIZER)
        return package if raw is None else self._taken(package, raw)

    async def _change(self, package: ApplicationPackage, metadata: Mapping[str, object]) -> ApplicationPackage:
        """Change metadata; the package as it is then."""
        raw = await self._client.patch(kind_of(ApplicationPackage), *package.key, {"metadata": metadata})
        return self._taken(package, raw)

    def _taken(self, package: ApplicationPackage, raw: Mapping[str, Any]) -> ApplicationPackage:
        """Take the answer to a write of ours into the cache; the package as it is then."""
        self._caches.packages.put(raw)
        return self._caches.packages.get(package.key) or package

    async def _application(self, package: ApplicationPackage) -> Application | None:
        """The package's application. The first package of an unknown one creates it, as in Batch's portal."""
        namespace, name = package.metadata.namespace, application_name(package.spec.application_id)
        found = self._caches.applications.get((namespace, name))
        if found is not None:
            return found
        body = {
            "apiVersion": API_VERSION,
            "kind": Application.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"id": package.spec.application_id},
        }
        try:
            return self._caches.applications.put(await self._client.create(kind_of(Application), namespace, body))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return None

    async def _look(self, package: ApplicationPackage, application: Application | None) -> Seen:
        """What there is to say of the package's blob now."""
        siblings = self._caches.packages_of((package.metadata.namespace, application_name(package.spec.application_id)))
        barred = over_quota(package, siblings, self._settings.packages_per_application)
        if barred is not None:
            return barred
        try:
            await self._give(package, application)
        except NotLinkedError as error:
            return not_linked(error)
        except UnavailableError as error:
            return unavailable(error)
        seen = await self._storage.look(package.metadata.namespace, package.blob, _max_age(package))
        if not isinstance(seen, Blob) or package.upload_requested:
            return seen
        if unchanged(package, seen) and not package.verification_requested:
            return seen
        return too_large(package, seen, self._settings.package_size) or await self._verifier.read(package, seen)

    async def _give(self, package: ApplicationPackage, application: Application | None) -> None:
        """Give leave to write or read the blob where it is asked for. Raises NotLinkedError, UnavailableError."""
        if package.upload_requested and not locked(package, application):
            await self._grants.upload(package)
        if package.download_requested and package.active:
            await self._grants.download(package)
        elif not package.download_requested:
            await self._grants.end_download(package)

    async def _settle(
        self, package: ApplicationPackage, application: Application | None, seen: Seen
    ) -> ApplicationPackage:
        """Write the status that follows from what was seen, and tell it; the package as it is then."""
        status = package_status(
            package,
            seen,
            timestamp(),
            folder=await self._storage.folder_url(package.metadata.namespace) or "",
            updates_allowed=not locked(package, application),
        )
        raw = await write_status(self._client, package, status)
        if raw is None:
            return package
        before, ready = package.status.condition(READY), status.condition(READY)
        if ready is not None and ready.reason != VERIFYING and (before is None or before.reason != ready.reason):
            warning = ready.status != "True" and not isinstance(seen, Missing)
            if not isinstance(seen, NotLinked | Unavailable) or self._is_news(package, ready.reason):
                await self._events.record(package, ready.reason, ready.message, action="Activate", warning=warning)
        return self._taken(package, raw)

    def _is_news(self, package: ApplicationPackage, reason: str) -> bool:
        """Whether a trouble with the account is to be told: not by each of a thousand packages."""
        about, now = (package.metadata.namespace, reason), time.monotonic()
        self._told = {key: at for key, at in self._told.items() if now - at < TELL_TROUBLE}
        if about in self._told:
            return False
        self._told[about] = now
        return True

    async def _end_what_is_over(self, package: ApplicationPackage, seen: Seen) -> None:
        """Take back leave and marks whose purpose was reached."""
        over: dict[str, None] = {}
        if package.active and package.upload_ended and isinstance(seen, Blob | Content):  # so it was judged
            await self._grants.end_upload(package)
            over[UPLOAD_ANNOTATION] = None
        if isinstance(seen, Content | Refused | Missing) and package.verification_requested:
            over[VERIFY_ANNOTATION] = None
        if over:
            await self._change(package, {"uid": package.metadata.uid, "annotations": over})
        if package.active and isinstance(seen, Content):
            self._verifier.forget(package.metadata.uid)


def _max_age(package: ApplicationPackage) -> float:
    """How old the news of the blob may be, in seconds."""
    if package.upload_ended or package.verification_requested:
        return 0.0
    if package.status.observed_generation < package.metadata.generation:
        return 0.0  # its blob may have been written just before
    return CHECK_AGAIN / 2 if package.active else LOOK_AGAIN / 2


def _again(package: ApplicationPackage, seen: Seen) -> float:
    """Seconds until the package should be looked at again, so spread that not all of them come at once."""
    if isinstance(seen, Reading):
        delay = PROGRESS
    elif isinstance(seen, Unavailable):
        delay = max(LOOK_AGAIN, seen.retry_after)
    else:
        delay = CHECK_AGAIN if package.active else LOOK_AGAIN
    return delay * random.uniform(0.8, 1.2)  # noqa: S311
