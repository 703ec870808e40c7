"""Asking a question once for all who want to know the answer at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedQuestions(Generic[K, V]):
    """At most one question a key is out at a time.

    Who asks while one is out does not get its answer, which may be older than what they know already, but shares the
    next one. A question goes on when those who asked it go away.
    """

    def __init__(self) -> None:
        self._out: dict[K, asyncio.Task[V]] = {}
        self._next: dict[K, asyncio.Task[V]] = {}

    async def ask(self, key: K, question: Callable[[], Awaitable[V]]) -> V:
        """The answer to a question that begins after this call. Raises what the question raises."""
        task = self._next.get(key)
        if task is None and key in self._out:
            task = self._next[key] = started(self._follow(key, self._out[key], question))
        elif task is None:
            task = self._out[key] = started(self._run(key, question))
        return await asyncio.shield(task)

    async def _follow(self, key: K, before: asyncio.Task[V], question: Callable[[], Awaitable[V]]) -> V:
        await asyncio.wait([before])
        self._out[key] = self._next.pop(key)
        return await self._run(key, question)

    async def _run(self, key: K, question: Callable[[], Awaitable[V]]) -> V:
        try:
            return await question()
        finally:
            if self._out.get(key) is asyncio.current_task():
                del self._out[key]


def started(work: Any) -> asyncio.Task[Any]:
    """A task whose failure is nobody's loss if all who waited for it are gone."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_notice)
    return task


def _notice(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
