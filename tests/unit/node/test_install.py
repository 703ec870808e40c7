"""Installing packages: what is there afterwards, whatever happened in between."""

import errno
import hashlib
import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path

import msgspec
import pytest

from packhorse.archive import Limits, Summary
from packhorse.domain.azure import INVALID_FOR_POOL, INVALID_FOR_TASK
from packhorse.node import download, durability
from packhorse.node import install as module
from packhorse.node.download import BlobNotFoundError, DownloadError
from packhorse.node.install import DiskFullError, InstallError, install, sweep
from packhorse.protocol import Detail, Download, DownloadLimits, Package
from tests.unit.archive.zips import REGULAR, STORED, Item, build
from tests.unit.node.blobs import BlobServer, Fault

FILES = {"bin/tool": b"#!/bin/sh\nexit 0\n", "share/noise": os.urandom(200_000), "share/text": b"text " * 20_000}
CONTENT = build(*(Item(name=name, data=data, mode=REGULAR | 0o744) for name, data in FILES.items()))


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with BlobServer(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(download, "LONGEST_PAUSE", 0.002)


def package_of(server: BlobServer, application_id: str = "Blender", version: str = "2.7-RC1") -> Package:
    return Package(application_id, version, hashlib.sha256(server.content).hexdigest(), len(server.content))


def install_from(
    server: BlobServer,
    root: Path,
    *,
    seconds: float = 60,
    limits: Limits | None = None,
    message: str = INVALID_FOR_POOL,
) -> Path:
    target = install(
        package_of(server),
        root,
        lambda _: server.download(),
        limits=limits or Limits(),
        deadline=time.monotonic() + seconds,
        message=message,
    )
    durability.wait_until_settled()
    return target


def nothing_is_left(root: Path) -> bool:
    """Tell whether there is nothing besides the empty folder for work."""
    return [path for path in root.rglob("*") if path.name != ".install"] == []


def test_a_package_is_installed(server: BlobServer, tmp_path: Path) -> None:
    target = install_from(server, tmp_path)
    assert target == tmp_path / "applications/blender/2.7-rc1" / hashlib.sha256(CONTENT).hexdigest()
    contents = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert contents == FILES
    assert os.access(target / "bin/tool", os.X_OK)
    assert list((tmp_path / ".install").iterdir()) == []
    folders = [target, *target.relative_to(tmp_path).parents]
    assert {stat.S_IMODE((tmp_path / folder).stat().st_mode) for folder in folders[:-1]} == {0o755}


def test_what_is_there_is_not_fetched_again(server: BlobServer, tmp_path: Path) -> None:
    install_from(server, tmp_path)
    server.requests.clear()
    server.faults = [Fault(404)]
    assert install_from(server, tmp_path).is_dir()
    assert server.requests == []


def test_an_updated_package_lies_beside_the_old_one(server: BlobServer, tmp_path: Path) -> None:
    old = install_from(server, tmp_path)
    server.content = build(Item(name="new"))
    new = install_from(server, tmp_path)
    assert [path.name for path in new.iterdir()] == ["new"]
    assert (old / "bin/tool").exists()


def test_many_threads_install_once(server: BlobServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        targets = set(pool.map(lambda _: install_from(server, tmp_path), range(8)))
    assert len(targets) == 1
    assert len(server.requests) == 1
    assert list((tmp_path / ".install").iterdir()) == []


def test_other_packages_do_not_wait(server: BlobServer, tmp_path: Path) -> None:
    """One package waits for its blob while another one is installed."""
    asked, go_on = threading.Event(), threading.Event()

    def wait(_: Package) -> Download:
        asked.set()
        assert go_on.wait(60)
        return server.download()

    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(install, package_of(server, "slow"), tmp_path, wait, limits=Limits(), deadline=deadline)
        assert asked.wait(60)
        assert install_from(server, tmp_path).is_dir()
        assert not slow.done()
        go_on.set()
        assert slow.result().is_dir()


def test_waiting_for_another_installation_has_an_end(server: BlobServer, tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def wait(_: Package) -> Download:
        asked.set()
        assert go_on.wait(60)
        return server.download()

    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(install, package_of(server), tmp_path, wait, limits=Limits(), deadline=deadline)
        assert asked.wait(60)
        with pytest.raises(InstallError, match="another installation of the same package has not ended"):
            install_from(server, tmp_path, seconds=0.1)
        go_on.set()
        assert slow.result().is_dir()


def _install_and_hang(package: Package, root: Path, leave: Download, step: str, hanging: Event) -> None:
    """Start an installation in a process of its own and stand still in the middle of it."""

    def hang(*_: object, **__: object) -> None:
        hanging.set()
        threading.Event().wait()

    setattr(module, step, hang)
    install(package, root, lambda _: leave, limits=Limits(), deadline=time.monotonic() + 60)


@pytest.mark.parametrize("step", ["fetching", "unpack", "_publish"])
@pytest.mark.parametrize("swept", [True, False], ids=["swept", "not swept"])
def test_a_killed_installation(server: BlobServer, tmp_path: Path, step: str, *, swept: bool) -> None:
    """Killed at any step, it holds nobody up and leaves nothing for good."""
    processes = multiprocessing.get_context("spawn")
    hanging = processes.Event()
    process = processes.Process(
        target=_install_and_hang, args=(package_of(server), tmp_path, server.download(), step, hanging)
    )
    process.start()
    try:
        assert hanging.wait(60)
        sweep(tmp_path)
        assert [path for path in (tmp_path / ".install").iterdir() if path.is_dir()], "what is in use was swept away"
    finally:
        process.kill()
        process.join()
        process.close()
    if swept:
        sweep(tmp_path)
        assert nothing_is_left(tmp_path)
    assert install_from(server, tmp_path).is_dir()
    assert list((tmp_path / ".install").iterdir()) == []


def test_sweeping_a_new_node(tmp_path: Path) -> None:
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sweeping_leaves_packages_alone(server: BlobServer, tmp_path: Path) -> None:
    target = install_from(server, tmp_path)
    (tmp_path / ".install/left.over").mkdir()
    (tmp_path / ".install/left.over/package.zip").touch()
    sweep(tmp_path)
    assert list((tmp_path / ".install").iterdir()) == []
    assert (target / "bin/tool").exists()


def details(error: InstallError) -> dict[str, str]:
    return {detail.name: detail.value for detail in error.problem.details}


def test_a_failed_download(server: BlobServer, tmp_path: Path) -> None:
    server.faults = [Fault(404, {"x-ms-error-code": "BlobNotFound"})]
    with pytest.raises(InstallError) as caught:
        install_from(server, tmp_path)
    problem = caught.value.problem
    assert problem.code == "ApplicationPackageError"
    assert problem.category == "ServerError"
    assert problem.message == "One or more application packages specified for the pool are invalid"
    assert problem.details[:2] == (
        Detail("ApplicationPackageReference", "Blender:2.7-RC1"),
        Detail("Message", "Resource download failed"),
    )
    assert details(caught.value)["Cause"].startswith("BlobNotFound: http://127.0.0.1")
    assert "top-secret" not in repr(problem)
    assert nothing_is_left(tmp_path)
    assert install_from(server, tmp_path).is_dir(), "the next try is free of the last one"


def test_a_failed_unzip(server: BlobServer, tmp_path: Path) -> None:
    server.content = build(Item(name="../escape"))
    with pytest.raises(InstallError) as caught:
        install_from(server, tmp_path, message=INVALID_FOR_TASK)
    assert caught.value.problem.message == "One or more application packages specified for the task are invalid"
    assert details(caught.value)["Message"] == "Resource Unzip failed"
    assert details(caught.value)["Cause"].startswith("Entry '../escape' has '..' in its name.")
    assert nothing_is_left(tmp_path)


def test_limits_hold(server: BlobServer, tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="the limit is 1"):
        install_from(server, tmp_path, limits=Limits(files=1))
    assert nothing_is_left(tmp_path)


def test_another_content_of_the_same_size(server: BlobServer, tmp_path: Path) -> None:
    package = package_of(server)
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(InstallError, match="Sha256Mismatch"):
        install(package, tmp_path, lambda _: server.download(), limits=Limits(), deadline=time.monotonic() + 60)
    assert nothing_is_left(tmp_path)


def test_another_size(server: BlobServer, tmp_path: Path) -> None:
    package = package_of(server)
    server.content = CONTENT + b"x"
    with pytest.raises(InstallError, match="the package was activated with"):
        install(package, tmp_path, lambda _: server.download(), limits=Limits(), deadline=time.monotonic() + 60)
    assert server.requests == []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (BlobNotFoundError("deleted meanwhile"), "BlobNotFound: deleted meanwhile"),
        (ConnectionRefusedError("refused"), "the node service cannot be asked for the package: refused"),
    ],
)
def test_no_leave(server: BlobServer, tmp_path: Path, error: Exception, cause: str) -> None:
    with pytest.raises(InstallError) as caught:
        install(package_of(server), tmp_path, raising(error), limits=Limits(), deadline=time.monotonic() + 60)
    assert cause in details(caught.value)["Cause"]
    assert nothing_is_left(tmp_path)


def raising(error: Exception) -> Callable[[Package], Download]:
    def request(_: Package) -> Download:
        raise error

    return request


@pytest.mark.parametrize(
    ("application_id", "version", "sha256"),
    [
        ("../up", "1", "0" * 64),
        ("a", "../up", "0" * 64),
        ("a", "..", "0" * 64),
        ("a", "1", "../up"),
        ("", "1", "0" * 64),
    ],
)
def test_names_that_would_lead_elsewhere(tmp_path: Path, application_id: str, version: str, sha256: str) -> None:
    package = Package(application_id, version, sha256, 5)
    with pytest.raises(InstallError, match="cannot be part of a package's name"):
        install(package, tmp_path, raising(AssertionError()), limits=Limits(), deadline=time.monotonic() + 60)
    assert list(tmp_path.iterdir()) == []


def is_disk_full(error: DiskFullError) -> bool:
    return (
        error.problem.code == "DiskFull"
        and error.problem.message == "There is not enough disk space on the node"
        and details(error)["ApplicationPackageReference"] == "Blender:2.7-RC1"
    )


@pytest.mark.parametrize(
    ("free", "cause"),
    [
        ((10, 100), "bytes are needed, 40960 are free"),
        ((60, 100), "bytes are needed, [0-9]+ are free"),  # those that have landed count as free
        ((1000, 1), "the file system can take 1 more"),
    ],
    ids=["no room for the ZIP file", "no room for the files", "no room for so many files"],
)
def test_no_room(
    server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: tuple[int, int], cause: str
) -> None:
    # A volume of 4 KiB blocks; the ZIP file takes 50 of them, its files 74.
    blocks, files = free
    volume = os.statvfs_result((4096, 4096, 10_000, blocks, blocks, 10_000, files, files, 0, 255))
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: volume)
        with pytest.raises(DiskFullError, match=cause) as caught:
            install_from(server, tmp_path)
    assert is_disk_full(caught.value)
    assert nothing_is_left(tmp_path)
    assert install_from(server, tmp_path).is_dir(), "it works as soon as there is room"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["pwrite", "write", "mkdir", "rename"])
def test_a_disk_that_fills_up_meanwhile(
    server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    real = getattr(os, call)

    def full(*arguments: object, **options: object) -> object:
        # Not the folder for work itself, which is there from earlier times.
        if call == "mkdir" and ".install" in str(arguments[0]) and not str(arguments[0]).endswith("files"):
            return real(*arguments, **options)
        raise OSError(code, os.strerror(code))

    (tmp_path / ".install").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(DiskFullError) as caught:
            install_from(server, tmp_path)
    assert is_disk_full(caught.value)
    assert not list(tmp_path.rglob("*.zip")) + list(tmp_path.rglob("tool"))
    assert list((tmp_path / ".install").iterdir()) == []
    assert install_from(server, tmp_path).is_dir()


def test_a_broken_disk_is_no_full_one(server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(InstallError, match=r"the node's disk: .*Input/output error") as caught:
        install_from(server, tmp_path)
    assert not isinstance(caught.value, DiskFullError)


class BusyError(DownloadError):
    """A refusal that may pass."""

    code = "StorageUnreachable"
    busy = True


def test_leave_that_is_refused_for_now_is_asked_for_again(server: BlobServer, tmp_path: Path) -> None:
    answers: list[Exception] = [BusyError("away"), BusyError("still away")]

    def request(_: Package) -> Download:
        if answers:
            raise answers.pop(0)
        return server.download()

    deadline = time.monotonic() + 60
    assert install(package_of(server), tmp_path, request, limits=Limits(), deadline=deadline).is_dir()
    assert answers == []


@pytest.mark.parametrize(("deadline", "patience"), [(60.0, 0.01), (0.01, 60.0)], ids=["patience", "deadline"])
def test_leave_that_is_never_given(server: BlobServer, tmp_path: Path, deadline: float, patience: float) -> None:
    """What was said last is told, as soon as the time is over."""
    asked: list[int] = []

    def request(_: Package) -> Download:
        asked.append(len(asked) + 1)
        raise BusyError(f"away, answer {asked[-1]}")

    limit = time.monotonic() + deadline
    with pytest.raises(InstallError) as caught:
        install(package_of(server), tmp_path, request, limits=Limits(), deadline=limit, patience=patience)
    assert details(caught.value)["Cause"] == f"StorageUnreachable: away, answer {asked[-1]}"
    assert nothing_is_left(tmp_path)


def test_a_final_refusal_is_told_at_once(server: BlobServer, tmp_path: Path) -> None:
    asked: list[Package] = []

    def request(package: Package) -> Download:
        asked.append(package)
        raise BlobNotFoundError("gone")

    with pytest.raises(InstallError, match="BlobNotFound: gone"):
        install(package_of(server), tmp_path, request, limits=Limits(), deadline=time.monotonic() + 60)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DownloadLimits(1, 1 << 30, 1 << 30, 500), "the limit is 1"),
        (DownloadLimits(10, 100, 1 << 30, 500), "the limit is 100"),
        (DownloadLimits(10, 1 << 30, 100, 500), "more than 100 bytes unpacked, the limit"),
        (DownloadLimits(10, 1 << 30, 1 << 30, 1), "more than 1 times its size, the limit"),
    ],
)
def test_the_limits_of_the_leave_hold(server: BlobServer, tmp_path: Path, limits: DownloadLimits, reason: str) -> None:
    leave = msgspec.structs.replace(server.download(), limits=limits)
    with pytest.raises(InstallError, match=reason):
        install(package_of(server), tmp_path, lambda _: leave, limits=Limits(), deadline=time.monotonic() + 60)
    leave = msgspec.structs.replace(leave, limits=DownloadLimits(100, 1 << 30, 1 << 30, 500))
    strict = Limits(files=1)
    assert install(
        package_of(server), tmp_path, lambda _: leave, limits=strict, deadline=time.monotonic() + 60
    ).is_dir()


def test_nothing_of_another_content_is_published_though_it_can_be_unpacked(
    server: BlobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unpacked while it comes; only then its digest turns out to be another one."""
    server.content = build(Item(name="data", data=b"one content", method=STORED))
    package = package_of(server)
    server.content = build(Item(name="data", data=b"two content", method=STORED))
    unpacked: list[Summary] = []
    real: Callable[..., Summary] = getattr(module, "unpack")  # noqa: B009  # It is imported there.

    def unpack(*arguments: object, **options: object) -> Summary:
        unpacked.append(real(*arguments, **options))
        return unpacked[-1]

    monkeypatch.setattr(module, "unpack", unpack)
    with pytest.raises(InstallError, match="Sha256Mismatch"):
        install(package, tmp_path, lambda _: server.download(), limits=Limits(), deadline=time.monotonic() + 60)
    assert unpacked == [Summary(1, 11)]
    assert nothing_is_left(tmp_path)
