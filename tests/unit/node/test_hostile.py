"""Tasks that plant things in the agent's way: it neither reads nor changes what is not theirs, and goes on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from packhorse.node.layout import Layout
from packhorse.protocol import NodeProblem, TaskRecorded
from tests.unit.node.machine import Machine, run, until, wait_for
from tests.unit.node.service import TOKEN


async def goes_on(machine: Machine) -> None:
    """Whatever happened, the next task runs."""
    await machine.service.send(run("exit 0", uid="next", name="next"))
    end = await machine.ended()
    assert (end.uid, end.exit_code) == ("next", 0)


@pytest.mark.parametrize(
    "plant",
    [
        "ln -sf {token} ../stdout.txt",
        "rm ../stdout.txt; mkfifo ../stdout.txt",
        "rm ../stdout.txt; mkdir ../stdout.txt",
        "cd /; rm -r {folder}; ln -s {secrets} {folder}",
        "cd /; rm -r {job}; mkdir {job}; ln -s {secrets} {job}/job-1",
    ],
)
async def test_what_is_not_an_output_is_not_shown(machine: Machine, tmp_path: Path, plant: str) -> None:
    """The token of the node service, in a task's status, would be everybody's."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("stdout.txt", "stderr.txt"):
        (secrets / name).write_text(TOKEN)
    (secrets / "frame").symlink_to(secrets)
    job = machine.layout.root / "workitems/default"
    command = plant.format(
        token=machine.layout.root / "token", secrets=secrets, job=job, folder=job / "job-1" / "frame"
    )
    await machine.service.send(run(f"echo shown; {command}"))
    end = await machine.ended()
    assert (end.exit_code, end.stdout, end.stderr) == (0, "", "")
    await goes_on(machine)


@pytest.mark.parametrize(
    "plant",
    [
        "ln -s 0123 {exit}",
        "ln -s {deployed} {exit}",
        "echo 0 >{exit}",
        "mkfifo {exit}",
        "mkdir {exit}",
        "head -c 10000000 /dev/zero >{exit}",
    ],
)
async def test_an_exit_code_that_makes_no_sense(machine: Machine, plant: str) -> None:
    await machine.service.send(
        run(plant.format(exit=machine.layout.run / "uid-1/exit", deployed=machine.layout.deployed))
    )
    end = await machine.ended()
    assert (end.exit_code, end.lost) == (None, True)
    await machine.service.send(TaskRecorded("uid", 1))
    await until(lambda: not os.path.lexists(machine.layout.run / "uid-1"))
    await goes_on(machine)


def link_to_agent(layout: Layout, folder: Path) -> None:
    folder.symlink_to(layout.agent)


def link_launch(layout: Layout, folder: Path) -> None:
    folder.mkdir()
    for name in ("launch", "launch.new"):
        (folder / name).symlink_to(layout.deployed)


def regular_file(layout: Layout, folder: Path) -> None:
    assert layout
    folder.touch()


@pytest.mark.parametrize("plant", [link_to_agent, link_launch, regular_file])
async def test_the_folder_of_the_next_attempt(machine: Machine, plant: Callable[[Layout, Path], None]) -> None:
    """Its name can be guessed. It shall lead neither a script nor a change of mode to where the agent's files are."""
    layout = machine.layout
    before = layout.deployed.read_bytes(), layout.agent.stat().st_mode, set(layout.agent.iterdir())
    plant(layout, layout.run / "uid-2")
    await machine.service.send(run("exit 3", attempt=2))
    assert (await machine.ended()).exit_code == 3
    await machine.service.send(TaskRecorded("uid", 2))
    await until(lambda: not any(layout.attempts.iterdir()))
    assert (layout.deployed.read_bytes(), layout.agent.stat().st_mode, set(layout.agent.iterdir())) == before
    await goes_on(machine)


async def test_a_folder_of_any_depth_is_no_trouble(machine: Machine) -> None:
    """The agent would be through with its stack; the supervisor removes it."""
    deep = "for i in $(seq 1500); do mkdir d; cd d; done"
    await machine.service.send(run(f"cd {machine.layout.run}/uid-1; {deep}"))
    assert (await machine.ended()).exit_code == 0
    await machine.service.send(TaskRecorded("uid", 1))
    await goes_on(machine)
    await until(lambda: {each.name for each in machine.layout.run.iterdir() if each.is_dir()} == {"next-1"})


async def test_folders_that_nobody_knows_are_removed(machine: Machine, tmp_path: Path) -> None:
    layout = machine.layout
    await machine.service.send(run(f"touch {tmp_path}/up; {wait_for(tmp_path / 'go')}"))
    await until((tmp_path / "up").exists)
    await machine.stop_agent()
    for name in ("a b", "x" * 255, "new\nline", "\udcff", "uid-1 x", "-rf", "gone-1/deep"):
        (layout.run / name).mkdir(parents=True)
        (layout.run / name / "file").touch()
    machine.start_agent()
    await machine.hello()
    await until(lambda: {each.name for each in layout.run.iterdir() if each.is_dir()} == {"uid-1"})
    (tmp_path / "go").touch()
    assert (await machine.ended()).exit_code == 0


async def test_lines_that_tasks_write(machine: Machine, tmp_path: Path) -> None:
    """They may claim what they like: an attempt is over when its exit code lies there."""
    layout = machine.layout
    await machine.service.send(run(f"touch {tmp_path}/up; {wait_for(tmp_path / 'go')}; exit 5"))
    await until((tmp_path / "up").exists)
    lines = r"uid-1\nbooted\nunknown-1\n../../agent\n\377\376\n"
    await machine.service.send(
        run(f"printf '{lines}' >{layout.results}; printf 'run uid' >{layout.requests}", uid="liar", name="liar")
    )
    assert (await machine.ended()).uid == "liar"
    (tmp_path / "go").touch()
    end = await machine.ended()
    assert (end.uid, end.exit_code) == ("uid", 5)
    await goes_on(machine)


@pytest.mark.parametrize("mtime", [-(2**40), 2**40])
async def test_a_launch_script_from_another_age(machine: Machine, tmp_path: Path, mtime: int) -> None:
    """A limit of time is no longer for it than the limit, and an agent that starts does not fall over it."""
    await machine.service.send(run(f"touch {tmp_path}/up; sleep 1000", max_wall_clock_time=0.5))
    await until((tmp_path / "up").exists)
    await machine.stop_agent()
    os.utime(machine.layout.run / "uid-1" / "launch", (mtime, mtime))
    machine.start_agent()
    await machine.hello()
    end = await machine.ended()
    assert end.problem is not None
    assert "maxWallClockTime" in end.problem.message


async def test_without_its_fifos_the_node_says_so_until_its_container_starts_again(
    machine: Machine, tmp_path: Path
) -> None:
    layout = machine.layout
    before = layout.deployed.read_bytes()
    await machine.service.send(run(f"ln -sf {layout.deployed} {layout.requests}"))
    assert (await machine.ended()).exit_code == 0
    await machine.service.send(run(f"touch {tmp_path}/ran", uid="two", name="two"))
    problem = (await machine.next(NodeProblem)).problem
    assert problem is not None
    assert "Restart the node" in problem.cause
    assert layout.deployed.read_bytes() == before
    assert (await machine.restart_agent()).problem == problem
    assert (await machine.ended()).uid == "uid"
    machine.supervisor.kill()
    machine.supervisor.start(wait=False)
    end = await machine.ended()
    assert (end.uid, end.lost) == ("two", True)
    assert (await machine.next(NodeProblem)).problem is None
    assert not (tmp_path / "ran").exists()
    await goes_on(machine)
