"""When a node says that its disk is full, and when that it has room again."""

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from packhorse.node import beneath
from packhorse.node import health as module
from packhorse.node.eviction import Content, Eviction, InUse, Room
from packhorse.node.health import Health
from packhorse.node.layout import Layout
from packhorse.protocol import Problem
from tests.unit.node.service import PATIENCE

BLOCK = 4096
GIB = 1024**3
FULL = Problem("DiskFull", "There is not enough disk space on the node")
CUT_OFF = Problem("Unknown", "cut off")


class Volume:
    """A file system with room as a test says."""

    def __init__(self, size: int = 100 * GIB) -> None:
        self.size = size
        self.free = 0
        self.refuses = False
        self.looks = 0

        self.contents: list[Content] = []

    def statvfs(self, _: Path) -> SimpleNamespace:
        return SimpleNamespace(f_frsize=BLOCK, f_blocks=self.size // BLOCK)

    def free_room(self, _: Path) -> Room:
        self.looks += 1
        return Room(self.free, 1000)

    def unused(self, _: Path, in_use: InUse) -> list[Content]:
        return [content for content in self.contents if content.directory not in in_use()]

    def evict(self, root: Path, work: Path, content: Content, in_use: InUse, reason: str) -> Eviction | None:
        assert work.is_dir()
        assert work.parent == root
        assert content.directory not in in_use()
        self.contents.remove(content)
        self.free += content.room.size
        return Eviction(content.reference, content.directory, content.room.size, reason)

    def write(self, parent: int, name: str, content: bytes, mode: int) -> None:
        if self.refuses:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        assert (name, mode) == ("probe", 0o600)
        assert content
        os.fstat(parent)


class Node:
    def __init__(self, layout: Layout, volume: Volume) -> None:
        self.volume = volume
        self.told: asyncio.Queue[Problem | None] = asyncio.Queue()
        self.used: set[PurePosixPath] = set()
        self.gone: list[Sequence[Eviction]] = []
        self.health = Health(layout, report=self.told.put_nowait, in_use=lambda: self.used, evicted=self.gone.append)

    async def next(self) -> Problem | None:
        async with asyncio.timeout(PATIENCE):
            return await self.told.get()

    async def looked(self, times: int) -> None:
        """Wait until it has looked so many times more."""
        wanted = self.volume.looks + times
        async with asyncio.timeout(PATIENCE):
            while self.volume.looks < wanted:  # noqa: ASYNC110 (there is nothing to wait for but looks)
                await asyncio.sleep(0.001)


@pytest.fixture
def node(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Node:
    volume = Volume()
    monkeypatch.setattr(module, "INTERVAL", 0.001)
    monkeypatch.setattr(module, "LONGEST_INTERVAL", 0.004)
    monkeypatch.setattr(module, "os", SimpleNamespace(statvfs=volume.statvfs, strerror=os.strerror))
    for name in ("free_room", "unused", "evict"):
        monkeypatch.setattr(module, name, getattr(volume, name))
    monkeypatch.setattr(beneath, "write", volume.write)
    return Node(layout, volume)


async def test_a_full_disk_is_told_once_and_until_there_is_room(node: Node) -> None:
    for _ in range(2):
        node.health.disk_full(FULL, 5 * GIB)
    assert await node.next() == node.health.problem == FULL
    node.volume.free = 5 * GIB - BLOCK
    await node.looked(3)
    assert node.told.empty()
    node.volume.free = 5 * GIB
    assert await node.next() is None
    node.health.disk_full(FULL, 1)
    assert await node.next() == FULL
    node.health.stop()


async def test_of_several_needs_the_greatest_counts(node: Node) -> None:
    for needed in (GIB, 3 * GIB, 2 * GIB):
        node.health.disk_full(FULL, needed)
    node.volume.free = 2 * GIB
    await node.looked(3)
    assert node.health.problem == FULL
    node.volume.free = 3 * GIB
    assert await node.next() == FULL
    assert await node.next() is None


@pytest.mark.parametrize(("size", "least"), [(100 * GIB, module.LEAST_ROOM), (8 << 20, 1 << 20)])
async def test_where_little_is_needed_some_room_has_to_be_there(node: Node, size: int, least: int) -> None:
    node.volume.size = size
    node.health.disk_full(FULL)
    assert await node.next() == FULL
    node.volume.free = least - BLOCK
    await node.looked(3)
    assert node.health.problem == FULL
    node.volume.free = least
    assert await node.next() is None


async def test_a_quota_shows_only_when_something_is_written(node: Node) -> None:
    node.volume.free, node.volume.refuses = GIB, True
    node.health.disk_full(FULL)
    await node.next()
    await node.looked(3)
    assert node.health.problem == FULL
    node.volume.refuses = False
    assert await node.next() is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_errors_that_mean_a_full_disk(node: Node, number: int) -> None:
    assert node.health.trouble(OSError(number, "other words", "/a/path/of/its/own"))
    problem = node.health.problem
    assert problem is not None
    assert (problem.code, problem.message) == ("DiskFull", "There is not enough disk space on the node")
    details = {detail.name: detail.value for detail in problem.details}
    assert "Delete job, tasks, or file on the node" in details["Message"]
    assert details["Cause"] == os.strerror(number), "the same words each time, so that one event tells of it"
    node.health.stop()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
async def test_errors_that_do_not(node: Node, number: int) -> None:
    assert not node.health.trouble(OSError(number, os.strerror(number)))
    assert node.health.problem is None


async def test_what_could_never_fit(node: Node) -> None:
    node.volume.size = GIB
    assert node.health.could_fit(GIB)
    assert not node.health.could_fit(GIB + 1)


async def test_two_problems_at_once(node: Node) -> None:
    node.health.disk_full(FULL, 1)
    node.health.cut_off(CUT_OFF)
    node.health.cut_off(CUT_OFF)
    assert [await node.next(), await node.next()] == [FULL, CUT_OFF]
    node.health.cut_off(None)
    assert await node.next() == FULL
    node.volume.free = GIB
    assert await node.next() is None
    node.health.cut_off(None)
    assert node.told.empty()


async def test_the_real_disk_of_this_machine_has_room(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.001)
    monkeypatch.setattr(module, "LEAST_ROOM", BLOCK)
    gone: list[Sequence[Eviction]] = []
    told: asyncio.Queue[Problem | None] = asyncio.Queue()
    health = Health(layout, report=told.put_nowait, in_use=set, evicted=gone.append)
    health.disk_full(FULL)
    async with asyncio.timeout(PATIENCE):
        assert [await told.get(), await told.get()] == [FULL, None]
    assert not (layout.agent / "probe").exists()
    assert gone == []


def content(version: str, size: int) -> Content:
    return Content(PurePosixPath("applications", "tool", version, "0" * 64), 0.0, Room(size, 10))


async def test_packages_that_nobody_uses_any_more_make_room(node: Node) -> None:
    """As when the task has ended whose package left no room for another's. No more goes than has to."""
    node.volume.contents = [content(version, GIB) for version in ("1", "2", "3", "4")]
    node.used = {each.directory for each in node.volume.contents}
    node.health.disk_full(FULL, 2 * GIB)
    assert await node.next() == FULL
    await node.looked(3)
    assert node.gone == []
    node.used = {node.volume.contents[1].directory}
    assert await node.next() is None
    ((first, second),) = node.gone
    assert (first.reference, second.reference) == ("tool:1", "tool:3")
    assert first.freed == GIB


async def test_nothing_goes_where_all_of_it_would_not_do(node: Node) -> None:
    node.volume.contents = [content("1", GIB)]
    node.health.disk_full(FULL, 2 * GIB)
    await node.looked(3)
    assert (node.gone, len(node.volume.contents)) == ([], 1)
    node.health.stop()


async def test_a_disk_that_is_full_again_soon_is_looked_at_less_often(node: Node) -> None:
    """Else a task that fills it would come and go every few seconds."""
    node.volume.free = GIB
    intervals = []
    for _ in range(4):
        node.health.disk_full(FULL)
        intervals.append(node.health._interval)
        assert [await node.next(), await node.next()] == [FULL, None]
    assert intervals == [0.001, 0.002, 0.004, 0.004]
