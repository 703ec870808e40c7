"""Packages that were removed, noted until the operator knows."""

from pathlib import Path, PurePosixPath

import pytest

from packhorse.node.eviction import Eviction
from packhorse.node.layout import Layout
from packhorse.node.removals import Removals, packages_removed
from packhorse.protocol import PackagesRemoved

ONE = PackagesRemoved(("blender:2.7", "ffmpeg:7"), 12, "blender:3.0 needed room")
TWO = PackagesRemoved(("tool:1",), 3, "tool:2 needed room")


def test_what_went_together_is_told_together() -> None:
    gone = [Eviction(f"tool:{number}", PurePosixPath("applications"), number, "room for x:1") for number in (1, 2)]
    assert packages_removed(gone) == PackagesRemoved(("tool:1", "tool:2"), 3, "room for x:1")


def test_noted_until_it_is_told(layout: Layout) -> None:
    Removals(layout).add(ONE)
    removals = Removals(layout)
    removals.add(TWO)
    assert removals.waiting == Removals(layout).waiting == (ONE, TWO)
    removals.told(ONE)
    assert Removals(layout).waiting == (TWO,)
    removals.told(TWO)
    assert Removals(layout).waiting == ()
    assert not layout.removals.exists()


def test_a_note_that_cannot_be_read(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    layout.removals.write_bytes(b"[{")
    removals = Removals(layout)
    assert removals.waiting == ()
    assert "passed over" in caplog.text
    removals.add(ONE)
    assert Removals(layout).waiting == (ONE,)


def test_a_note_that_cannot_be_written(layout: Layout, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    removals = Removals(layout)
    layout.agent.rename(tmp_path / "away")
    removals.add(ONE)
    assert removals.waiting == (ONE,)
    assert "cannot be noted" in caplog.text
