"""Installing a package on a node: fetched, compared, unpacked, and there from one moment to the next.

A package is unpacked while it is fetched, and published when its digest was found right.

All work is done in ``.install`` below the node's root, on the same volume, so that one rename publishes the result.
Whoever installs a package holds a lock on a file there, which the kernel lets go if the process dies. So a package is
fetched once however many ask for it, and what lies there without a holder is a leftover.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from packhorse.archive import ArchiveError, Limits, Summary, unpack
from packhorse.domain import azure
from packhorse.node import durability
from packhorse.node.download import BlobChangedError, DownloadError, StoppedError, Transfer, fetching
from packhorse.protocol import Detail, Download, Package, Problem

# Batch's own words, which its users know and search for.
DOWNLOAD_FAILED = "Resource download failed"
UNZIP_FAILED = "Resource Unzip failed"
DISK_FULL = "There is not enough disk space on the node"
DISK_FULL_REMEDY = (
    "The VM disk is full. Delete job, tasks, or file on the node to free up spaces and then restart the node."
)

INSTALL_DEADLINE = 3600.0
"""Seconds that init container and agent give one package."""

WORK_FOLDER = ".install"
LOCK_POLL = 0.05
"""Seconds between two tries of a lock: a blocking one would know no deadline."""

DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
APPLICATION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
VERSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


class InstallError(Exception):
    """A package could not be installed; ``problem`` says it in Batch's form, with the cause in its last detail."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.cause)
        self.problem = problem


class DiskFullError(InstallError):
    """There is no room for the package: the node is at fault, not the package."""


class _NoRoomError(OSError):
    """The package needs more than is free; found before the disk is filled, which would trouble others."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ENOSPC, reason)


class _LockTimeoutError(Exception):
    """Somebody else holds the lock."""


def install(
    package: Package,
    root: Path,
    request: Callable[[Package], Download],
    *,
    limits: Limits,
    deadline: float,
    message: str = azure.INVALID_FOR_POOL,
) -> Path:
    """Install a package, unless it is there. Any number of threads and processes may ask for the same one.

    Args:
        package: What to install.
        root: The node's root directory.
        request: Gets leave to fetch the package. Called again if the leave expires while the package is fetched. It
            raises ``DownloadError`` if there is none; an ``OSError`` is told as that, anything else is passed on.
        limits: How much the package may hold.
        deadline: When to give up waiting and fetching, by ``time.monotonic()``.
        message: The first line of a failure: the pool's, or ``azure.INVALID_FOR_TASK``.

    Returns:
        The directory of its files.

    Raises:
        DiskFullError: There is no room for it.
        InstallError: It could not be fetched or unpacked. Nothing of it is left.
    """
    installation = _Installation(package, root, message)
    if installation.target.is_dir():
        return installation.target
    # Steps name themselves to Batch's users by the one of two messages that fits.
    with installation.failures(DOWNLOAD_FAILED):
        installation.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(installation.work / f"{installation.key}.lock", deadline):
            if not installation.target.is_dir():
                _install(installation, request, limits, deadline)
    return installation.target


def sweep(root: Path) -> None:
    """Remove what installations left that were killed, and what a crash of the machine may have damaged.

    Installations that run are left alone. Call it when a node starts, before anybody uses a package.

    Raises:
        OSError: Something cannot be removed.
    """
    work = root / WORK_FOLDER
    if not work.is_dir():
        return
    keys = {path.name.removesuffix(".lock").removesuffix(durability.SUFFIX) for path in work.iterdir()}
    for key in sorted(keys):
        with contextlib.suppress(_LockTimeoutError), _locked(work / f"{key}.lock", deadline=0.0):
            if (work / key).exists():
                logger.info("Removing what is left of an interrupted installation, %s", key)
                shutil.rmtree(work / key)
            durability.recover(work, key, root / _directory(key))


def _directory(key: str) -> PurePosixPath:
    """Where the package of a key is published: the key is its id, version and digest, of which only one has dots."""
    application_id, _, rest = key.partition(".")
    version, _, sha256 = rest.rpartition(".")
    return PurePosixPath("applications", application_id, version, sha256)


class _Installation:
    """One package on its way to one node: its places, and how its failures are told."""

    def __init__(self, package: Package, root: Path, message: str) -> None:
        self.package = package
        self.root = root
        self.message = message
        names = ((APPLICATION_ID, package.application_id), (VERSION, package.version), (SHA256, package.sha256))
        for pattern, name in names:
            # They become paths, so whoever named them is not trusted here.
            if not pattern.fullmatch(name):
                raise self.error(DOWNLOAD_FAILED, f"{name!r} cannot be part of a package's name")
        self.target = root / package.directory
        self.key = f"{package.application_id}.{package.version}.{package.sha256}".lower()
        self.work = root / WORK_FOLDER
        self.staging = self.work / self.key

    def error(self, failed: str, cause: str) -> InstallError:
        """Return the error for a package that is at fault, or seems so."""
        return InstallError(azure.invalid_packages(self.message, self.package.reference, failed, cause))

    def disk_full(self, cause: str) -> DiskFullError:
        """Return the error for a node that has no room."""
        return DiskFullError(Problem("DiskFull", DISK_FULL, self._details(DISK_FULL_REMEDY, cause)))

    def _details(self, failed: str, cause: str) -> tuple[Detail, ...]:
        return (
            Detail("ApplicationPackageReference", self.package.reference),
            Detail("Message", failed),
            Detail("Cause", cause),
        )

    @contextlib.contextmanager
    def failures(self, failed: str) -> Iterator[None]:
        """Turn what a step raises into an ``InstallError``; ``failed`` is how Batch calls the step's failure."""
        try:
            yield
        except DownloadError as error:
            raise self.error(failed, f"{error.code}: {error.reason}") from error
        except (ArchiveError, _LockTimeoutError) as error:
            raise self.error(failed, str(error)) from error
        except OSError as error:
            if error.errno in DISK_FULL_ERRORS:
                raise self.disk_full(error.strerror or str(error)) from error
            raise self.error(failed, f"the node's disk: {error}") from error


def _install(
    installation: _Installation, request: Callable[[Package], Download], limits: Limits, deadline: float
) -> None:
    """Do it, while nobody else does."""
    started = time.monotonic()
    package, staging = installation.package, installation.staging
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(mode=0o700)
    archive, files = staging / "package.zip", staging / "files"
    try:
        with (
            installation.failures(DOWNLOAD_FAILED),
            # Meanwhile, since it waits for the disk.
            durability.marking(installation.work, installation.key),
            _transfer(package, archive, request, deadline) as transfer,
        ):
            summary = _unpack(installation, transfer, files, limits)
            transfer.finish()
            fetched = transfer.landed
        with installation.failures(UNZIP_FAILED):
            # Before the files are brought to the disk, where it need not be.
            archive.unlink()
            _publish(files, installation.target, installation.root)
    except BaseException:
        durability.unmark(installation.work, installation.key)
        raise
    finally:
        shutil.rmtree(staging)
    durability.settle(installation.work, installation.key)
    logger.info(
        "Installed %s: %d bytes fetched in %.2f s, %d files of %d bytes there after %.2f s",
        package.reference,
        package.size,
        fetched - started,
        summary.files,
        summary.unpacked_size,
        time.monotonic() - started,
    )


@contextlib.contextmanager
def _transfer(
    package: Package, archive: Path, request: Callable[[Package], Download], deadline: float
) -> Iterator[Transfer]:
    def ask() -> Download:
        try:
            return request(package)
        except OSError as error:
            raise DownloadError(f"the node service cannot be asked for the package: {error}") from error

    download = ask()
    if download.size != package.size:
        raise BlobChangedError(f"the blob has {download.size} bytes, the package was activated with {package.size}")
    _check_room(archive.parent, Summary(1, package.size))
    with fetching(download, archive, sha256=package.sha256, deadline=deadline, renew=ask) as transfer:
        yield transfer


def _unpack(installation: _Installation, transfer: Transfer, files: Path, limits: Limits) -> Summary:
    """Unpack what lands, while the rest is on its way.

    That is before its digest is known, and safe all the same: what is unpacked is judged as if a stranger had sent it,
    into a folder that nobody else looks into, and it is published only after ``Transfer.finish`` found the digest
    right. What is wrong with it is told only then, too: for another content than the pinned one, that is the failure.
    """

    def check_room(summary: Summary) -> None:
        _check_room(files.parent, Summary(summary.files, summary.unpacked_size + transfer.missing))

    try:
        with installation.failures(UNZIP_FAILED):
            return unpack(transfer.read_at, installation.package.size, files, limits, before_writing=check_room)
    except StoppedError:
        transfer.finish()
        raise
    except DiskFullError:
        raise
    except InstallError as error:
        if isinstance(error.__cause__, ArchiveError):
            transfer.finish()
        raise


def _check_room(folder: Path, summary: Summary) -> None:
    """Raise ``_NoRoomError`` unless so many files of so many bytes in all find room."""
    volume = os.statvfs(folder)
    free = volume.f_bavail * volume.f_frsize
    # The last block of a file is filled by half on average.
    needed = summary.unpacked_size + summary.files * volume.f_frsize // 2
    if needed > free:
        raise _NoRoomError(f"{needed} bytes are needed, {free} are free")
    # Some file systems have no fixed number of files, and tell 0.
    if volume.f_files and summary.files > volume.f_favail:
        raise _NoRoomError(f"{summary.files} files are needed, the file system can take {volume.f_favail} more")


def _publish(files: Path, target: Path, root: Path) -> None:
    """Move the files to where they belong, so that they are there whole or not at all."""
    for folder in list(target.relative_to(root).parents)[-2::-1]:
        path = root / folder
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        # Not left to mkdir, which minds the umask; and an earlier installation may have been killed just here.
        if stat.S_IMODE(path.stat().st_mode) != 0o755:
            path.chmod(0o755)
    files.rename(target)


@contextlib.contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold a lock on a file of this name, which goes when it is let go; tried once at least.

    Raises:
        _LockTimeoutError: Somebody else still has it at the deadline.
    """
    while (file := _try_lock(path)) is None:
        if time.monotonic() + LOCK_POLL > deadline:
            raise _LockTimeoutError("another installation of the same package has not ended in time")
        time.sleep(LOCK_POLL)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _try_lock(path: Path) -> int | None:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before may have removed the file after we opened it: then others lock another one.
        if os.fstat(file).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None
