"""The files of attempts, and their launch scripts on a real shell."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packhorse.node.attempts import AttemptFiles, Exit, Record, launch_script
from packhorse.node.layout import Layout
from packhorse.protocol import Package, RunTask
from tests.unit.node.test_layout import NAMES, TEXTS
from tests.unit.objects import NOW, digest


def message(command_line: str = "true", environment: dict[str, str] | None = None, name: str = "frame-1") -> RunTask:
    return RunTask("uid", name, "nightly", 2, command_line, environment or {})


def launch(layout: Layout, message: RunTask, *, environment: dict[str, str] | None = None) -> int:
    """Run an attempt's launch script as the supervisor does; its exit code."""
    script = launch_script(message, layout, environment or {})
    env = {"PATH": os.environ["PATH"], **(environment or {})}
    return subprocess.run([layout.busybox, "sh", "-c", script], check=False, env=env).returncode


def folder(layout: Layout) -> Path:
    return layout.root / "workitems/nightly/job-1/frame-1"


def output(layout: Layout) -> str:
    return (folder(layout) / "stdout.txt").read_text()


def test_batchs_layout(layout: Layout) -> None:
    assert launch(layout, message("pwd; echo told >&2; read line || echo nothing to read; umask")) == 0
    assert output(layout) == f"{folder(layout)}/wd\nnothing to read\n0022\n"
    assert (folder(layout) / "stderr.txt").read_text() == "told\n"


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("kill -9 $$", -9), ("no-such-program", 127), ("", 0)])
def test_the_exit_code_is_the_command_lines(layout: Layout, command: str, code: int) -> None:
    assert launch(layout, message(command)) == code


def test_shared_and_working_directory_are_on_the_path(layout: Layout) -> None:
    (layout.root / "shared/tool").write_text("#!/bin/sh\necho shared\n")
    (layout.root / "shared/tool").chmod(0o755)
    assert launch(layout, message("printf '#!/bin/sh\\necho own\\n' >own; chmod +x own; own; tool")) == 0
    assert output(layout) == "own\nshared\n"


def test_every_attempt_finds_a_clean_directory(layout: Layout) -> None:
    assert (
        launch(layout, message("mkdir -p deep/er; touch deep/er/file ../beside; chmod 0 deep/er deep; chmod 0 .")) == 0
    )
    assert launch(layout, message("ls -A . ..")) == 0
    assert output(layout).split() == [".:", "..:", "stderr.txt", "stdout.txt", "wd"]


def test_a_directory_that_cannot_be_made(layout: Layout) -> None:
    (layout.root / "workitems/nightly").write_text("in the way")
    assert launch(layout, message("true")) == 126


def environment_of(layout: Layout, task: RunTask, environment: dict[str, str] | None = None) -> dict[str, str]:
    assert launch(layout, task, environment=environment) == 0
    found = (folder(layout) / "stdout.txt").read_bytes().decode()
    return dict(entry.split("=", 1) for entry in found.split("\0") if entry)


SHOW = "cat /proc/$$/environ; exit 0"


@settings(max_examples=40)
@given(environment=st.dictionaries(NAMES, TEXTS, max_size=4))
def test_every_variable_reaches_the_command_line(
    tmp_path_factory: pytest.TempPathFactory, busybox: Path, environment: dict[str, str]
) -> None:
    layout = Layout(tmp_path_factory.mktemp("node"))
    layout.prepare(busybox)
    environment = {**environment, "PATH": os.environ["PATH"]}
    found = environment_of(layout, message(SHOW, environment))
    assert found.items() >= environment.items()


def test_names_that_no_shell_can_export_reach_the_command(layout: Layout) -> None:
    wanted = {"AZ_BATCH_APP_PACKAGE_blender#2.7": "/somewhere", "-i": "x", "with space": "y"}
    found = environment_of(layout, message(SHOW, wanted))
    assert found.items() >= wanted.items()


def test_names_of_the_node_that_no_shell_can_export_reach_the_command(layout: Layout) -> None:
    found = environment_of(layout, message(SHOW), {"my.setting": "1", "-u": "2", "PLAIN": "3"})
    assert (found["my.setting"], found["-u"], found["PLAIN"]) == ("1", "2", "3")


def test_a_tasks_variables_win_over_the_nodes(layout: Layout) -> None:
    node = {"A": "node", "B": "node"}
    found = environment_of(layout, message(SHOW, {"A": "task"}), node)
    assert (found["A"], found["B"]) == ("task", "node")


def test_package_variables_of_the_node_that_the_task_shall_not_have_are_gone(layout: Layout) -> None:
    node = {"AZ_BATCH_APP_PACKAGE_blender": "/2.7", "AZ_BATCH_APP_PACKAGE_blender#2.7": "/2.7", "OTHER": "kept"}
    found = environment_of(layout, message(SHOW, {"AZ_BATCH_APP_PACKAGE_blender": "/3.0"}), node)
    assert {name: value for name, value in found.items() if name.startswith("AZ_BATCH_APP")} == {
        "AZ_BATCH_APP_PACKAGE_blender": "/3.0"
    }
    assert found["OTHER"] == "kept"


def test_processes_are_marked_with_their_attempt(layout: Layout) -> None:
    forged = message(SHOW, {"PACKHORSE_ATTEMPT": "another-1"})
    assert environment_of(layout, forged)["PACKHORSE_ATTEMPT"] == "uid-2"


def record(name: str = "frame-1", attempt: int = 2) -> Record:
    packages = (Package("blender", "2.7", digest(), 7),)
    return Record(RunTask("uid", name, "nightly", attempt, "true", {"A": "b"}, packages, 1.5), NOW)


def test_records_are_kept_until_they_are_forgotten(layout: Layout) -> None:
    files = AttemptFiles(layout)
    one, two = record(attempt=1), record(attempt=2)
    for item in (two, one):
        files.keep(item)
        files.make_launch(item.key, "")
    assert AttemptFiles(layout).load() == [one, two]
    files.forget(one.key)
    assert AttemptFiles(layout).load() == [two]
    assert not (layout.run / one.key).exists()
    assert (layout.run / two.key / "launch").exists()
    files.forget(one.key)


def test_a_record_that_cannot_be_read_is_told_and_left_out(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    """As after a power failure in the middle of writing it."""
    files = AttemptFiles(layout)
    files.keep(record())
    (layout.attempts / "broken-1.json").write_bytes(b"")
    (layout.attempts / "half-1.new").write_bytes(b"{")
    assert files.load() == [record()]
    assert "broken-1" in caplog.text
    caplog.clear()
    assert files.load() == [record()]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", Exit(0)),
        ("143", Exit(143)),
        ("lost", Exit(None)),
        ("0\n", Exit(None)),
        ("-1", Exit(None)),
        ("9" * 4000, Exit(None)),
        ("\u0663", Exit(None)),
        ("\udcff", Exit(None)),
        ("launch", Exit(None)),
    ],
)
def test_exit_codes(layout: Layout, text: str, wanted: Exit) -> None:
    files = AttemptFiles(layout)
    files.make_launch("uid-2", "")
    assert files.exit("uid-2") is None
    (layout.run / "uid-2" / "exit").symlink_to(text)
    assert files.exit("uid-2") == wanted


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"", ""),
        (b"short\n", "short\n"),
        (b"no end of line", "no end of line"),
        (b"x" * 5000, "x" * 2048),
        (b"a" * 3000 + b"\nlast\n", "last\n"),
        (b"line 1\n" * 1000, "line 1\n" * 292),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\0b", "a\ufffdb"),
    ],
)
def test_the_ends_of_outputs(layout: Layout, written: bytes, shown: str) -> None:
    folder(layout).mkdir(parents=True)
    (folder(layout) / "stderr.txt").write_bytes(written)
    assert AttemptFiles(layout).outputs(message()) == ("", shown)


@settings(max_examples=50)
@given(st.binary(max_size=6000))
def test_the_end_of_an_output_is_an_end_of_it(tmp_path_factory: pytest.TempPathFactory, written: bytes) -> None:
    layout = Layout(tmp_path_factory.mktemp("node"))
    folder(layout).mkdir(parents=True)
    (folder(layout) / "stdout.txt").write_bytes(written)
    shown, _ = AttemptFiles(layout).outputs(message())
    assert len(shown) <= 2048
    assert "\0" not in shown
    assert bool(shown) == bool(written)
