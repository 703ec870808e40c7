"""Why a node can run no tasks just now: its disk is full, or its supervisor out of reach."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from packhorse.node import beneath
from packhorse.node.eviction import Eviction, InUse, Room, evict, free_room, unused
from packhorse.node.install import DISK_FULL, DISK_FULL_ERRORS, DISK_FULL_REMEDY, WORK_FOLDER
from packhorse.node.layout import Layout
from packhorse.protocol import Detail, Problem

_log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at a full disk."""
LONGEST_INTERVAL = 300.0
"""Seconds at most: each time that the disk is full again soon after, they are twice as many."""
SOON = 60.0
LEAST_ROOM = 64 * 1024 * 1024
"""Bytes that have to be free on a disk that was full, so that it is not full again at once; less on a small one."""
PROBE = b"\0" * 65536
REASON = "room on a full disk"


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
        in_use: Tells which packages have to stay when room is made.
        evicted: Gets the packages that went.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        report: Callable[[Problem | None], None],
        in_use: InUse,
        evicted: Callable[[Sequence[Eviction]], None],
    ) -> None:
        self._layout = layout
        self._report = report
        self._in_use = in_use
        self._evicted = evicted
        self._disk: Problem | None = None
        self._supervision: Problem | None = None
        self._needed = 0
        self._interval = INTERVAL
        self._cleared = float("-inf")
        self._watch: asyncio.Task[None] | None = None

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
        return needed <= self._size()

    def disk_full(self, problem: Problem, needed: int = 0) -> None:
        """There is no room on the disk. The problem stays until so many bytes are free."""
        _log.error("%s", problem.cause)
        before = self.problem
        self._disk = self._disk or problem
        self._needed = max(self._needed, needed)
        if self._watch is None:
            loop = asyncio.get_running_loop()
            again = loop.time() - self._cleared < max(SOON, 2 * self._interval)
            self._interval = min(self._interval * 2, LONGEST_INTERVAL) if again else INTERVAL
            self._watch = loop.create_task(self._await_room())
        self._tell(before)

    def trouble(self, error: OSError) -> bool:
        """Take note of an error if it is a full disk; whether it was."""
        problem = disk_full_problem(error)
        if problem is not None:
            self.disk_full(problem)
        return problem is not None

    def stop(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _await_room(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            gone: list[Eviction] = []
            enough = await asyncio.to_thread(self._look, gone)
            if gone:
                self._evicted(gone)
            if enough:
                break
        _log.info("there is room on the disk again")
        before = self.problem
        self._disk, self._needed, self._watch = None, 0, None
        self._cleared = asyncio.get_running_loop().time()
        self._tell(before)

    def _look(self, gone: list[Eviction]) -> bool:
        """Whether there is room. What nobody uses by now is removed for it, and told in the list."""
        need = Room(max(self._needed, min(LEAST_ROOM, self._size() // 8)), 1)
        try:
            self._make_room(need, gone)
            if not free_room(self._layout.root).covers(need):
                return False
            # A quota shows only when a file is written.
            with beneath.folder(self._layout.agent) as agent:
                beneath.write(agent, "probe", PROBE, 0o600)
                beneath.remove(agent, "probe")
        except OSError as error:
            _log.info("no room yet: %s", error)
            return False
        return True

    def _make_room(self, need: Room, gone: list[Eviction]) -> None:
        root = self._layout.root
        free = free_room(root)
        if free.covers(need):
            return
        contents = unused(root, self._in_use)
        if not sum((content.room for content in contents), start=free).covers(need):
            return
        work = root / WORK_FOLDER
        work.mkdir(mode=0o700, exist_ok=True)
        for content in contents:
            if free_room(root).covers(need):
                break
            removed = evict(root, work, content, self._in_use, REASON)
            if removed is not None:
                gone.append(removed)

    def _size(self) -> int:
        volume = os.statvfs(self._layout.root)
        return volume.f_blocks * volume.f_frsize

    def _tell(self, before: Problem | None) -> None:
        if self.problem != before:
            self._report(self.problem)
