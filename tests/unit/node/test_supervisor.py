"""The supervisor, on a real shell: what it runs, what it ends, and what it says of that."""

import os
import time
from pathlib import Path

import pytest

from packhorse.node.layout import Layout
from tests.unit.node.supervised import Supervisor, eventually


@pytest.fixture(name="started")
def _started(supervisor: Supervisor) -> Supervisor:
    supervisor.start()
    return supervisor


def script(command: str, key: str = "task-1") -> str:
    """A launch script that marks its processes as the real one does."""
    return f"PACKHORSE_ATTEMPT={key} exec /bin/sh -c '{command}'\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 0", "0"),
        ("exit 1", "1"),
        ("exit 255", "255"),
        ("no-such-program", "127"),
        ("/dev/null", "126"),
        ("kill -TERM $$", "143"),
        ("kill -KILL $$", "137"),
        ("kill -SEGV $$", "139"),
    ],
)
def test_exit_codes(started: Supervisor, command: str, code: str) -> None:
    started.run("task-1", script(command))
    assert started.line() == "task-1"
    assert started.exit("task-1") == code


def test_it_says_when_it_is_up(supervisor: Supervisor, layout: Layout) -> None:
    assert not layout.booted.exists()
    supervisor.start()
    assert layout.booted.exists()


def test_attempts_run_side_by_side(started: Supervisor, tmp_path: Path) -> None:
    for number in range(20):
        started.run(f"task-{number}", f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit {number}\n")
    (tmp_path / "go").touch()
    assert {started.line() for _ in range(20)} == {f"task-{number}" for number in range(20)}
    assert [started.exit(f"task-{number}") for number in range(20)] == [str(number) for number in range(20)]


def test_each_has_a_session_of_its_own_and_none_of_our_fifos(started: Supervisor, tmp_path: Path) -> None:
    started.run("task-1", f"cut -d' ' -f1,5,6 /proc/$$/stat >{tmp_path}/ids; ls /proc/$$/fd >{tmp_path}/files\n")
    started.line()
    process, group, session = (tmp_path / "ids").read_text().split()
    assert process == group == session
    assert not {"3", "4"} & set((tmp_path / "files").read_text().split())


def test_a_request_that_comes_twice_runs_once(started: Supervisor, tmp_path: Path) -> None:
    """An agent that was restarted does not know whether its request was read."""
    started.run("task-1", f"echo >>{tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done\n")
    started.ask("run task-1")
    started.run("task-2", "exit 0\n")
    assert started.line() == "task-2"
    (tmp_path / "go").touch()
    assert started.line() == "task-1"
    started.ask("run task-1")
    started.run("task-3", "exit 0\n")
    assert started.line() == "task-3"
    assert (tmp_path / "runs").read_text() == "\n"


def test_what_ended_with_the_container_before_is_lost(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start()
    supervisor.run("ended-1", "exit 5\n")
    assert supervisor.line() == "ended-1"
    supervisor.run("cut-1", f"touch {tmp_path}/begun; sleep 1000\n")
    eventually(tmp_path / "begun")
    supervisor.kill()
    supervisor.start(wait=False)
    assert [supervisor.line(), supervisor.line()] == ["cut-1", "booted"]
    assert (supervisor.exit("cut-1"), supervisor.exit("ended-1")) == ("lost", "5")


def test_a_request_from_before_the_start_is_not_run_after_it_was_called_lost(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.run("early-1", f"touch {tmp_path}/ran\n")
    supervisor.start(wait=False)
    assert [supervisor.line(), supervisor.line()] == ["early-1", "booted"]
    supervisor.run("task-1", "exit 0\n")
    assert supervisor.line() == "task-1"
    assert not (tmp_path / "ran").exists()
    assert supervisor.exit("early-1") == "lost"


def test_a_signal_reaches_every_process_wherever_it_has_gone(started: Supervisor, tmp_path: Path) -> None:
    hidden = (
        f'setsid sh -c "trap \\"touch {tmp_path}/hit; exit\\" TERM; touch {tmp_path}/up; while :; do sleep 0.01; done"'
    )
    started.run("task-1", script(f"({hidden} &) ; wait; while :; do sleep 0.01; done"))
    eventually(tmp_path / "up")
    started.ask("signal task-1 TERM")
    assert started.line() == "task-1"
    assert started.exit("task-1") == "143"
    eventually(tmp_path / "hit")


def test_a_signal_is_for_one_attempt_alone(started: Supervisor, tmp_path: Path) -> None:
    wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    for key in ("task-1", "task-10", "other-1"):
        started.run(key, script(f"touch {tmp_path}/{key}; {wait}", key))
        eventually(tmp_path / key)
    started.ask("signal task-1 KILL")
    assert started.line() == "task-1"
    (tmp_path / "go").touch()
    assert {started.line(), started.line()} == {"task-10", "other-1"}
    assert (started.exit("task-1"), started.exit("task-10"), started.exit("other-1")) == ("137", "0", "0")


def test_what_an_attempt_leaves_behind_ends_with_it(started: Supervisor, tmp_path: Path) -> None:
    started.run("task-1", script(f"sleep 1000 & echo $! >{tmp_path}/left"))
    assert started.line() == "task-1"
    assert started.exit("task-1") == "0"
    started.run("task-2", f"while grep -q . /proc/$(cat {tmp_path}/left)/cmdline; do sleep 0.01; done; exit 0\n")
    assert started.line() == "task-2"


def test_output_of_any_size(started: Supervisor, tmp_path: Path) -> None:
    started.run("task-1", f"exec >{tmp_path}/out; head -c 50000000 /dev/zero\n")
    assert started.line() == "task-1"
    assert started.exit("task-1") == "0"
    assert (tmp_path / "out").stat().st_size == 50_000_000


def test_asked_to_end_it_ends_what_runs_and_calls_it_lost(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start()
    supervisor.run("quick-1", script("exit 0", "quick-1"))
    assert supervisor.line() == "quick-1"
    trap = f'trap "touch {tmp_path}/saved; exit 0" TERM; touch {tmp_path}/up; while :; do sleep 0.01; done'
    supervisor.run("task-1", script(trap))
    eventually(tmp_path / "up")
    assert supervisor.terminate() == 0
    assert (tmp_path / "saved").exists()
    supervisor.start(wait=False)
    while supervisor.line() != "booted":
        pass
    assert (supervisor.exit("task-1"), supervisor.exit("quick-1")) == ("lost", "0")


def test_after_such_an_end_exit_codes_count_again(supervisor: Supervisor) -> None:
    supervisor.start()
    assert supervisor.terminate() == 0
    supervisor.start()
    supervisor.run("task-1", "exit 4\n")
    assert supervisor.line() == "task-1"
    assert supervisor.exit("task-1") == "4"


def test_an_exit_code_that_cannot_be_noted_is_noted_later(
    supervisor: Supervisor, layout: Layout, busybox: Path, tmp_path: Path
) -> None:
    """As on a disk that takes not one file more; here busybox makes no links for a while."""
    refuse = f'if [ "$1" = ln ] && [ "$3" != 5 ] && [ ! -e {tmp_path}/room ]; then touch {tmp_path}/tried; exit 1; fi'
    layout.busybox.unlink()
    layout.busybox.write_text(f'#!/bin/sh\n{refuse}\nexec {busybox} "$@"\n')
    layout.busybox.chmod(0o755)
    supervisor.start()
    supervisor.run("task-1", "exit 6\n")
    eventually(tmp_path / "tried")
    supervisor.run("task-2", "exit 5\n")
    assert supervisor.line() == "task-2"
    (tmp_path / "room").touch()
    assert supervisor.line() == "task-1"
    assert supervisor.exit("task-1") == "6"


def test_what_somebody_left_open_in_a_fifo_is_closed(started: Supervisor, layout: Layout) -> None:
    """A task can write to both, and not end its line."""
    for fifo in (layout.requests, layout.results):
        with fifo.open("wb", buffering=0) as file:
            file.write(b"run task-")
    started.run("task-1", "exit 3\n")
    assert started.line() == "run task-"
    assert started.line() == "task-1"


def test_a_folder_is_removed_with_all_that_a_task_put_into_it(started: Supervisor, layout: Layout) -> None:
    started.run("task-1", f"cd {layout.run}/task-1; mkdir -p a/b; touch a/b/c; chmod 0 a/b a; ln -s / root\n")
    assert started.line() == "task-1"
    started.ask("forget task-1")
    while (layout.run / "task-1").exists():
        time.sleep(0.005)
    assert Path("/bin").exists()


def test_what_the_agent_put_aside_goes_with_the_next_start(supervisor: Supervisor, layout: Layout) -> None:
    (layout.run / "aside-1" / "deep").mkdir(parents=True)
    supervisor.start()
    while (layout.run / "aside-1").exists():
        time.sleep(0.005)


def test_nothing_that_a_task_planted_holds_up_a_start(supervisor: Supervisor, layout: Layout, tmp_path: Path) -> None:
    os.mkfifo(layout.booted)
    (layout.run / "stopping").mkdir()
    for number, name in enumerate(("exit", "started", "launch")):
        (layout.run / f"task-{number}").mkdir()
        os.mkfifo(layout.run / f"task-{number}" / name)
    (layout.run / "task-3" / "exit").mkdir(parents=True)
    (layout.run / "elsewhere").symlink_to(tmp_path)
    supervisor.start(wait=False)
    told = set()
    while (line := supervisor.line()) != "booted":
        told.add(line)
    assert told >= {"task-0", "task-1", "task-2", "task-3"}
    assert {supervisor.exit(f"task-{number}") for number in range(4)} == {"lost"}
    supervisor.run("task-4", "exit 4\n")
    assert supervisor.line() == "task-4"
    assert supervisor.exit("task-4") == "4"


def test_without_its_fifos_it_waits_for_the_agent_to_make_them_anew(supervisor: Supervisor, layout: Layout) -> None:
    """A regular file in place of a FIFO would have it read nothing, and that without a pause."""
    layout.requests.rename(layout.run / "away")
    layout.requests.touch()
    supervisor.start(wait=False)
    layout.requests.unlink()
    (layout.run / "away").rename(layout.requests)
    assert supervisor.line() == "booted"


def test_unknown_requests_are_passed_over(started: Supervisor) -> None:
    for line in ("", "nonsense", "run", "signal", "signal unknown-1 TERM", "run unknown-1"):
        started.ask(line)
    started.run("task-1", "exit 0\n")
    assert started.line() == "task-1"
