"""A node whose disk is full: it says so, gives its tasks back, and goes on when there is room again."""

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import msgspec
import pytest

from packhorse.node import agent as module
from packhorse.node import health, start_task
from packhorse.node.attempts import AttemptFiles
from packhorse.node.eviction import Eviction, InUse
from packhorse.node.install import DiskFullError
from packhorse.node.layout import Layout
from packhorse.protocol import (
    EndTask,
    Hello,
    NodeProblem,
    Package,
    PackagesRemoved,
    Problem,
    StartTask,
    StartTaskChanged,
    TaskEnded,
    TaskRecorded,
)
from tests.unit.archive.zips import Item, build
from tests.unit.node.blobs import BlobServer
from tests.unit.node.machine import DEPLOYED, Machine, machine_of, run, until, wait_for
from tests.unit.node.supervised import Supervisor
from tests.unit.objects import digest

TOOL = Package("tool", "1", digest(), 7)
FULL = Problem("DiskFull", "There is not enough disk space on the node")


class Disk:
    """How much room there seems to be for packages, and for the agent's own files."""

    def __init__(self) -> None:
        self.needed = 0
        self.errno = 0
        self.evictions: list[Eviction] = []
        self.in_use: set[PurePosixPath] = set()

    def install(  # the signature of what it stands for
        self, package: Package, *_: object, in_use: InUse, evicted: Callable[[Eviction], None], **__: object
    ) -> None:
        """In place of the installation of a package."""
        self.in_use = set(in_use())
        for gone in self.evictions:
            evicted(gone)
        if self.needed:
            raise DiskFullError(FULL, self.needed)
        assert package == TOOL

    def check(self) -> None:
        if self.errno:
            raise OSError(self.errno, os.strerror(self.errno))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(module, "install", disk.install)
    monkeypatch.setattr(health, "INTERVAL", 0.005)
    monkeypatch.setattr(start_task, "FIRST_PAUSE", 0.001)
    make_launch = AttemptFiles.make_launch

    def checked(self: AttemptFiles, key: str, script: str) -> None:
        disk.check()
        make_launch(self, key, script)

    monkeypatch.setattr(AttemptFiles, "make_launch", checked)
    return disk


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether there is room; looked at often."""
    has = [False]
    monkeypatch.setattr(health.Health, "_look", lambda *_: has[0])
    return has


async def test_a_package_that_finds_no_room_here_is_installed_elsewhere(
    machine: Machine, disk: Disk, room: list[bool]
) -> None:
    disk.needed = 4096
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    assert (await machine.next(NodeProblem)).problem == FULL, "first the problem, so that it does not come back at once"
    end = await machine.ended()
    assert (end.lost, end.problem, end.exit_code) == (True, None, None)
    await machine.service.hang_up()
    assert (await machine.hello()).problem == FULL
    assert await machine.ended() == end
    room[0] = True
    assert (await machine.next(NodeProblem)).problem is None
    disk.needed = 0
    await machine.service.send(TaskRecorded("uid", 1))
    await machine.service.send(run("exit 0", attempt=2))
    assert (await machine.ended()).exit_code == 0
    await machine.service.hang_up()
    assert (await machine.hello()).problem is None


@pytest.mark.parametrize("needed", [0, 4096])
async def test_what_went_for_a_package_is_told(machine: Machine, disk: Disk, room: list[bool], needed: int) -> None:
    """Whether it was enough or not. What the pool and the tasks here use stays."""
    disk.needed = needed
    disk.evictions = [
        Eviction(f"old:{version}", PurePosixPath("applications/old", version), 5, "room for tool:1")
        for version in ("1", "2")
    ]
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    assert await machine.next(PackagesRemoved) == PackagesRemoved(("old:1", "old:2"), 10, "room for tool:1")
    if needed:
        await machine.next(NodeProblem)
    else:
        await machine.started()
    assert (await machine.ended()).lost == bool(needed)
    assert disk.in_use == {TOOL.directory, *(item.package.directory for item in DEPLOYED.packages)}
    room[0] = True
    if needed:
        await machine.next(NodeProblem)
    await machine.service.send(TaskRecorded("uid", 1))
    disk.evictions, disk.needed = [], 0
    await machine.restart_agent()


async def test_packages_are_marked_when_a_task_uses_them(machine: Machine, disk: Disk) -> None:
    assert disk.needed == 0
    content = machine.layout.root / DEPLOYED.packages[0].package.directory
    content.mkdir(parents=True)
    os.utime(content, (0, 0))
    await machine.service.send(run("exit 0"))
    await machine.ended()
    assert content.stat().st_mtime > 0


async def test_a_package_that_no_node_of_the_pool_has_room_for_fails_its_task(machine: Machine, disk: Disk) -> None:
    disk.needed = 1 << 60
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    end = await machine.ended()
    assert (end.lost, end.problem) == (False, FULL)


async def test_ended_while_there_was_no_room(machine: Machine, disk: Disk, room: list[bool]) -> None:
    disk.needed = 4096
    await machine.service.send(run("exit 0", packages=(TOOL,)))
    await machine.next(NodeProblem)
    end = await machine.ended()
    await machine.service.send(EndTask("uid", 1))
    await machine.service.hang_up()
    await machine.hello()
    assert await machine.ended() == end
    room[0] = True
    await machine.next(NodeProblem)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_no_room_for_the_launch_script(machine: Machine, disk: Disk, room: list[bool], number: int) -> None:
    disk.errno = number
    await machine.service.send(run("exit 0"))
    problem = (await machine.next(NodeProblem)).problem
    assert problem is not None
    assert problem.code == "DiskFull"
    assert (await machine.ended()).lost
    disk.errno = 0
    room[0] = True
    assert (await machine.next(NodeProblem)).problem is None


async def test_another_error_fails_the_task(machine: Machine, disk: Disk) -> None:
    disk.errno = errno.EIO
    await machine.service.send(run("exit 0"))
    end = await machine.ended()
    assert end.problem is not None
    assert (end.lost, end.problem.code) == (False, "ResourceDirectoryCreateFailed")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_start_task_that_finds_no_room(
    layout: Layout, supervisor: Supervisor, disk: Disk, room: list[bool], number: int
) -> None:
    """It waits for room; with another error it has failed."""
    disk.errno = number
    supervisor.start()
    deployed = msgspec.structs.replace(DEPLOYED, start_task=StartTask("exit 0", {}))
    async with machine_of(layout, supervisor, deployed) as machine:
        hello = await machine.next(Hello)
        assert hello.start_task is not None
        if number == errno.EIO:
            assert hello.start_task.problem is not None
            assert hello.start_task.problem.code == "ResourceDirectoryCreateFailed"
            assert hello.start_task.state == "completed"
            return
        assert hello.problem is not None
        assert hello.start_task.state == "running"
        disk.errno = 0
        states = [(await machine.next(StartTaskChanged)).start_task for _ in range(2)]
        assert [state.state for state in states] == ["running", "completed"]
        assert states[-1].exit_code == 0
        room[0] = True
        assert (await machine.next(NodeProblem)).problem is None


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    mount = shutil.which("mount")
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a file system")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], check=False, capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def fill(path: Path) -> None:
    """Leave no block free."""
    with (path / "shared" / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert os.statvfs(path).f_bavail == 0


async def test_a_disk_that_is_really_full(
    small: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tasks that run end with their exit codes, others are given back; with room the node goes on by itself."""
    monkeypatch.setattr(health, "INTERVAL", 0.005)
    layout = Layout(small)
    layout.prepare(busybox)
    supervisor = Supervisor(layout)
    try:
        supervisor.start()
        async with machine_of(layout, supervisor) as machine:
            await machine.hello()
            wait = f"touch {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit 7"
            await machine.service.send(run(wait))
            await until((tmp_path / "up").exists)
            fill(small)
            (tmp_path / "go").touch()
            assert (await machine.ended()).exit_code == 7
            await machine.service.send(run("exit 0", uid="two", name="two"))
            assert (await machine.next(NodeProblem)).problem is not None
            end = await machine.next(TaskEnded)
            assert (end.uid, end.lost) == ("two", True)
            supervisor.kill()
            layout.booted.unlink()
            supervisor.start(wait=False)
            await until(layout.booted.exists)
            (small / "shared" / "filler").unlink()
            assert (await machine.next(NodeProblem)).problem is None
            await machine.service.send(TaskRecorded("two", 1))
            await machine.service.send(run("exit 3", uid="two", name="two", attempt=2))
            assert (await machine.ended()).exit_code == 3
    finally:
        supervisor.close()


async def test_room_is_made_for_packages_once_no_task_uses_others(
    small: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is room for one of the two. While a task uses it the node is full; when that has ended the other fits."""
    monkeypatch.setattr(health, "INTERVAL", 0.005)
    layout = Layout(small)
    layout.prepare(busybox)
    supervisor = Supervisor(layout)
    contents = {version: build(Item(name="data", data=os.urandom(5 << 20))) for version in ("1", "2")}
    one, two = (
        Package("tool", version, hashlib.sha256(content).hexdigest(), len(content))
        for version, content in contents.items()
    )
    try:
        supervisor.start()
        with BlobServer(contents["1"]) as first, BlobServer(contents["2"]) as second:
            async with machine_of(layout, supervisor) as machine:
                machine.service.downloads = {"1": first.download(), "2": second.download()}
                await machine.hello()
                await machine.service.send(run(wait_for(tmp_path / "go"), packages=(one,)))
                await machine.started()
                await machine.service.send(run("exit 0", uid="two", name="two", packages=(two,)))
                assert (await machine.next(NodeProblem)).problem is not None
                assert (await machine.ended()).lost
                await machine.service.send(TaskRecorded("two", 1))
                (tmp_path / "go").touch()
                assert (await machine.ended()).exit_code == 0
                assert (layout.root / one.directory).exists()
                await machine.service.send(TaskRecorded("uid", 1))
                removed = await machine.next(PackagesRemoved)
                assert removed.references == ("tool:1",)
                assert removed.freed >= 5 << 20
                assert (await machine.next(NodeProblem)).problem is None
                await machine.service.send(run("exit 0", uid="two", name="two", attempt=2, packages=(two,)))
                await machine.started()
                assert (await machine.ended()).exit_code == 0
                await machine.service.send(TaskRecorded("two", 2))
                await machine.service.send(run("exit 0", attempt=2, packages=(one,)))
                assert (await machine.next(PackagesRemoved)).references == ("tool:2",)
                await machine.started()
                assert (await machine.ended()).exit_code == 0
    finally:
        supervisor.close()
