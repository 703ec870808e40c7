"""Packages that were removed to make room, noted until the operator was told."""

import logging
from collections.abc import Sequence

import msgspec

from packhorse.node import beneath
from packhorse.node.eviction import Eviction
from packhorse.node.layout import Layout
from packhorse.protocol import PackagesRemoved

_log = logging.getLogger(__name__)


def packages_removed(gone: Sequence[Eviction]) -> PackagesRemoved:
    """What to tell of packages that went, at least one, all for the same reason."""
    references = tuple(eviction.reference for eviction in gone)
    return PackagesRemoved(references, sum(eviction.freed for eviction in gone), gone[0].reason)


class Removals:
    """What was removed and not yet told. The init container notes it, and the agent.

    A note that cannot be written is told in the log, and to the operator as long as this agent lives; one that cannot
    be removed is told to the operator once more by the next.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._waiting = self._load()

    @property
    def waiting(self) -> tuple[PackagesRemoved, ...]:
        """What is to be told, in order."""
        return tuple(self._waiting)

    def add(self, removed: PackagesRemoved) -> None:
        """Note what was removed."""
        self._waiting.append(removed)
        self._keep()

    def told(self, removed: PackagesRemoved) -> None:
        """Forget what the operator knows."""
        self._waiting.remove(removed)
        self._keep()

    def _keep(self) -> None:
        try:
            with beneath.folder(self._layout.agent) as agent:
                if self._waiting:
                    beneath.write(agent, self._layout.removals.name, msgspec.json.encode(self._waiting), 0o600)
                else:
                    beneath.remove(agent, self._layout.removals.name)
        except OSError as error:
            _log.error("the removal of packages cannot be noted: %s", error)

    def _load(self) -> list[PackagesRemoved]:
        try:
            return msgspec.json.decode(self._layout.removals.read_bytes(), type=list[PackagesRemoved])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            _log.warning("the note of packages removed cannot be read and is passed over: %s", error)
            return []
