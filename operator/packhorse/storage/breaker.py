"""Sparing an account that does not answer: one probe in a while, and for everybody else the same answer at once."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from packhorse.storage.errors import UnavailableError

SHORTEST = 1.0
LONGEST = 60.0
"""Seconds between two probes; they grow from one to the other, unless the account asks for more."""


@dataclass(frozen=True)
class Ticket:
    """Leave to ask the account once; it is given back by what came of it.

    Attributes:
        era: How often the account had failed or healed before.
        probe: Whether the account is in trouble, and this finds out if it still is.
    """

    era: int
    probe: bool


class Breaker:
    """A circuit breaker. It belongs to one thread.

    Args:
        clock: Seconds, from anywhere.
        jitter: A number from 0 to 1.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._error: UnavailableError | None = None
        self._until = 0.0
        self._probing = False
        self._era = 0
        self._failures = 0
        self._pause = 0.0
        self._healed_at = 0.0

    @property
    def trouble(self) -> UnavailableError | None:
        """What the account said last; None where nothing is known against it."""
        return self._refusal() if self._error else None

    def enter(self, *, probe: bool = True) -> Ticket:
        """Ask for leave to ask.

        Args:
            probe: Whether this may be the one that finds out: not something that takes long.

        Raises:
            UnavailableError: The account is in trouble; it tells when it is worth trying again.
        """
        if self._error is None:
            return Ticket(self._era, probe=False)
        if not probe or self._probing or self._clock() < self._until:
            raise self._refusal()
        self._probing = True
        return Ticket(self._era, probe=True)

    def succeeded(self, ticket: Ticket) -> bool:
        """The account answered; whether it has healed by that."""
        if not ticket.probe or ticket.era != self._era:
            return False
        self._turn(None)
        self._healed_at = self._clock()
        return True

    def failed(self, ticket: Ticket, error: UnavailableError) -> UnavailableError:
        """The account is in trouble; what to tell who asked. Of many that fail together, one counts."""
        if ticket.era != self._era:
            return self._refusal() if self._error else error
        now = self._clock()
        if self._error is None and now - self._healed_at > 2 * self._pause:
            self._failures = 0  # else it heals and fails by turns, and the pauses go on growing
        self._failures += 1
        longest = min(LONGEST, SHORTEST * 2.0 ** min(self._failures, 16))
        self._pause = max(longest * (1 + self._jitter()) / 2, error.retry_after)
        self._turn(error)
        self._until = now + self._pause
        return self._refusal()

    def abandoned(self, ticket: Ticket) -> None:
        """Who asked went away without an answer; the next one may find out."""
        if ticket.probe and ticket.era == self._era:
            self._probing = False

    def _turn(self, error: UnavailableError | None) -> None:
        self._error = error
        self._probing = False
        self._era += 1

    def _refusal(self) -> UnavailableError:
        error = self._error
        if error is None:
            raise AssertionError("nothing is refused while there is no trouble")
        # while a probe is out, its answer is a moment away
        wait = max(self._until - self._clock(), SHORTEST)
        return UnavailableError(error.reason, str(error), retry_after=wait)
