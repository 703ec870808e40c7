"""The start task, run by a supervisor and told to a node service."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from packhorse.node import start_task as module
from packhorse.node.layout import Layout
from packhorse.protocol import StartTask, StartTaskChanged, StartTaskState
from tests.unit.node.machine import DEPLOYED, Machine, machine_of, run, until, wait_for
from tests.unit.node.supervised import Supervisor


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.004)


class Node:
    """A node with a start task."""

    def __init__(self, layout: Layout, supervisor: Supervisor) -> None:
        self.layout = layout
        self.supervisor = supervisor

    @asynccontextmanager
    async def start(
        self, command: str, environment: dict[str, str] | None = None, *, retries: int = 0, wait: bool = True
    ) -> AsyncIterator[Machine]:
        start_task = StartTask(command, environment or {}, max_retry_count=retries, wait_for_success=wait)
        deployed = msgspec.structs.replace(DEPLOYED, start_task=start_task)
        self.supervisor.start(environment=dict(deployed.environment))
        async with machine_of(self.layout, self.supervisor, deployed) as machine:
            yield machine

    def first_is_over(self) -> bool:
        return any((folder / "exit").is_symlink() for folder in self.layout.run.glob("starttask-*-1"))

    def output(self, name: str = "stdout.txt") -> str:
        return (self.layout.startup / name).read_text()


@pytest.fixture
def node(layout: Layout, supervisor: Supervisor) -> Node:
    return Node(layout, supervisor)


async def changed(machine: Machine) -> StartTaskState:
    return (await machine.next(StartTaskChanged)).start_task


async def outcome(machine: Machine) -> StartTaskState:
    """What the start task comes to, whether hello tells it or a message after it."""
    state = (await machine.hello()).start_task
    while state is None or state.state == "running":
        state = await changed(machine)
    return state


async def test_it_runs_where_batchs_does_and_finds_the_nodes_variables(node: Node) -> None:
    show = 'pwd; echo "$HOME $PWD $AZ_BATCH_TASK_DIR $AZ_BATCH_TASK_WORKING_DIR"; echo "$A $OWN"; echo told >&2'
    async with node.start(
        f"{show}; echo ${{AZ_BATCH_TASK_ID-none}} ${{AZ_BATCH_JOB_ID-none}}", {"OWN": "2"}
    ) as machine:
        state = await outcome(machine)
    assert (state.state, state.exit_code, state.problem, state.retry_count) == ("completed", 0, None, 0)
    assert state.wait_for_success
    assert state.end_time is not None
    assert state.start_time <= state.end_time
    startup, wd = node.layout.startup, node.layout.startup / "wd"
    assert node.output() == f"{wd}\n{wd} {wd} {startup} {wd}\n1 2\nnone none\n"
    assert node.output("stderr.txt") == "told\n"


async def test_its_own_settings_win_and_any_name_reaches_it(node: Node) -> None:
    async with node.start('tr "\\0" "\\n" </proc/$$/environ; exit 0', {"A": "own", "with.dot": "x"}) as machine:
        await outcome(machine)
    assert {"A=own", "with.dot=x", f"AZ_BATCH_APP_PACKAGE_blender={'/2.7'}"} <= set(node.output().splitlines())


async def test_it_is_told_from_its_beginning(node: Node, tmp_path: Path) -> None:
    async with node.start(f"{wait_for(tmp_path / 'go')}; exit 0", wait=False) as machine:
        hello = await machine.hello()
        assert hello.start_task is not None
        assert (hello.start_task.state, hello.start_task.wait_for_success) == ("running", False)
        (tmp_path / "go").touch()
        assert (await outcome_after(machine)).exit_code == 0


async def outcome_after(machine: Machine) -> StartTaskState:
    state = await changed(machine)
    while state.state == "running":
        state = await changed(machine)
    return state


async def test_without_one_nothing_is_told(machine: Machine) -> None:
    await machine.service.hang_up()
    assert (await machine.hello()).start_task is None


async def test_tasks_that_come_while_it_runs_are_run(node: Node, tmp_path: Path) -> None:
    """It is the operator's to say whether they may."""
    async with node.start(wait_for(tmp_path / "go")) as machine:
        await machine.hello()
        await machine.service.send(run("exit 3"))
        while not hasattr(message := await machine.service.next(), "exit_code"):
            assert isinstance(message, StartTaskChanged)
        assert message.exit_code == 3
        (tmp_path / "go").touch()
        assert (await outcome_after(machine)).exit_code == 0


async def test_it_is_run_again_as_often_as_the_pool_says(node: Node, tmp_path: Path) -> None:
    async with node.start(f"echo >>{tmp_path}/runs; ls; touch left; exit 4", retries=2) as machine:
        state = await outcome(machine)
    assert (state.exit_code, state.retry_count) == (4, 2)
    assert state.problem is not None
    assert (state.problem.code, state.problem.category) == ("FailureExitCode", "UserError")
    assert state.problem.message == "The start task exited with an exit code representing a failure: 4"
    assert (tmp_path / "runs").read_text() == "\n" * 3
    assert node.output() == "left\n", "its directory is kept from one attempt to the next, its output is not"


async def test_each_further_attempt_is_told(node: Node, tmp_path: Path) -> None:
    async with node.start(f"{wait_for(tmp_path / 'go')}; exit 4", retries=1) as machine:
        first = (await machine.hello()).start_task
        assert first is not None
        (tmp_path / "go").touch()
        told = [await changed(machine)]
        while told[-1].state == "running":
            told.append(await changed(machine))
    assert [(state.state, state.retry_count, state.exit_code) for state in told[-2:]] == [
        ("running", 1, None),
        ("completed", 1, 4),
    ]
    assert told[-2].start_time > first.start_time


async def test_without_a_limit_it_is_run_until_it_succeeds(node: Node, tmp_path: Path) -> None:
    async with node.start(f"echo >>{tmp_path}/runs; test $(wc -l <{tmp_path}/runs) = 9", retries=-1) as machine:
        state = await outcome(machine)
    assert (state.exit_code, state.retry_count, state.problem) == (0, 8, None)


async def test_another_agent_goes_on_with_what_runs(node: Node, tmp_path: Path) -> None:
    async with node.start(f"echo >>{tmp_path}/runs; {wait_for(tmp_path / 'go')}") as machine:
        before = (await machine.hello()).start_task
        await until((tmp_path / "runs").exists)
        state = (await machine.restart_agent()).start_task
        assert state == before
        (tmp_path / "go").touch()
        assert (await outcome_after(machine)).exit_code == 0
    assert (tmp_path / "runs").read_text() == "\n"


async def test_what_ended_while_there_was_no_agent_counts(node: Node, tmp_path: Path) -> None:
    async with node.start(f"echo >>{tmp_path}/runs; {wait_for(tmp_path / 'go')}; exit 5") as machine:
        await machine.hello()
        await until((tmp_path / "runs").exists)
        await machine.stop_agent()
        (tmp_path / "go").touch()
        await until(node.first_is_over)
        machine.start_agent()
        state = await outcome(machine)
    assert (state.state, state.exit_code) == ("completed", 5)
    assert (tmp_path / "runs").read_text() == "\n"


async def test_another_agent_knows_how_it_ended_and_does_not_run_it_again(node: Node, tmp_path: Path) -> None:
    async with node.start(f"echo >>{tmp_path}/runs; exit 4") as machine:
        state = await outcome(machine)
        for _ in range(2):
            assert (await machine.restart_agent()).start_task == state
        await machine.service.send(run("exit 0"))
        await machine.ended()
    assert (tmp_path / "runs").read_text() == "\n"
    assert not any(node.layout.run.glob("starttask-*")), "what it needed is gone"


async def test_another_agent_tries_again_where_the_last_one_would_have(node: Node, tmp_path: Path) -> None:
    """The agent ends in the pause between two attempts."""
    async with node.start(f"echo >>{tmp_path}/runs; test -e {tmp_path}/go", retries=1) as machine:
        module.FIRST_PAUSE = 3600.0
        await machine.hello()
        await until(node.first_is_over)
        await machine.stop_agent()
        (tmp_path / "go").touch()
        module.FIRST_PAUSE = 0.001
        machine.start_agent()
        state = await outcome(machine)
    assert (state.exit_code, state.retry_count) == (0, 1)
    assert (tmp_path / "runs").read_text() == "\n\n"


async def test_an_agent_that_noted_an_attempt_and_did_no_more(node: Node) -> None:
    async with node.start("exit 0") as machine:
        await outcome(machine)
        await machine.stop_agent()
        noted = msgspec.json.decode(node.layout.start_task.read_bytes(), type=module.Progress)
        running = msgspec.structs.replace(noted, state=StartTaskState("running", noted.state.start_time))
        node.layout.start_task.write_bytes(msgspec.json.encode(running))
        machine.start_agent()
        state = await outcome(machine)
    assert (state.state, state.exit_code, state.retry_count) == ("completed", 0, 0)


async def test_each_start_of_the_users_container_runs_it(node: Node, tmp_path: Path) -> None:
    """The container's own file system is new then. What was cut short is no failure."""
    command = f"echo >>{tmp_path}/runs; test -e {tmp_path}/go || sleep 1000"
    async with node.start(command) as machine:
        await machine.hello()
        await until((tmp_path / "runs").exists)
        node.supervisor.kill()
        (tmp_path / "go").touch()
        node.supervisor.start(wait=False)
        state = await outcome_after(machine)
        assert (state.exit_code, state.retry_count, state.problem) == (0, 0, None)
        node.supervisor.kill()
        node.supervisor.start(wait=False)
        again = [await changed(machine), await changed(machine)]
        assert [each.state for each in again] == ["running", "completed"]
        assert again[0].start_time > state.start_time
    assert (tmp_path / "runs").read_text() == "\n" * 3


async def test_a_start_while_there_was_no_agent_runs_it_too(node: Node, tmp_path: Path) -> None:
    async with node.start(f"echo >>{tmp_path}/runs") as machine:
        first = await outcome(machine)
        await machine.stop_agent()
        node.supervisor.kill()
        node.supervisor.start()
        machine.start_agent()
        second = await outcome(machine)
    assert second.start_time > first.start_time
    assert (tmp_path / "runs").read_text() == "\n\n"


async def test_a_note_that_cannot_be_read(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """As after a power failure in the middle of writing it."""
    async with node.start("exit 0") as machine:
        await outcome(machine)
        await machine.stop_agent()
        node.layout.start_task.write_bytes(b"{")
        machine.start_agent()
        assert (await outcome(machine)).exit_code == 0
    assert "it is run again" in caplog.text


async def test_what_lies_in_the_way_of_its_output_does_not_hold_it_up(node: Node) -> None:
    os.mkfifo(node.layout.startup / "stdout.txt")
    (node.layout.startup / "stderr.txt").mkdir()
    async with node.start("echo out; echo err >&2") as machine:
        assert (await outcome(machine)).exit_code == 0
    assert (node.output(), node.output("stderr.txt")) == ("out\n", "err\n")
