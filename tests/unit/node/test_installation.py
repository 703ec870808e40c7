"""What the init container does, from an empty volume to a node that can start."""

import asyncio
import errno
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.node import beneath, durability
from packhorse.node import installation as module
from packhorse.node import layout as layout_module
from packhorse.node.eviction import Eviction, InUse
from packhorse.node.install import DiskFullError, InstallError
from packhorse.node.installation import install_pool_packages, tell
from packhorse.node.layout import Layout
from packhorse.node.removals import Removals
from packhorse.node.service import Address, NodeServiceClient, ServiceError
from packhorse.protocol import Detail, Download, Package, PackagesRemoved, PoolPackages, Problem, VisiblePackage
from tests.unit.archive.zips import Item, build
from tests.unit.node.blobs import BlobServer
from tests.unit.node.service import NodeService

CONTENT = build(Item(name="tool.txt", data=b"the tool\n"))
TOOL = Package("Tool", "1", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
WANTED = PoolPackages((VisiblePackage(TOOL, by_default=True),), {"A": "1", "AZ_BATCH_APP_PACKAGE_tool#1": "/somewhere"})


@pytest.fixture
def blob() -> Iterator[BlobServer]:
    with BlobServer(CONTENT) as server:
        yield server


@pytest.fixture
async def service() -> AsyncIterator[NodeService]:
    async with NodeService().serve() as service:
        yield service


@pytest.fixture(name="empty")
def _empty(tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A volume with nothing on it; our own image has a busybox."""
    monkeypatch.setattr(layout_module.Layout.prepare, "__defaults__", (busybox,))
    (tmp_path / "node").mkdir()
    return Layout(tmp_path / "node")


async def install(layout: Layout, service: NodeService) -> None:
    client = NodeServiceClient(service.address(layout.root), service.context)
    try:
        await asyncio.to_thread(install_pool_packages, layout, client)
    finally:
        client.close()


async def test_a_node_from_an_empty_volume(empty: Layout, service: NodeService, blob: BlobServer) -> None:
    service.packages, service.downloads["1"] = WANTED, blob.download()
    (empty.root / ".install" / "left").mkdir(parents=True)
    await install(empty, service)
    assert (empty.root / TOOL.directory / "tool.txt").read_text() == "the tool\n"
    assert msgspec.json.decode(empty.deployed.read_bytes(), type=PoolPackages) == WANTED
    assert "'AZ_BATCH_APP_PACKAGE_tool#1=/somewhere'" in empty.start.read_text()
    durability.wait_until_settled()
    assert list((empty.root / ".install").iterdir()) == []


async def test_another_start_fetches_nothing_that_is_there(
    empty: Layout, service: NodeService, blob: BlobServer
) -> None:
    service.packages, service.downloads["1"] = WANTED, blob.download()
    await install(empty, service)
    service.packages = PoolPackages(WANTED.packages, {"A": "2"})
    await install(empty, service)
    assert len(blob.requests) == 1
    assert "'A=2'" in empty.start.read_text()


async def test_room_is_made_by_what_the_pool_does_not_use(
    empty: Layout, service: NodeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent tells of it, also where the installation failed for all that."""
    old = Eviction("tool:0", PurePosixPath("applications/tool/0"), 7, "room for Tool:1")
    kept: list[object] = []

    def fail(*_: object, in_use: InUse, evicted: Callable[[Eviction], None], **__: object) -> None:
        kept.extend(in_use())
        evicted(old)
        raise DiskFullError(Problem("DiskFull", "full"), 9)

    service.packages = WANTED
    monkeypatch.setattr(module, "install", fail)
    for times in (1, 2):
        with pytest.raises(DiskFullError):
            await install(empty, service)
        assert Removals(empty).waiting == (PackagesRemoved(("tool:0",), 7, "room for Tool:1"),) * times
    assert set(kept) == {TOOL.directory}


async def test_a_package_that_cannot_be_had(empty: Layout, service: NodeService) -> None:
    service.packages = WANTED
    with pytest.raises(InstallError) as caught:
        await install(empty, service)
    details = {detail.name: detail.value for detail in caught.value.problem.details}
    assert caught.value.problem.message == "One or more application packages specified for the pool are invalid"
    assert (details["ApplicationPackageReference"], details["Message"]) == ("Tool:1", "Resource download failed")
    assert not empty.deployed.exists()


async def test_what_the_operator_says_is_passed_on(empty: Layout, service: NodeService) -> None:
    problem = Problem("ApplicationPackageError", "One or more are invalid", (Detail("Cause", "no such version"),))
    service.packages = (409, msgspec.json.encode(problem))
    with pytest.raises(InstallError) as caught:
        await install(empty, service)
    assert caught.value.problem == problem
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("number", "code", "cause"),
    [
        (errno.ENOSPC, "DiskFull", "No space left on device"),
        (errno.EROFS, "ResourceDirectoryCreateFailed", "Read-only file system: requests"),
    ],
)
def test_a_volume_that_cannot_be_used(
    empty: Layout, monkeypatch: pytest.MonkeyPatch, number: int, code: str, cause: str
) -> None:
    """The operator finds why in the pod's status, and not just in a log."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "requests")

    monkeypatch.setattr(beneath, "make_fifo", fail)
    with pytest.raises(InstallError) as caught:
        install_pool_packages(empty, Unreliable(0))  # type: ignore[arg-type]
    assert caught.value.problem.code == code
    assert caught.value.problem.details[-1] == Detail("Cause", cause)


def test_the_number_of_a_descriptor_is_not_told(empty: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same failure is told by the same words each time, so that one event tells of it."""

    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", "/proc/self/fd/17")

    monkeypatch.setattr(beneath, "make_folder", fail)
    with pytest.raises(InstallError) as caught:
        install_pool_packages(empty, Unreliable(0))  # type: ignore[arg-type]
    assert caught.value.problem.details == (Detail("Cause", "Operation not permitted"),)


async def test_a_service_that_does_not_answer_is_told_by_the_same_words_each_time(
    empty: Layout, service: NodeService, pauses: list[float]
) -> None:
    address = service.address(empty.root)
    causes = set()
    for _ in range(2):
        pauses.clear()
        client = NodeServiceClient(Address("localhost:1", address.token), service.context)
        with pytest.raises(InstallError) as caught:
            await asyncio.to_thread(install_pool_packages, empty, client)
        client.close()
        causes.add(caught.value.problem)
    (problem,) = causes
    assert "the node service localhost:1 does not answer" in problem.cause
    assert "0x" not in problem.cause


class Unreliable:
    """A node service that does not answer the first so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    def packages(self) -> PoolPackages:
        self.asked += 1
        if self.asked <= self.failures:
            raise ServiceError("nobody answers")
        return PoolPackages((), {})

    def download(self, package: Package) -> Download:
        raise AssertionError(package)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which pass at once."""
    made: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(made), sleep=made.append)
    monkeypatch.setattr(module, "time", clock)
    return made


def test_a_service_that_does_not_answer_is_asked_again(empty: Layout, pauses: list[float]) -> None:
    service = Unreliable(5)
    install_pool_packages(empty, service)  # type: ignore[arg-type]
    assert service.asked == 6
    assert all(0.9 * earlier < later for earlier, later in itertools.pairwise(pauses))
    assert empty.deployed.exists()


def test_it_gives_up_in_time_and_says_why(empty: Layout, pauses: list[float]) -> None:
    with pytest.raises(InstallError) as caught:
        install_pool_packages(empty, Unreliable(10**6))  # type: ignore[arg-type]
    assert module.SERVICE_DEADLINE < sum(pauses) < module.SERVICE_DEADLINE + 20
    assert caught.value.problem.details[-1] == Detail("Cause", "nobody answers")


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6000)
DETAILS = st.builds(Detail, TEXTS, TEXTS)


@given(st.builds(Problem, st.text(max_size=40), TEXTS, st.lists(DETAILS, max_size=8).map(tuple)))
def test_a_problem_always_fits_where_kubernetes_shows_it(
    tmp_path_factory: pytest.TempPathFactory, problem: Problem
) -> None:
    path = tmp_path_factory.mktemp("dev") / "termination-log"
    tell(problem, path)
    assert path.stat().st_size <= 4096
    found = msgspec.json.decode(path.read_bytes(), type=Problem)
    assert (found.code, found.category) == (problem.code, problem.category)
    assert problem.message.startswith(found.message)


@pytest.mark.parametrize("letter", ["x", "ä", "\N{OLD PERSIAN SIGN A}", "\x01", '"'])
def test_a_long_problem_keeps_the_beginning_of_everything(tmp_path: Path, letter: str) -> None:
    names = ("ApplicationPackageReference", "Message", "Cause")
    tell(Problem("Code", letter * 9000, tuple(Detail(name, letter * 9000) for name in names)), tmp_path / "log")
    assert (tmp_path / "log").stat().st_size <= 4096
    found = msgspec.json.decode((tmp_path / "log").read_bytes(), type=Problem)
    assert [detail.name for detail in found.details] == list(names)
    for text in (found.message, *(detail.value for detail in found.details)):
        assert len(text) >= 50


def test_a_short_problem_is_told_whole(tmp_path: Path) -> None:
    problem = Problem("Code", "message", (Detail("a", "b"),), "UserError")
    tell(problem, tmp_path / "log")
    assert msgspec.json.decode((tmp_path / "log").read_bytes(), type=Problem) == problem
