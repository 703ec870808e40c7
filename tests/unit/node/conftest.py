"""What tests of a node share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from packhorse.domain.environment import PREFIX
from packhorse.node import connection as module
from packhorse.node.layout import Layout
from packhorse.protocol import Hello
from tests.unit.node.machine import DEPLOYED, Machine, machine_of
from tests.unit.node.supervised import Supervisor, find_busybox


@pytest.fixture(scope="session")
def busybox() -> Path:
    """A busybox, as our image has one."""
    return find_busybox()


@pytest.fixture
def layout(tmp_path: Path, busybox: Path) -> Layout:
    """A node's volume as the init container leaves it."""
    layout = Layout(tmp_path / "node")
    layout.root.mkdir()
    layout.prepare(busybox)
    return layout


@pytest.fixture
def supervisor(layout: Layout) -> Iterator[Supervisor]:
    """A supervisor that is not started yet."""
    supervisor = Supervisor(layout)
    yield supervisor
    supervisor.close()


@pytest.fixture
async def machine(layout: Layout, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    """A node that is connected and has nothing to do."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    supervisor.start(environment={PREFIX + "blender": "/2.7"})
    async with machine_of(layout, supervisor) as machine:
        hello = await machine.hello()
        assert hello == Hello(DEPLOYED.packages, (), fingerprint="f")
        yield machine
