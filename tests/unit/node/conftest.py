"""What tests of a node share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from packhorse.node.layout import Layout
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
