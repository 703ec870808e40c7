"""Time that passes only when nothing else is left to do: no test waits, and no test hangs.

``run(main())`` runs a coroutine in an event loop whose clock jumps to the next timer as soon as every task waits. Where
every task waits and there is no timer, nothing could ever happen any more: that is an error, :class:`StalledError`. So
is work that goes on for ever and lets no time pass. There is no network in such a loop and there are no threads.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


BUSY = 5_000
"""Rounds of the loop at one moment of time after which it is taken for busy for ever."""


class StalledError(AssertionError):
    """Every task waits for something that cannot come, or some are busy for ever."""


class _Selector(selectors.DefaultSelector):
    """Does not wait, but moves the clock."""

    def __init__(self, advance: Callable[[float | None], None]) -> None:
        super().__init__()
        self._advance = advance
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        found: list[Any] = super().select(0)
        self._rounds += 1
        if not found and timeout != 0:
            self._rounds = 0
            self._advance(timeout)
        if self._rounds > BUSY:
            self._rounds = 0
            raise StalledError("some tasks are busy for ever, and no time passes")
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which begins at 0."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self._advance))

    def time(self) -> float:
        return self._now

    def _advance(self, seconds: float | None) -> None:
        if seconds is None:
            raise StalledError("every task waits, and there is no timer that could wake one")
        self._now += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time. Raises StalledError."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


async def settle() -> None:
    """Let everything happen that needs no time to pass."""
    for _ in range(50):
        await asyncio.sleep(0)
