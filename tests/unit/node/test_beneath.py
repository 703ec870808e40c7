"""What tasks may put in the way of the agent's files, and what the agent makes of it."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packhorse.node import beneath
from packhorse.node.beneath import NotExpectedError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder that tasks can write to; beside it lies what is not theirs."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("token")
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


@pytest.fixture
def parent(base: Path) -> Iterator[int]:
    with beneath.folder(base) as descriptor:
        yield descriptor


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret" / "file")


def link_to_folder(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret" / "new")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make devices")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero has no end


def local_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def regular(path: Path) -> None:
    path.write_text("theirs")


def folder(path: Path) -> None:
    path.mkdir()


def full_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


def untouched(base: Path) -> bool:
    secret = base.parent / "secret"
    return mode(secret) == 0o700 and {each.name: each.read_text() for each in secret.iterdir()} == {"file": "token"}


Plant = Callable[[Path], None]
NO_FILES = [link, link_to_folder, dangling, fifo, device, local_socket, folder]
plants = pytest.mark.parametrize("plant", [*NO_FILES, regular, full_folder])


@pytest.mark.parametrize("plant", NO_FILES)
def test_only_regular_files_are_read(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "file")
    with pytest.raises(NotExpectedError, match="a task put something else"):
        beneath.read_end(parent, "file", 100)
    with pytest.raises(NotExpectedError):
        beneath.modified(parent, "file")


@pytest.mark.parametrize(("limit", "wanted"), [(3, b"789"), (9, b"123456789"), (100, b"123456789")])
def test_the_end_of_a_file(base: Path, parent: int, limit: int, wanted: bytes) -> None:
    (base / "file").write_text("123456789")
    assert beneath.read_end(parent, "file", limit) == (wanted, 9)
    assert beneath.modified(parent, "file") == (base / "file").stat().st_mtime_ns


def test_a_file_that_is_not_there(parent: int) -> None:
    with pytest.raises(FileNotFoundError):
        beneath.read_end(parent, "file", 1)
    with pytest.raises(FileNotFoundError):
        beneath.read_link(parent, "file")
    beneath.remove(parent, "file")


@pytest.mark.parametrize("plant", [fifo, device, local_socket, folder, regular])
def test_only_links_are_read_as_links(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "exit")
    with pytest.raises(NotExpectedError):
        beneath.read_link(parent, "exit")


def test_a_link_is_read_and_not_followed(base: Path, parent: int) -> None:
    link(base / "exit")
    assert beneath.read_link(parent, "exit") == str(base.parent / "secret" / "file")


@pytest.mark.parametrize("plant", [link, link_to_folder, dangling, fifo, regular])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_way_leads_through_real_folders_alone(base: Path, plant: Plant, depth: int) -> None:
    names = ("a", "b", "c")
    base.joinpath(*names[:depth]).mkdir(parents=True, exist_ok=True)
    if plant is link_to_folder:
        base.joinpath(*names[: depth + 1]).symlink_to(base.parent / "secret")
    else:
        plant(base.joinpath(*names[: depth + 1]))
    with pytest.raises(NotExpectedError), beneath.folder(base, *names):
        raise AssertionError


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/"])
def test_a_name_is_one_folder_and_no_way(base: Path, name: str) -> None:
    (base / "a" / "b").mkdir(parents=True)
    with pytest.raises(NotExpectedError), beneath.folder(base, name):
        raise AssertionError


def test_no_descriptor_is_left_open(base: Path) -> None:
    (base / "a").mkdir()
    link_to_folder(base / "link")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for names in (("a",), ("a", "none"), ("link",)):
        try:
            with beneath.folder(base, *names) as descriptor:
                beneath.read_end(descriptor, "nothing", 1)
        except OSError:
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("plant", [link, link_to_folder, dangling, fifo, device, local_socket, regular])
def test_a_folder_is_made_where_something_else_lies(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "wd")
    beneath.make_folder(parent, "wd", 0o2775)
    assert stat.S_ISDIR((base / "wd").lstat().st_mode)
    assert mode(base / "wd") == 0o2775
    assert untouched(base)


def test_a_folder_that_is_there_keeps_what_it_holds(base: Path, parent: int) -> None:
    (base / "wd" / "inner").mkdir(parents=True)
    beneath.make_folder(parent, "wd", 0o2775)
    assert (base / "wd" / "inner").is_dir()
    assert mode(base / "wd") == 0o2775


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_a_folder_that_a_task_made_stays_as_it_is(base: Path, parent: int) -> None:
    """Nobody but its owner can change its mode, and a node must not stumble over that."""
    (base / "wd").mkdir(mode=0o700)
    os.chown(base / "wd", 10002, 10001)
    beneath.make_folder(parent, "wd", 0o2775)
    assert mode(base / "wd") == 0o700


@plants
def test_a_fifo_is_made_where_something_else_lies(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "requests")
    beneath.make_fifo(parent, "requests", 0o660)
    assert stat.S_ISFIFO((base / "requests").lstat().st_mode)
    assert mode(base / "requests") == 0o660
    assert untouched(base)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_a_fifo_that_a_task_made_is_replaced(base: Path, parent: int) -> None:
    os.mkfifo(base / "requests")
    os.chown(base / "requests", 10002, 10001)
    beneath.make_fifo(parent, "requests", 0o660)
    assert (base / "requests").stat().st_uid == os.geteuid()


def test_a_fifo_of_ours_stays(base: Path, parent: int) -> None:
    beneath.make_fifo(parent, "requests", 0o660)
    descriptor = beneath.open_fifo(parent, "requests")
    try:
        beneath.make_fifo(parent, "requests", 0o660)
        assert beneath.is_there(parent, "requests", descriptor)
        (base / "requests").unlink()
        assert not beneath.is_there(parent, "requests", descriptor)
        link(base / "requests")
        assert not beneath.is_there(parent, "requests", descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("plant", [link, link_to_folder, dangling, device, local_socket, regular, folder])
def test_only_fifos_are_opened_as_fifos(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "requests")
    with pytest.raises(NotExpectedError):
        beneath.open_fifo(parent, "requests")
    assert untouched(base)


@pytest.mark.parametrize("plant", [link, dangling, fifo, device, local_socket, regular])
@pytest.mark.parametrize("name", ["launch", "launch.new"])
def test_a_file_is_written_in_place_of_whatever_lies_there(base: Path, parent: int, plant: Plant, name: str) -> None:
    plant(base / name)
    beneath.write(parent, "launch", b"ours", 0o640)
    assert stat.S_ISREG((base / "launch").lstat().st_mode)
    assert (base / "launch").read_bytes() == b"ours"
    assert mode(base / "launch") == 0o640
    assert [each.name for each in base.iterdir()] == ["launch"]
    assert untouched(base)


@pytest.mark.parametrize("name", ["launch", "launch.new"])
def test_a_file_that_a_folder_is_in_the_way_of(base: Path, parent: int, name: str) -> None:
    full_folder(base / name)
    with pytest.raises(OSError, match="directory"):
        beneath.write(parent, "launch", b"ours", 0o640)


@plants
def test_whatever_lies_there_is_gone_by_that_name(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "booted")
    aside = beneath.remove(parent, "booted")
    assert not os.path.lexists(base / "booted")
    assert [each.name for each in base.iterdir()] == ([aside] if aside else [])
    assert (aside is not None) == (plant is full_folder)
    assert aside is None or aside.startswith(beneath.ASIDE)
    assert untouched(base)


def test_a_folder_of_any_depth_is_put_aside(base: Path, parent: int) -> None:
    """Deeper than any program's stack, and than names can be long; nothing walks through it."""
    deep = os.open(base, os.O_PATH)
    for _ in range(3000):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_PATH, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    aside = beneath.remove_folder(parent, "d", ("launch",))
    assert aside is not None
    (base / aside).rename(base / "d")
    _flatten(base)


def _flatten(base: Path) -> None:
    """Remove the chain of folders, which pytest could not."""
    while (base / "d" / "d").exists():
        (base / "d" / "d").rename(base / "e")
        (base / "d").rmdir()
        (base / "e").rename(base / "d")


def test_a_folder_with_our_files_alone_is_removed(base: Path, parent: int) -> None:
    (base / "key").mkdir()
    (base / "key" / "launch").touch()
    link_to_folder(base / "key" / "exit")
    assert beneath.remove_folder(parent, "key", ("launch", "exit", "started")) is None
    assert list(base.iterdir()) == []
    assert untouched(base)


@plants
def test_what_a_task_put_into_a_folder_is_put_aside_with_it(base: Path, parent: int, plant: Plant) -> None:
    (base / "key").mkdir()
    plant(base / "key" / "theirs")
    aside = beneath.remove_folder(parent, "key", ("launch",))
    assert aside is not None
    assert os.path.lexists(base / aside / "theirs")


@pytest.mark.parametrize("plant", [link, link_to_folder, dangling, fifo, device, regular])
def test_in_place_of_a_folder(base: Path, parent: int, plant: Plant) -> None:
    plant(base / "key")
    assert beneath.remove_folder(parent, "key", ("file",)) is None
    assert not os.path.lexists(base / "key")
    assert untouched(base)
