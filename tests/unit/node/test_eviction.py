"""Room on a node: what goes, in which order, and what never does."""

import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest

from packhorse.archive import Limits
from packhorse.node import durability
from packhorse.node.eviction import Eviction, Room, evict, mark_used, unused
from packhorse.node.install import DiskFullError, InstallError, install, sweep
from packhorse.protocol import Package
from tests.unit.archive.zips import STORED, Item, build
from tests.unit.node.blobs import BlobServer

SIZE = 100_000
CONTENT = build(Item(name="data", data=os.urandom(SIZE), method=STORED))
BLOCKS = 10_000
"""Of 4 KiB, on the volume that the tests pretend to have."""


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with BlobServer(CONTENT) as server:
        yield server


def package(version: str, content: bytes = CONTENT) -> Package:
    return Package("Tool", version, hashlib.sha256(content).hexdigest(), len(content))


class Node:
    """A node with packages that were used one after the other."""

    def __init__(self, root: Path, server: BlobServer) -> None:
        self.root = root
        self.server = server
        self.used: set[PurePosixPath] = set()
        self.gone: list[Eviction] = []

    def install(self, version: str, in_use: Callable[[], Collection[PurePosixPath]] | None = None) -> Path:
        target = install(
            package(version, self.server.content),
            self.root,
            lambda _: self.server.download(),
            limits=Limits(),
            deadline=time.monotonic() + 60,
            in_use=in_use or (lambda: self.used),
            evicted=self.gone.append,
        )
        durability.wait_until_settled()
        return target

    def keep(self, version: str, used: float) -> Path:
        """Have a package on the node that was last used at a time."""
        target = self.install(version)
        os.utime(target, (used, used))
        return target

    @property
    def versions(self) -> set[str]:
        return {folder.parent.name for folder in self.root.glob("applications/tool/*/*")}


@pytest.fixture
def node(server: BlobServer, tmp_path: Path) -> Node:
    return Node(tmp_path, server)


@pytest.fixture
def disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretends that the volume has room for so many packages of this size, in all."""

    def resize(packages: int) -> None:
        def volume(_: object) -> os.statvfs_result:
            taken = sum(path.stat().st_size for path in node.root.rglob("*") if path.is_file())
            # A package needs room for its ZIP file besides its files.
            free = max(0, (packages * (SIZE + 4096) + SIZE // 2 + 8192 - taken) // 4096)
            return os.statvfs_result((4096, 4096, BLOCKS, free, free, BLOCKS, 1000, 1000, 0, 255))

        monkeypatch.setattr(os, "statvfs", volume)

    return resize


def test_what_was_used_least_recently_goes_first(node: Node, disk: Callable[[int], None]) -> None:
    for version, used in (("1", 300.0), ("2", 100.0), ("3", 200.0)):
        node.keep(version, used)
    disk(4)
    node.install("4")
    assert node.versions == {"1", "3", "4"}
    (gone,) = node.gone
    assert gone.reference == "tool:2"
    assert gone.directory == package("2").directory
    assert gone.freed >= SIZE
    assert gone.reason == "room for Tool:4"
    assert list((node.root / ".install").iterdir()) == []


def test_nothing_goes_where_there_is_room(node: Node) -> None:
    for version in ("1", "2", "3"):
        node.keep(version, 100.0)
    assert node.versions == {"1", "2", "3"}
    assert node.gone == []


def test_what_is_in_use_stays(node: Node, disk: Callable[[int], None]) -> None:
    for version, used in (("1", 100.0), ("2", 200.0)):
        node.keep(version, used)
    node.used = {package("1").directory}
    disk(3)
    node.install("3")
    assert node.versions == {"1", "3"}


def test_nothing_goes_if_all_of_it_would_not_do(node: Node, disk: Callable[[int], None]) -> None:
    for version, used in (("1", 100.0), ("2", 200.0)):
        node.keep(version, used)
    node.used = {package("1").directory}
    disk(2)
    node.server.content = build(Item(name="large", data=os.urandom(4 * SIZE), method=STORED))
    with pytest.raises(DiskFullError, match=r"\d+ bytes are needed, \d+ are free, \d+ are taken by packages") as caught:
        node.install("3")
    assert caught.value.needed >= 4 * SIZE
    assert node.versions == {"1", "2"}
    assert node.gone == []


def test_without_knowing_what_is_in_use_nothing_goes(
    node: Node, server: BlobServer, disk: Callable[[int], None]
) -> None:
    node.keep("1", 100.0)
    disk(1)
    with pytest.raises(DiskFullError):
        install(
            package("2"),
            node.root,
            lambda _: server.download(),
            limits=Limits(),
            deadline=time.monotonic() + 60,
        )
    assert node.versions == {"1"}


def test_finding_a_package_is_using_it(node: Node, disk: Callable[[int], None]) -> None:
    for version, used in (("1", 100.0), ("2", 200.0)):
        node.keep(version, used)
    node.install("1")
    disk(3)
    node.install("3")
    assert node.versions == {"1", "3"}


def test_marking(node: Node) -> None:
    target = node.keep("1", 100.0)
    assert mark_used(node.root, package("1"))
    assert target.stat().st_mtime > 100.0
    assert not mark_used(node.root, package("2"))


def test_a_disk_that_fills_up_meanwhile(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else took the room that was there: what is not used goes, one by one, and it is tried again."""
    for version, used in (("1", 100.0), ("2", 200.0), ("3", 300.0)):
        node.keep(version, used)
    real = os.pwrite

    def full(*arguments: object) -> int:
        if len(node.gone) < 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwrite", full)
    node.install("4")
    assert node.versions == {"3", "4"}
    assert [gone.reference for gone in node.gone] == ["tool:1", "tool:2"]


def test_a_disk_that_stays_full(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.keep("1", 100.0)

    def full(*_: object) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFullError) as caught:
        node.install("2")
    assert caught.value.needed == len(CONTENT) + 2048
    assert node.versions == set()


def test_too_few_files_left(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.keep("1", 100.0)

    def volume(_: object) -> os.statvfs_result:
        files = 0 if node.versions == {"1"} else 10
        return os.statvfs_result((4096, 4096, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 1000, files, 0, 255))

    monkeypatch.setattr(os, "statvfs", volume)
    node.install("2")
    assert node.versions == {"2"}


def test_what_comes_into_use_at_the_last_moment_stays(node: Node) -> None:
    node.keep("1", 100.0)
    answers = iter([set(), {package("1").directory}])

    def in_use() -> Collection[PurePosixPath]:
        return next(answers)

    (content,) = unused(node.root, in_use)
    assert evict(node.root, node.root / ".install", content, in_use, "a test") is None
    assert node.versions == {"1"}


def test_using_waits_for_a_removal_that_has_begun(node: Node) -> None:
    """Between the look at what is in use and the removal nobody else can find the package there."""
    node.keep("1", 100.0)
    (content,) = unused(node.root, set)
    looking, go_on = threading.Event(), threading.Event()

    def in_use() -> Collection[PurePosixPath]:
        looking.set()
        assert go_on.wait(60)
        return set()

    with ThreadPoolExecutor(2) as pool:
        removal = pool.submit(evict, node.root, node.root / ".install", content, in_use, "a test")
        assert looking.wait(60)
        with pytest.raises(BlockingIOError):
            _try_to_use(node.root / content.directory)
        use = pool.submit(mark_used, node.root, package("1"))
        go_on.set()
        assert removal.result() is not None
        assert use.result() is False


def _try_to_use(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_a_removal_that_was_interrupted_is_swept(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.keep("1", 100.0)
    (content,) = unused(node.root, set)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("packhorse.node.eviction.shutil.rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            evict(node.root, node.root / ".install", content, set, "a test")
    assert node.versions == set(), "it is gone from where it was at once"
    assert list((node.root / ".install").iterdir()) != []
    sweep(node.root)
    assert list((node.root / ".install").iterdir()) == []


def test_only_packages_are_candidates(node: Node) -> None:
    node.keep("1", 100.0)
    applications = node.root / "applications"
    (applications / "tool/1/notes").mkdir()
    (applications / "tool/2").mkdir()
    (applications / "tool/2" / ("0" * 64)).symlink_to(node.root)
    (applications / "tool/2" / ("1" * 64)).write_text("a file")
    assert [content.directory for content in unused(node.root, set)] == [package("1").directory]


def test_room() -> None:
    assert Room(2, 2).covers(Room(2, 1))
    assert not Room(2, 2).covers(Room(3, 1))
    assert not Room(2, 2).covers(Room(1, 3))
    assert Room(1, 2) + Room(3, 4) == Room(4, 6)


def test_a_failure_tells_no_size_but_that_of_the_package(node: Node, server: BlobServer) -> None:
    server.content = b"no package"
    with pytest.raises(InstallError) as caught:
        node.install("1")
    assert not isinstance(caught.value, DiskFullError)
