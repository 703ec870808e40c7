"""Why a node can run no tasks just now: its disk is full, or its supervisor out of reach."""

import asyncio
import logging
import os
from collections.abc import Callable

from packhorse.node import beneath
from packhorse.node.install import DISK_FULL, DISK_FULL_ERRORS, DISK_FULL_REMEDY
from packhorse.node.layout import Layout
from packhorse.protocol import Detail, Problem

_log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at a full disk."""
LEAST_ROOM = 64 * 1024 * 1024
"""Bytes that have to be free on a disk that was full, so that it is not full again at once; less on a small one."""
PROBE = b"\0" * 65536


def disk_full_problem(error: OSError) -> Problem | None:
    """What to tell of an error that means a full disk; None for any other. The same words each time."""
    if error.errno not in DISK_FULL_ERRORS:
        return None
    details = (Detail("Message", DISK_FULL_REMEDY), Detail("Cause", os.strerror(error.errno)))
    return Problem("DiskFull", DISK_FULL, details)


class Health:
    """What keeps a node from running tasks.

    Args:
        layout: Of the node.
        report: Gets every change: a problem, or None when there is none any more.
    """

    def __init__(self, layout: Layout, report: Callable[[Problem | None], None]) -> None:
        self._layout = layout
        self._report = report
        self._disk: Problem | None = None
        self._supervision: Problem | None = None
        self._needed = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def problem(self) -> Problem | None:
        """The problem that the operator is told."""
        return self._supervision or self._disk

    def cut_off(self, problem: Problem | None) -> None:
        """The supervisor is out of reach, or within it again."""
        before, self._supervision = self.problem, problem
        self._tell(before)

    def could_fit(self, needed: int) -> bool:
        """Whether the disk has so many bytes at all, used or free."""
        volume = os.statvfs(self._layout.root)
        return needed <= volume.f_blocks * volume.f_frsize

    def disk_full(self, problem: Problem, needed: int = 0) -> None:
        """There is no room on the disk. The problem stays until so many bytes are free."""
        _log.error("%s", problem.cause)
        before = self.problem
        self._disk = self._disk or problem
        self._needed = max(self._needed, needed)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
        self._tell(before)

    def trouble(self, error: OSError) -> bool:
        """Take note of an error if it is a full disk; whether it was."""
        problem = disk_full_problem(error)
        if problem is not None:
            self.disk_full(problem)
        return problem is not None

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if not self._has_room():
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
            return
        _log.info("there is room on the disk again")
        before = self.problem
        self._disk, self._needed, self._timer = None, 0, None
        self._tell(before)

    def _has_room(self) -> bool:
        volume = os.statvfs(self._layout.root)
        least = min(LEAST_ROOM, volume.f_blocks * volume.f_frsize // 8)
        if volume.f_bavail * volume.f_frsize < max(self._needed, least):
            return False
        # Quotas, and file systems that have no room for more files, show when a file is written.
        try:
            with beneath.folder(self._layout.agent) as agent:
                beneath.write(agent, "probe", PROBE, 0o600)
                beneath.remove(agent, "probe")
        except OSError as error:
            _log.info("no room yet: %s", error)
            return False
        return True

    def _tell(self, before: Problem | None) -> None:
        if self.problem != before:
            self._report(self.problem)
