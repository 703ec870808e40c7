"""The agent between a node service and a supervisor that really runs."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from packhorse.domain.environment import PREFIX
from packhorse.node.layout import Layout
from packhorse.node.removals import Removals
from packhorse.protocol import EndTask, Package, PackagesRemoved, RunningTask, TaskRecorded
from tests.unit.archive.zips import Item, build
from tests.unit.node.blobs import BlobServer, Request
from tests.unit.node.machine import Machine, machine_of, run, until, wait_for
from tests.unit.node.service import PATIENCE
from tests.unit.node.supervised import Supervisor

CONTENT = build(Item(name="tool.txt", data=b"the tool\n"))
TOOL = Package("tool", "1", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def blob() -> Iterator[BlobServer]:
    with BlobServer(CONTENT) as server:
        yield server


async def test_a_task_runs_and_its_end_is_told(machine: Machine) -> None:
    await machine.service.send(run("echo out; echo err >&2; exit 3"))
    end = await machine.ended()
    assert (end.uid, end.attempt, end.exit_code, end.problem, end.lost) == ("uid", 1, 3, None, False)
    assert (end.stdout, end.stderr) == ("out\n", "err\n")
    assert end.start_time <= end.end_time


async def test_an_end_is_repeated_until_it_is_recorded(machine: Machine) -> None:
    await machine.service.send(run("exit 0"))
    end = await machine.ended()
    for _ in range(2):
        await machine.service.hang_up()
        assert (await machine.hello()).tasks == (RunningTask("uid", 1),)
        assert await machine.ended() == end
    await machine.service.send(TaskRecorded("uid", 1))
    await until(lambda: not any(machine.layout.attempts.iterdir()))
    await machine.service.hang_up()
    assert (await machine.hello()).tasks == ()
    assert not (machine.layout.run / "uid-1").exists()
    assert (machine.layout.root / "workitems/default/job-1/frame/stdout.txt").exists()


async def test_tasks_run_on_while_the_connection_is_broken(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"touch {tmp_path}/up; {wait_for(tmp_path / 'go')}; echo done"))
    await until((tmp_path / "up").exists)
    machine.service.refuse = True
    await machine.service.hang_up()
    (tmp_path / "go").touch()
    await until((machine.layout.run / "uid-1" / "exit").is_symlink)
    machine.service.refuse = False
    assert (await machine.hello()).tasks == (RunningTask("uid", 1),)
    assert (await machine.ended()).stdout == "done\n"


async def test_a_request_that_comes_twice_runs_once(machine: Machine, tmp_path: Path) -> None:
    task = run(f"echo >>{tmp_path}/runs; {wait_for(tmp_path / 'go')}")
    for _ in range(2):
        await machine.service.send(task)
    await machine.service.send(run("exit 0", uid="other", name="other"))
    assert (await machine.ended()).uid == "other"
    (tmp_path / "go").touch()
    assert (await machine.ended()).uid == "uid"
    await machine.service.send(task)
    await machine.service.send(run("exit 0", uid="third", name="third"))
    assert (await machine.ended()).uid == "third"
    assert (tmp_path / "runs").read_text() == "\n"


async def test_another_attempt_runs_in_a_clean_directory(machine: Machine) -> None:
    await machine.service.send(run("touch left; exit 1"))
    assert (await machine.ended()).exit_code == 1
    await machine.service.send(TaskRecorded("uid", 1))
    await machine.service.send(run("ls | wc -l", attempt=2))
    assert (await machine.ended()).stdout.strip() == "0"


async def test_asked_to_end_a_task(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"touch {tmp_path}/up; sleep 1000"))
    await until((tmp_path / "up").exists)
    await machine.service.send(EndTask("uid", 1, grace_period=1000))
    end = await machine.ended()
    assert end.problem is not None
    assert (end.exit_code, end.problem.code, end.problem.category) == (143, "TaskEnded", "UserError")


async def test_what_does_not_end_by_itself_is_killed(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done"))
    await until((tmp_path / "up").exists)
    await machine.service.send(EndTask("uid", 1, grace_period=0.05))
    assert (await machine.ended()).exit_code == 137


async def test_ending_a_task_ends_what_it_left_in_other_sessions_too(machine: Machine, tmp_path: Path) -> None:
    stubborn = f'trap "" TERM; echo $$ >{tmp_path}/pid; touch {tmp_path}/up; while :; do sleep 0.01; done'
    await machine.service.send(run(f"setsid sh -c '{stubborn}' & wait; sleep 1000"))
    await until((tmp_path / "up").exists)
    await machine.service.send(EndTask("uid", 1, grace_period=0.05))
    assert (await machine.ended()).problem is not None
    gone = f"while grep -q . /proc/$(cat {tmp_path}/pid)/cmdline 2>/dev/null; do sleep 0.01; done"
    await machine.service.send(run(gone, uid="other", name="other"))
    assert (await machine.ended()).exit_code == 0


async def test_ended_to_run_again_elsewhere(machine: Machine, tmp_path: Path) -> None:
    """The first request counts, however often it is repeated and whatever follows."""
    await machine.service.send(run(f"trap 'exit 0' TERM; touch {tmp_path}/up; {wait_for(tmp_path / 'go')}"))
    await until((tmp_path / "up").exists)
    for requeue in (True, True, False):
        await machine.service.send(EndTask("uid", 1, grace_period=0.05, requeue=requeue))
    end = await machine.ended()
    assert (end.lost, end.exit_code, end.problem) == (True, None, None)
    await machine.service.send(EndTask("uid", 1))
    await machine.service.hang_up()
    await machine.hello()
    assert await machine.ended() == end


async def test_ended_for_good_is_not_run_again(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"touch {tmp_path}/up; sleep 1000"))
    await until((tmp_path / "up").exists)
    for requeue in (False, True):
        await machine.service.send(EndTask("uid", 1, requeue=requeue))
    end = await machine.ended()
    assert end.problem is not None
    assert (end.lost, end.problem.code) == (False, "TaskEnded")


async def test_what_was_over_before_it_was_ended_counts(machine: Machine) -> None:
    """Its result lies there, and the agent has not heard of it yet."""
    await machine.service.send(run("exit 0", uid="other", name="other"))
    await machine.ended()
    machine.supervisor.freeze()
    await machine.service.send(run("exit 7"))
    await until((machine.layout.run / "uid-1" / "launch").exists)
    (machine.layout.run / "uid-1" / "exit").symlink_to("7")
    await machine.service.send(EndTask("uid", 1, requeue=True))
    end = await machine.ended()
    assert (end.exit_code, end.lost) == (7, False)
    machine.supervisor.thaw()


async def test_asked_to_end_what_it_does_not_have(machine: Machine) -> None:
    await machine.service.send(EndTask("unknown", 1))
    await machine.service.send(run("exit 0"))
    assert (await machine.ended()).uid == "uid"


async def test_a_task_that_takes_too_long(machine: Machine) -> None:
    await machine.service.send(run("sleep 1000", max_wall_clock_time=0.1))
    end = await machine.ended()
    assert end.problem is not None
    assert (end.problem.code, end.problem.category) == ("TaskEnded", "ServerError")
    assert "maxWallClockTime of 0.1 s" in end.problem.message


async def test_a_task_within_its_time(machine: Machine) -> None:
    await machine.service.send(run("exit 0", max_wall_clock_time=1000.0))
    assert (await machine.ended()).problem is None


async def test_an_agent_that_was_restarted_knows_what_runs_and_what_ended(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(
        run(f"touch {tmp_path}/up; {wait_for(tmp_path / 'go')}; exit 4", uid="long", name="long")
    )
    await until((tmp_path / "up").exists)
    await machine.service.send(run("exit 5", uid="short", name="short"))
    first = await machine.ended()
    hello = await machine.restart_agent()
    assert {task.uid for task in hello.tasks} == {"long", "short"}
    again = await machine.ended()
    assert (again.uid, again.exit_code, again.start_time) == ("short", 5, first.start_time)
    (tmp_path / "go").touch()
    assert (await machine.ended()).exit_code == 4


async def test_what_ended_while_there_was_no_agent(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"touch {tmp_path}/up; {wait_for(tmp_path / 'go')}; exit 4"))
    await until((tmp_path / "up").exists)
    await machine.stop_agent()
    (tmp_path / "go").touch()
    await until((machine.layout.run / "uid-1" / "exit").is_symlink)
    machine.start_agent()
    await machine.hello()
    assert (await machine.ended()).exit_code == 4


async def test_a_limit_of_time_holds_for_a_restarted_agent_too(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"touch {tmp_path}/up; sleep 1000", max_wall_clock_time=3600.0))
    await until((tmp_path / "up").exists)
    await machine.stop_agent()
    launch = machine.layout.run / "uid-1" / "launch"
    os.utime(launch, (launch.stat().st_atime, launch.stat().st_mtime - 7200))
    machine.start_agent()
    await machine.hello()
    end = await machine.ended()
    assert end.problem is not None
    assert "maxWallClockTime" in end.problem.message


async def test_an_agent_that_was_restarted_before_it_could_launch(machine: Machine) -> None:
    """The record is on the disk, and nothing else was done."""
    await machine.service.send(run("exit 0"))
    await machine.ended()
    await machine.stop_agent()
    shutil.rmtree(machine.layout.run / "uid-1")
    machine.start_agent()
    assert (await machine.hello()).tasks == (RunningTask("uid", 1),)
    assert (await machine.ended()).exit_code == 0


async def test_an_agent_that_was_restarted_before_the_supervisor_was_asked(machine: Machine) -> None:
    await machine.service.send(run("exit 0"))
    await machine.ended()
    await machine.stop_agent()
    for name in ("exit", "started"):
        (machine.layout.run / "uid-1" / name).unlink()
    machine.start_agent()
    await machine.hello()
    assert (await machine.ended()).exit_code == 0


async def test_a_container_that_was_killed_loses_its_tasks(machine: Machine, tmp_path: Path) -> None:
    await machine.service.send(run(f"touch {tmp_path}/up; sleep 1000"))
    await until((tmp_path / "up").exists)
    machine.supervisor.kill()
    machine.supervisor.start(wait=False)
    end = await machine.ended()
    assert (end.lost, end.exit_code, end.problem) == (True, None, None)
    await machine.service.send(TaskRecorded("uid", 1))
    await machine.service.send(run("exit 0", attempt=2))
    assert (await machine.ended()).attempt == 2


async def test_nothing_is_asked_of_the_operator_before_the_supervisor_is_up(
    layout: Layout, supervisor: Supervisor
) -> None:
    async with machine_of(layout, supervisor) as machine:
        supervisor.start(wait=False)
        await machine.hello()
        assert layout.booted.exists()


async def test_package_variables_are_those_that_the_operator_names(machine: Machine) -> None:
    await machine.service.send(run(f"echo ${{{PREFIX}blender-none}}"))
    assert (await machine.ended()).stdout == "none\n"
    named = {PREFIX + "blender": "/3.0"}
    await machine.service.send(run(f"echo ${PREFIX}blender", uid="two", name="two", environment=named))
    assert (await machine.ended()).stdout == "/3.0\n"


async def test_a_tasks_own_package_is_installed_before_it_starts(machine: Machine, blob: BlobServer) -> None:
    machine.service.downloads["1"] = blob.download()
    tool = machine.layout.root / TOOL.directory / "tool.txt"
    await machine.service.send(run(f"cat {tool}", packages=(TOOL,)))
    assert (await machine.started()).attempt == 1
    assert (await machine.ended()).stdout == "the tool\n"
    await machine.service.send(run(f"cat {tool}", uid="two", name="two", packages=(TOOL,)))
    await machine.started()
    assert (await machine.ended()).stdout == "the tool\n"
    assert len(blob.requests) == 1


async def test_a_start_is_told_again_after_a_connection_that_broke(
    machine: Machine, blob: BlobServer, tmp_path: Path
) -> None:
    machine.service.downloads["1"] = blob.download()
    await machine.service.send(run(f"touch {tmp_path}/up; {wait_for(tmp_path / 'go')}", packages=(TOOL,)))
    await until((tmp_path / "up").exists)
    await machine.started()
    await machine.service.hang_up()
    assert (await machine.hello()).tasks == (RunningTask("uid", 1),)
    assert (await machine.started()).uid == "uid"
    (tmp_path / "go").touch()
    assert (await machine.ended()).exit_code == 0


async def test_a_package_that_cannot_be_fetched(machine: Machine) -> None:
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    end = await machine.ended()
    assert end.problem is not None
    details = {detail.name: detail.value for detail in end.problem.details}
    assert (end.exit_code, end.problem.code) == (None, "ApplicationPackageError")
    assert end.problem.message == "One or more application packages specified for the task are invalid"
    assert details["ApplicationPackageReference"] == "tool:1"
    assert details["Message"] == "Resource download failed"
    assert "not for this node" in details["Cause"]


async def test_ended_while_its_package_is_fetched(machine: Machine, blob: BlobServer) -> None:

    def hold(_: Request) -> None:
        blob.ended.wait(PATIENCE)

    blob.decide = hold
    machine.service.downloads["1"] = blob.download()
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    await until(lambda: bool(blob.requests))
    await machine.service.send(EndTask("uid", 1))
    end = await machine.ended()
    assert end.problem is not None
    assert (end.exit_code, end.problem.code) == (None, "TaskEnded")
    blob.ended.set()
    await until((machine.layout.root / TOOL.directory).exists)
    await machine.service.send(run("exit 0", uid="two", name="two"))
    assert (await machine.ended()).uid == "two"
    assert not (machine.layout.run / "uid-1").exists()


async def test_requeued_while_its_package_is_fetched(machine: Machine, blob: BlobServer) -> None:

    def hold(_: Request) -> None:
        blob.ended.wait(PATIENCE)

    blob.decide = hold
    machine.service.downloads["1"] = blob.download()
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    await until(lambda: bool(blob.requests))
    await machine.service.send(EndTask("uid", 1, requeue=True))
    end = await machine.ended()
    assert (end.lost, end.exit_code, end.problem) == (True, None, None)
    blob.ended.set()
    await until((machine.layout.root / TOOL.directory).exists)
    assert not (machine.layout.run / "uid-1").exists()


async def test_a_restart_while_a_package_is_fetched(machine: Machine, blob: BlobServer) -> None:
    machine.service.refuse = True
    task = run(f"cat {machine.layout.root / TOOL.directory / 'tool.txt'}", packages=(TOOL,))
    await machine.service.send(task)
    assert (await machine.ended()).problem is not None  # no leave yet, so that nothing was installed
    await machine.stop_agent()
    machine.service.downloads["1"], machine.service.refuse = blob.download(), False
    machine.start_agent()
    assert (await machine.hello()).tasks == (RunningTask("uid", 1),)
    await machine.started()
    assert (await machine.ended()).stdout == "the tool\n"


async def test_packages_that_were_removed_are_told_once(machine: Machine) -> None:
    """The init container notes them, since it has no connection."""
    removed = PackagesRemoved(("blender:2.6",), 1000, "blender:2.7 needed room")
    await machine.stop_agent()
    Removals(machine.layout).add(removed)
    machine.start_agent()
    await machine.hello()
    assert await machine.next(PackagesRemoved) == removed
    await until(lambda: not machine.layout.removals.exists())
    await machine.restart_agent()
    await machine.service.send(run("exit 0"))
    await machine.ended()


async def test_a_message_of_an_unknown_kind_is_passed_over(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    await machine.service.send_text('{"type": "somethingNew"}')
    await machine.service.send(run("exit 0"))
    assert (await machine.ended()).exit_code == 0
    assert machine.service.hellos == 1
    assert "somethingNew" in caplog.text


async def test_a_node_that_has_no_room_for_its_notes(machine: Machine) -> None:
    machine.layout.attempts.rmdir()
    await machine.service.send(run("exit 0"))
    end = await machine.ended()
    assert end.problem is not None
    assert end.exit_code is None
    machine.layout.attempts.mkdir()


async def test_a_token_that_was_renewed_is_used(machine: Machine) -> None:
    """The kubelet renews it; a connection that was opened with the old one goes on."""
    token = machine.layout.root / "token"
    token.write_text("expired")
    await machine.service.hang_up()
    asked = len(machine.service.asked)
    await until(lambda: len(machine.service.asked) > asked)
    token.write_text("a-token")
    assert (await machine.hello()).tasks == ()
