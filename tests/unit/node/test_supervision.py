"""The FIFOs between agent and supervisor, also when tasks interfere."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from packhorse.node.layout import Layout
from packhorse.node.supervision import LONGEST_LINE, Supervision
from tests.unit.node.machine import until


class Peer:
    """An agent's end under test, and the other ends."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lines: list[str] = []
        self.cut_off: list[bool] = []
        self.supervision = Supervision(layout, self.lines.append, self.cut_off.append)
        self.connect()

    def connect(self) -> None:
        """As the supervisor does when it starts."""
        self.requests = os.open(self.layout.requests, os.O_RDWR | os.O_NONBLOCK)
        self.results = os.open(self.layout.results, os.O_RDWR | os.O_NONBLOCK)

    def disconnect(self) -> None:
        os.close(self.requests)
        os.close(self.results)

    def asked(self) -> list[str]:
        """What the supervisor reads now."""
        try:
            data = os.read(self.requests, 1 << 20)
        except BlockingIOError:
            return []
        return [line for line in data.decode().split("\n") if line]

    async def hears(self, *lines: str) -> None:
        """Wait until exactly these lines were heard."""
        await until(lambda: len(self.lines) >= len(lines))
        assert self.lines == list(lines)


@pytest.fixture
async def peer(layout: Layout) -> AsyncIterator[Peer]:
    peer = Peer(layout)
    peer.supervision.open()
    yield peer
    peer.supervision.close()
    peer.disconnect()


async def test_both_directions(peer: Peer) -> None:
    peer.supervision.ask("run task-1")
    peer.supervision.ask("run task-2")
    assert peer.asked() == ["run task-1", "run task-2"]
    os.write(peer.results, b"\ntask-1\n\ntas")
    os.write(peer.results, b"k-2\n")
    await peer.hears("task-1", "task-2")
    assert peer.cut_off == []


async def test_what_a_task_left_open_is_closed(peer: Peer) -> None:
    os.write(peer.requests, b"nonsense")
    peer.supervision.ask("run task-1")
    assert peer.asked() == ["nonsense", "run task-1"]


async def test_a_line_without_end_takes_no_memory_and_hides_nothing(peer: Peer) -> None:
    for _ in range(400):
        os.write(peer.results, b"x" * 4096)
        await asyncio.sleep(0)
    os.write(peer.results, b"\ntask-1\n")
    await peer.hears("task-1")
    assert len(peer.supervision._unfinished) <= LONGEST_LINE


@pytest.mark.parametrize("garbage", [b"\xff\xfe\0", b"task-9", b"-" * LONGEST_LINE, b"run x; rm -rf /", b"\r"])
async def test_garbage_is_a_line_like_others(peer: Peer, garbage: bytes) -> None:
    os.write(peer.results, garbage + b"\n\ntask-1\n")
    await peer.hears(garbage.decode(errors="replace"), "task-1")


async def test_requests_wait_while_the_fifo_is_full(peer: Peer) -> None:
    """The supervisor is slow, or a task fills it."""
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(peer.requests, b"y" * 4095 + b"\n")
    for number in range(3):
        peer.supervision.ask(f"run task-{number}")
    found: list[str] = []

    def read() -> bool:
        found.extend(line for line in peer.asked() if not line.startswith("y"))
        return len(found) == 3

    await until(read)
    peer.supervision.ask("run task-3")
    assert [*found, *peer.asked()] == [f"run task-{number}" for number in range(4)]


@pytest.mark.parametrize("name", ["requests", "results"])
@pytest.mark.parametrize("running", [True, False])
async def test_a_fifo_that_became_a_link_is_not_written_to(
    layout: Layout, name: str, running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither by an agent that runs, nor by one that starts."""
    layout.deployed.write_text("ours")
    peer = Peer(layout)
    if running:
        peer.supervision.open()
    (layout.run / name).unlink()
    (layout.run / name).symlink_to(layout.deployed)
    if not running:
        peer.supervision.open()
    peer.supervision.ask("run task-1")
    assert layout.deployed.read_text() == "ours"
    assert peer.cut_off == [True]
    assert "made anew" in caplog.text
    peer.disconnect()
    peer.connect()
    assert peer.asked() == ["run task-1"], "a supervisor that starts finds what it was asked for"
    os.write(peer.results, b"\nbooted\n")
    await peer.hears("booted")
    assert peer.cut_off == [True, False]
    peer.supervision.close()
    peer.disconnect()


async def test_a_fifo_that_is_gone(peer: Peer, layout: Layout) -> None:
    layout.results.unlink()
    peer.supervision.ask("run task-1")
    assert peer.cut_off == [True]
    assert layout.results.is_fifo()
    peer.supervision.ask("run task-2")
    assert peer.cut_off == [True]


async def test_another_agent_knows_that_the_supervisor_hears_nothing(peer: Peer, layout: Layout) -> None:
    layout.results.unlink()
    peer.supervision.ask("run task-1")
    peer.supervision.close()
    peer.disconnect()
    peer.connect()
    peer.supervision.open()
    assert peer.cut_off == [True, True]
    for _ in range(2):
        os.write(peer.results, b"\nbooted\n")
    await until(lambda: peer.cut_off == [True, True, False])
    peer.supervision.close()
    peer.supervision.open()
    assert peer.cut_off == [True, True, False]


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_closed_it_listens_no_more(layout: Layout) -> None:
    peer = Peer(layout)
    before = descriptors()
    peer.supervision.open()
    peer.supervision.close()
    peer.supervision.close()
    assert descriptors() == before
    peer.disconnect()
