"""A work queue in the manner of Kubernetes' own controllers: keys, not events.

A key that is added twice before it is worked on is worked on once; the same key is never worked on twice at a time; a
failure is tried again later and later, with jitter, up to a limit, for as long as the key exists.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_log = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 60.0


def backoff(failures: int, longest: float = LONGEST_DELAY) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, up to ``longest``, with jitter."""
    doublings = min(failures - 1, 16)  # days of failures must not end in a number too large for a float
    return min(longest, FIRST_DELAY * (1 << doublings)) * random.uniform(0.8, 1.2)  # noqa: S311


class WorkQueue(Generic[K]):
    """Keys to reconcile.

    Args:
        name: For the log.
        handler: Reconciles one key. It may return seconds after which to look again.
        workers: How many keys are worked on at once.
        group: Which group a key is of, such as its namespace. Groups take turns, so that a thousand keys of one do not
            hold up the only one of another. Without it all are of one group.
    """

    def __init__(
        self,
        name: str,
        handler: Callable[[K], Awaitable[float | None]],
        workers: int = 4,
        group: Callable[[K], Hashable] | None = None,
    ) -> None:
        self._name = name
        self._handler = handler
        self._workers = workers
        self._group = group or (lambda _: None)
        self._ready: dict[Hashable, dict[K, None]] = {}
        self._active: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()

    def add(self, key: K, delay: float = 0.0) -> None:
        """Reconcile a key, now or after some seconds; the earlier of two wishes wins."""
        timer = self._timers.get(key)
        if delay > 0:
            if key in self._ready.get(self._group(key), ()):
                return
            loop = asyncio.get_running_loop()
            if timer is None or timer.when() > loop.time() + delay:
                if timer is not None:
                    timer.cancel()
                self._timers[key] = loop.call_later(delay, self.add, key)
            return
        if timer is not None:
            timer.cancel()
            del self._timers[key]
        self._ready.setdefault(self._group(key), {})[key] = None
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _work(self) -> None:
        while True:
            key = self._take()
            if key is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._active.add(key)
            try:
                await self._handle(key)
            finally:
                self._active.discard(key)
                self._wake.set()

    def _take(self) -> K | None:
        """The next key of the group whose turn it is, of those that nobody works on."""
        for group, keys in self._ready.items():
            for key in keys:
                if key not in self._active:
                    del keys[key], self._ready[group]
                    if keys:
                        self._ready[group] = keys
                    return key
        return None

    async def _handle(self, key: K) -> None:
        try:
            again = await self._handler(key)
        except Exception as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            delay = backoff(failures)
            _log.warning("%s %s: try %d failed, next in %.1f s: %s", self._name, key, failures, delay, error)
            _log.debug("%s %s", self._name, key, exc_info=True)
            self.add(key, delay)
        else:
            self._failures.pop(key, None)
            if again is not None:
                self.add(key, again)
