"""Reads blobs from end to end, beside everything else: a package of 50 GB holds up neither others nor the operator."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from packhorse.archive import Limits
from packhorse.clock import timestamp
from packhorse.cluster.cache import Key
from packhorse.domain.packages import Blob, Content, Missing, NotLinked, Reading, Refused, Unavailable
from packhorse.model import ApplicationPackage
from packhorse.model.package import VERIFY_ANNOTATION
from packhorse.operator.storage import LinkedStorage

_log = logging.getLogger(__name__)

SMALL = 64 << 20
"""Bytes up to which a package is read while its reconciliation waits: those take turns by namespace."""
LARGE_AT_ONCE = 2

Result = Content | Refused | Missing | NotLinked | Unavailable


@dataclass
class _Job:
    """One reading of one blob.

    Attributes:
        about: What is read and why; a job about something else is of no use.
        done: Bytes so far.
        result: None until it ends.
    """

    about: tuple[str, str, str]
    blob: Blob
    done: int = 0
    result: Result | None = None
    work: asyncio.Task[None] | None = None


class Verifier:
    """Reads blobs, and keeps what it found.

    Args:
        storage: Where the blobs are.
        limits: What a package may hold.
        ended: Called with a package's key when its blob, a large one, was read.
    """

    def __init__(self, storage: LinkedStorage, limits: Limits, ended: Callable[[Key], None]) -> None:
        self._storage = storage
        self._limits = limits
        self._ended = ended
        self._jobs: dict[str, _Job] = {}
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def read(self, package: ApplicationPackage, blob: Blob) -> Result | Reading:
        """What is in a package's blob, or how far its reading is; it is begun where it was not.

        A small one is waited for. The same result is given again for the same blob, until ``forget``; trouble with the
        account only once.
        """
        uid = package.metadata.uid
        about = (package.blob, blob.etag, package.metadata.annotations.get(VERIFY_ANNOTATION, ""))
        job = self._jobs.get(uid)
        if job is None or job.about != about:
            self.forget(uid)
            job = self._jobs[uid] = _Job(about, blob)
            job.work = asyncio.create_task(self._work(package, job))
        if blob.size <= SMALL and job.work is not None:
            await asyncio.wait([job.work])
        if job.result is None:
            return Reading(blob, job.done)
        if not isinstance(job.result, Content | Refused):
            del self._jobs[uid]
        return job.result

    def forget(self, uid: str) -> None:
        """Drop what is known of a package; a reading that goes on is broken off."""
        job = self._jobs.pop(uid, None)
        if job is not None and job.work is not None:
            job.work.cancel()

    async def _work(self, package: ApplicationPackage, job: _Job) -> None:
        def note(done: int, _total: int) -> None:
            job.done = done

        small = job.blob.size <= SMALL
        async with contextlib.nullcontext() if small else self._large:
            try:
                result = await self._storage.verify(
                    package.metadata.namespace, package.blob, self._limits, note, seen=job.blob if small else None
                )
            except Exception as error:
                _log.exception("package %s/%s could not be read", *package.key)
                message = f"reading the blob failed within the operator ({type(error).__name__}); see its log"
                result = Unavailable("VerificationError", message, 60.0)
        if isinstance(result, Content):
            result = replace(result, read_at=timestamp())
        job.result = result
        if not small:
            self._ended(package.key)
