"""Writes the status of tasks: one write a task at a time, each decided anew on what the one before left."""

import asyncio
import logging
from collections.abc import Callable
from weakref import WeakValueDictionary

from packhorse.cluster.cache import Cache
from packhorse.cluster.client import ApiError, ApiUnavailableError, Client, kind_of
from packhorse.cluster.queue import backoff
from packhorse.cluster.status import write_status
from packhorse.model import Task, TaskStatus

_log = logging.getLogger(__name__)

WRITES_AT_ONCE = 32
"""Status patches in flight; more do not make one API server faster."""
LONGEST_DELAY = 30.0
"""Seconds at most between two tries of a write."""

Change = Callable[[Task], TaskStatus]
"""The next status of a task as it is now; the very status that it has where there is nothing to change."""


class TaskWriter:
    """Writes the status of tasks, and keeps what the API server answers in their cache."""

    def __init__(self, client: Client, cache: Cache[Task]) -> None:
        self._client = client
        self._cache = cache
        # a lock lives as long as somebody holds it or waits for it
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)

    async def write(self, task: Task, change: Change) -> Task | None:
        """Write the next status of a task, again until it is written; None where the task is gone.

        ``change`` is given the task as the write before left it, and as it is at each try.
        Raises ApiError where the API server calls the status wrong.
        """
        lock = self._locks.get(task.metadata.uid)
        if lock is None:
            lock = self._locks[task.metadata.uid] = asyncio.Lock()
        tries = 0
        async with lock:
            while True:
                try:
                    async with self._writes:
                        if tries:
                            await self._look(task)
                        return await self._write_once(task, change)
                except (ApiError, ApiUnavailableError) as error:
                    if isinstance(error, ApiError) and error.status in {400, 413, 422}:
                        raise
                    tries += 1
                    _log.warning("task %s/%s: status not written, try %d: %s", *task.key, tries, error)
                await asyncio.sleep(backoff(tries, LONGEST_DELAY))

    async def _look(self, task: Task) -> None:
        """See a task as it is now: a write that failed may have been carried out, or somebody else was first."""
        raw = await self._client.find(kind_of(Task), *task.key)
        if raw is not None:
            self._cache.put(raw)

    async def _write_once(self, task: Task, change: Change) -> Task | None:
        current = self._now(task)
        if current is None:
            return None
        status = change(current)
        if status is current.status:
            return current
        raw = await write_status(self._client, current, status)
        if raw is None:
            return None
        self._cache.put(raw)
        return self._now(task)

    def _now(self, task: Task) -> Task | None:
        """The task as the cache has it; None where it is gone, or a namesake has taken its place."""
        found = self._cache.get(task.key)
        return found if found is not None and found.metadata.uid == task.metadata.uid else None
