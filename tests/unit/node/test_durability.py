"""What is left of packages when the machine goes down before the disk has all of them."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from packhorse.archive import Limits
from packhorse.node import durability
from packhorse.node.install import install, sweep
from packhorse.protocol import Package
from tests.unit.archive.zips import Item, build
from tests.unit.node.blobs import BlobServer

CONTENT = build(Item(name="tool", data=b"#!/bin/sh\n"))
PACKAGE = Package("Tool", "1.0-rc.1", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture(autouse=True)
def boot_id(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("proc") / "boot_id"
    path.write_text("first\n")
    monkeypatch.setattr(durability, "BOOT_ID", path)
    return path


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with BlobServer(CONTENT) as server:
        yield server


@pytest.fixture
def unsynced(server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that was published, and whose process was killed before the disk had all of it."""
    with monkeypatch.context() as patch:
        patch.setattr(durability, "settle", lambda *_: None)
        return put(server, tmp_path)


def put(server: BlobServer, root: Path) -> Path:
    deadline = time.monotonic() + 60
    return install(PACKAGE, root, lambda _: server.download(), limits=Limits(), deadline=deadline)


def marks(root: Path) -> list[str]:
    return [path.read_text() for path in (root / ".install").glob(f"*{durability.SUFFIX}")]


def test_a_mark_is_there_until_the_disk_has_all(
    server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = durability.sync_volume

    def look(path: Path) -> None:
        seen.append(marks(tmp_path))
        real(path)

    monkeypatch.setattr(durability, "sync_volume", look)
    put(server, tmp_path)
    durability.wait_until_settled()
    assert seen == [["first\n"]]
    assert marks(tmp_path) == []


def test_the_mark_is_on_the_disk_before_the_package_is_published(
    server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        assert not list(tmp_path.glob("applications/*/*/*"))
        synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    put(server, tmp_path)
    mark, *folders = synced
    assert mark.endswith(".unsynced")
    assert folders == [".install", tmp_path.name]


@pytest.mark.usefixtures("unsynced")
def test_after_a_crash_of_the_machine_the_package_is_fetched_again(
    server: BlobServer, tmp_path: Path, boot_id: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boot_id.write_text("second\n")
    sweep(tmp_path)
    assert list(tmp_path.glob("applications/*/*/*")) == []
    assert marks(tmp_path) == []
    assert "The machine went down" in caplog.text
    server.requests.clear()
    assert (put(server, tmp_path) / "tool").exists()
    assert server.requests


def test_while_the_machine_runs_the_package_is_good(unsynced: Path, tmp_path: Path) -> None:
    sweep(tmp_path)
    assert (unsynced / "tool").read_bytes() == b"#!/bin/sh\n"
    assert marks(tmp_path) == []


@pytest.mark.usefixtures("unsynced")
def test_what_the_disk_did_not_take_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of a failed write once, so that the next look would find all well."""

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    key = next((tmp_path / ".install").iterdir()).name.removesuffix(".unsynced")
    with monkeypatch.context() as patch:
        patch.setattr(durability, "sync_volume", fail)
        durability.settle(tmp_path / ".install", key)
        durability.wait_until_settled()
    assert marks(tmp_path) == ["failed"]
    sweep(tmp_path)
    assert list(tmp_path.glob("applications/*/*/*")) == []


def test_a_mark_without_a_package(server: BlobServer, tmp_path: Path, boot_id: Path) -> None:
    """The machine went down before anything was published."""
    (tmp_path / ".install").mkdir()
    (tmp_path / ".install" / "tool.1.0.abc.unsynced").write_text("zeroth\n")
    sweep(tmp_path)
    assert marks(tmp_path) == []
    assert put(server, tmp_path).is_dir()
    assert boot_id.exists()
