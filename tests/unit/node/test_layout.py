"""What the init container leaves on a node's volume."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packhorse.node.layout import Layout, quote


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_of_batch_and_who_may_write_them(layout: Layout) -> None:
    for name in ("shared", "startup", "startup/wd", "fsmounts", "workitems"):
        assert mode(layout.root / name) == 0o2775, name
    assert mode(layout.root / "applications") == 0o755
    assert mode(layout.agent) == mode(layout.attempts) == 0o700
    assert mode(layout.run) == 0o2770


def test_fifos_that_agent_and_supervisor_share(layout: Layout) -> None:
    for fifo in (layout.requests, layout.results):
        assert stat.S_ISFIFO(fifo.stat().st_mode)
        assert mode(fifo) == 0o660


def test_what_starts_the_supervisor(layout: Layout, busybox: Path) -> None:
    assert layout.busybox.read_bytes() == busybox.read_bytes()
    assert os.access(layout.busybox, os.X_OK)
    assert (layout.bin / "supervisor").read_text().startswith("# Runs tasks")


def test_another_start_keeps_files_and_forgets_that_the_supervisor_was_up(layout: Layout, busybox: Path) -> None:
    kept = layout.root / "shared" / "file"
    kept.write_text("kept")
    layout.booted.touch()
    layout.cut_off.touch()
    (layout.attempts / "task-1.json").write_text("{}")
    fifo = layout.requests.stat().st_ino
    layout.prepare(busybox)
    assert kept.read_text() == "kept"
    assert (layout.attempts / "task-1.json").exists()
    assert layout.requests.stat().st_ino == fifo
    assert not layout.booted.exists()
    assert not layout.cut_off.exists()


def test_another_start_writes_nothing_that_is_there(layout: Layout, busybox: Path) -> None:
    """A node whose disk is full can be restarted."""
    layout.write_start({"A": "1"})
    layout.write_deployed(b"{}")
    files = [layout.busybox, layout.bin / "supervisor", layout.start, layout.deployed]
    before = [path.stat().st_ino for path in files]
    layout.prepare(busybox)
    layout.write_start({"A": "1"})
    layout.write_deployed(b"{}")
    assert [path.stat().st_ino for path in files] == before
    layout.busybox.chmod(0o644)
    layout.prepare(busybox)
    assert mode(layout.busybox) == 0o755
    layout.write_deployed(b'{"A": 1}')
    assert layout.deployed.read_bytes() == b'{"A": 1}'
    assert mode(layout.deployed) == 0o600


def planted(path: Path, target: Path) -> None:
    """Put a link in the place of whatever lies there."""
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["startup/wd", ".packhorse/run/requests", ".packhorse/run/results"])
def test_links_that_tasks_planted_lead_nowhere(layout: Layout, busybox: Path, name: str) -> None:
    """Else another start would open the agent's own folder to tasks, or talk into a file of the agent's."""
    (layout.agent / "deployed.json").write_text("{}")
    (layout.agent / "deployed.json").chmod(0o600)
    for target in (layout.agent, layout.deployed):
        planted(layout.root / name, target)
        layout.prepare(busybox)
        assert not (layout.root / name).is_symlink()
        assert mode(layout.agent) == 0o700
        assert mode(layout.deployed) == 0o600
        assert layout.deployed.read_text() == "{}"
        if name == "startup/wd":
            assert mode(layout.root / name) == 0o2775
        else:
            assert mode(layout.root / name) == 0o660


def test_a_planted_sign_that_the_supervisor_is_up_is_gone(layout: Layout, busybox: Path) -> None:
    planted(layout.booted, layout.agent)
    assert layout.is_up()
    layout.prepare(busybox)
    assert not layout.is_up()
    assert layout.agent.is_dir()
    (layout.booted / "deep").mkdir(parents=True)
    layout.prepare(busybox)
    assert not layout.is_up()


def test_folders_that_tasks_left_in_the_way_of_fifos_are_put_aside(layout: Layout, busybox: Path) -> None:
    for fifo in (layout.requests, layout.results):
        fifo.unlink()
        (fifo / "deep").mkdir(parents=True)
    layout.prepare(busybox)
    test_fifos_that_agent_and_supervisor_share(layout)
    assert len(list(layout.run.glob("aside-*/deep"))) == 2


def test_something_in_the_way_of_a_fifo_is_replaced(layout: Layout, busybox: Path) -> None:
    layout.requests.unlink()
    layout.requests.write_text("no FIFO")
    layout.prepare(busybox)
    assert stat.S_ISFIFO(layout.requests.stat().st_mode)


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@pytest.mark.parametrize("shell", ["sh", "busybox"])
@settings(max_examples=40)
@given(words=st.lists(TEXTS, max_size=4))
def test_any_shell_reads_quoted_words_back(busybox: Path, shell: str, words: list[str]) -> None:
    command = ["/bin/sh"] if shell == "sh" else [str(busybox), "sh"]
    script = f"for word in {' '.join(quote(word) for word in words)}; do printf '%s\\0' \"$word\"; done"
    found = subprocess.run([*command, "-c", script], capture_output=True, check=True).stdout
    assert found == b"".join(word.encode() + b"\0" for word in words)


NAMES = st.text(st.characters(exclude_characters="=\0", codec="utf-8"), min_size=1)


def started_with(layout: Layout, environment: dict[str, str]) -> dict[bytes, bytes]:
    """The environment in which the start script runs the supervisor."""
    layout.write_start(environment)
    (layout.bin / "supervisor").write_text('cat "/proc/$$/environ"\n')
    start: list[str | Path] = [layout.busybox, "sh", layout.start]
    found = subprocess.run(start, capture_output=True, check=True, env={"PATH": os.environ["PATH"]}).stdout
    return dict(entry.split(b"=", 1) for entry in found.split(b"\0") if entry)


@settings(max_examples=40)
@given(environment=st.dictionaries(NAMES, TEXTS, max_size=4))
def test_every_variable_reaches_the_supervisor(
    tmp_path_factory: pytest.TempPathFactory, busybox: Path, environment: dict[str, str]
) -> None:
    layout = Layout(tmp_path_factory.mktemp("node"))
    layout.prepare(busybox)
    found = started_with(layout, {**environment, "PATH": os.environ["PATH"]})
    for name, value in environment.items():
        assert found[name.encode()] == value.encode()


@pytest.mark.parametrize("name", ["-i", "-u", "--", "-", "AZ_BATCH_APP_PACKAGE_blender#2.7", "a b", "1", "$(x)"])
def test_names_that_could_be_taken_for_something_else(layout: Layout, name: str) -> None:
    assert (
        started_with(layout, {name: "value", "OTHER": "kept"}).items()
        >= {
            name.encode(): b"value",
            b"OTHER": b"kept",
        }.items()
    )
