"""Installing a package on a node: fetched, compared, unpacked, and there from one moment to the next.

A package is unpacked while it is fetched, and published when its digest was found right.

All work is done in ``.install`` below the node's root, on the same volume, so that one rename publishes the result.
Whoever installs a package holds a lock on a file there, which the kernel lets go if the process dies. So a package is
fetched once however many ask for it, and what lies there without a holder is a leftover.
"""

import contextlib
import dataclasses
import errno
import itertools
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from packhorse.archive import ArchiveError, Limits, Summary, unpack
from packhorse.archive.limits import directory_size
from packhorse.domain import azure
from packhorse.node import durability, eviction
from packhorse.node.download import BlobChangedError, DownloadError, StoppedError, Transfer, backoff, fetching
from packhorse.node.eviction import Content, Eviction, InUse, Room
from packhorse.node.locking import LockTimeoutError, locked
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

LEAVE_PATIENCE = 45.0
"""Seconds for which leave to fetch is asked for again where it is refused for now, before that is told."""

WORK_FOLDER = ".install"
NOTHING = Room(0, 0)

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
    """There is no room for the package: the node is at fault, not the package.

    Attributes:
        needed: Bytes that have to be free for it, as far as is known: at least those of the ZIP file.
    """

    def __init__(self, problem: Problem, needed: int = 0) -> None:
        super().__init__(problem)
        self.needed = needed


class _NoRoomError(OSError):
    """The package needs more than is free; found before the disk is filled, which would trouble others."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ENOSPC, reason)


def _forget(_: Eviction) -> None:
    """Tell nobody."""


def install(
    package: Package,
    root: Path,
    request: Callable[[Package], Download],
    *,
    limits: Limits,
    deadline: float,
    message: str = azure.INVALID_FOR_POOL,
    in_use: InUse | None = None,
    evicted: Callable[[Eviction], None] = _forget,
    patience: float = LEAVE_PATIENCE,
) -> Path:
    """Install a package, unless it is there. Any number of threads and processes may ask for the same one.

    Where it finds no room, content goes that nobody uses, least recently used first; none if even all of it would not
    do.

    Args:
        package: What to install.
        root: The node's root directory.
        request: Gets leave to fetch the package. Called again if the leave expires while the package is fetched, and
            where it raises a ``DownloadError`` that is ``busy``. Any other ends the installation; an ``OSError`` is
            told as one, anything else is passed on.
        limits: How much the package may hold; those of the leave count instead, if it has any.
        deadline: When to give up waiting and fetching, by ``time.monotonic()``.
        message: The first line of a failure: the pool's, or ``azure.INVALID_FOR_TASK``.
        in_use: Tells what has to stay: this package as well, before it is asked for. None: everything stays.
        evicted: Told of all content that went, in this thread.
        patience: Seconds for which a refusal that may pass is met by asking again; never beyond the deadline.

    Returns:
        The directory of its files.

    Raises:
        DiskFullError: There is no room for it.
        InstallError: It could not be fetched or unpacked. Nothing of it is left.
    """
    installation = _Installation(package, root, message)
    # Steps name themselves to Batch's users by the one of two messages that fits.
    with installation.failures(DOWNLOAD_FAILED):
        if eviction.mark_used(root, package):
            return installation.target
        installation.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(installation.work / f"{installation.key}.lock", deadline):
            space = _Space(installation, in_use, evicted)
            leave = _Leave(package, request, limits, deadline, patience)
            while not eviction.mark_used(root, package):
                try:
                    _install(installation, space, leave)
                except DiskFullError as error:
                    # Others filled the disk meanwhile, or it has a quota. Each time something goes, so there is an end.
                    if isinstance(error.__cause__, _NoRoomError) or not space.make_some():
                        raise
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
    eviction.sweep(work)
    keys = {path.name.removesuffix(".lock").removesuffix(durability.SUFFIX) for path in work.iterdir()}
    for key in sorted(keys):
        with contextlib.suppress(LockTimeoutError), locked(work / f"{key}.lock", deadline=0.0):
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
        self.need = Room(package.size, 1)

    def error(self, failed: str, cause: str) -> InstallError:
        """Return the error for a package that is at fault, or seems so."""
        return InstallError(azure.invalid_packages(self.message, self.package.reference, failed, cause))

    def disk_full(self, cause: str) -> DiskFullError:
        """Return the error for a node that has no room."""
        problem = Problem("DiskFull", DISK_FULL, self._details(DISK_FULL_REMEDY, cause))
        return DiskFullError(problem, self.need.size)

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
        except (ArchiveError, LockTimeoutError) as error:
            raise self.error(failed, str(error)) from error
        except OSError as error:
            if error.errno in DISK_FULL_ERRORS:
                raise self.disk_full(error.strerror or str(error)) from error
            raise self.error(failed, f"the node's disk: {error}") from error


class _Space:
    """Room on the node's volume for one package."""

    def __init__(self, installation: _Installation, in_use: InUse | None, evicted: Callable[[Eviction], None]) -> None:
        self._installation = installation
        self._in_use = in_use
        self._evicted = evicted

    def ensure(self, need: Room, held: Room = NOTHING) -> None:
        """See to it that so much is free, besides what the installation holds already. Raises OSError if it cannot be.

        What is told counts both, since all of it is free again when the installation has failed; and it is the same
        however much had landed by then.
        """
        self._installation.need = need + held
        free = eviction.free_room(self._installation.work)
        if free.covers(need):
            return
        contents = self._unused()
        if sum((content.room for content in contents), start=free).covers(need):
            for content in contents:
                gone = self._evict(content)
                free = free + content.room if gone else free
                if gone and free.covers(need) and not self._free().covers(need):
                    # Some file systems free what was removed only when it is written down.
                    durability.sync_volume(self._installation.work)
                if self._free().covers(need):
                    return
        raise _NoRoomError(_shortage(need + held, self._free() + held, self._unused()))

    def make_some(self) -> bool:
        """Remove what was used least recently, and tell whether there was anything."""
        return any(self._evict(content) for content in self._unused())

    def _free(self) -> Room:
        return eviction.free_room(self._installation.work)

    def _unused(self) -> list[Content]:
        return [] if self._in_use is None else eviction.unused(self._installation.root, self._in_use)

    def _evict(self, content: Content) -> bool:
        if self._in_use is None:
            return False
        installation = self._installation
        reason = f"room for {installation.package.reference}"
        gone = eviction.evict(installation.root, installation.work, content, self._in_use, reason)
        if gone is None:
            return False
        logger.info("Removed %s, %d bytes, unused on this node: %s", gone.directory, gone.freed, gone.reason)
        self._evicted(gone)
        return True


def _shortage(need: Room, free: Room, unused: list[Content]) -> str:
    if need.size > free.size:
        evictable = sum(content.room.size for content in unused)
        more = f", {evictable} are taken by packages that nobody uses" if unused else ""
        return f"{need.size} bytes are needed, {free.size} are free{more}"
    return f"{need.files} files are needed, the file system can take {free.files} more"


class _Leave:
    """Gets leave to fetch a package, as often as it takes."""

    def __init__(
        self,
        package: Package,
        request: Callable[[Package], Download],
        limits: Limits,
        deadline: float,
        patience: float,
    ) -> None:
        self._package = package
        self._request = request
        self._limits = limits
        self._patience = patience
        self.deadline = deadline

    def limits(self, download: Download) -> Limits:
        """How much the package may hold: what the operator says, if it does."""
        given = download.limits
        if given is None:
            return self._limits
        return dataclasses.replace(
            self._limits,
            files=given.files,
            file_size=given.file_size,
            total_size=given.total_size,
            ratio=given.ratio,
            directory_size=directory_size(given.files),
        )

    def ask(self) -> Download:
        """Ask for it, again for a while where that may help. Raises DownloadError, with what happened last."""
        give_up = min(self.deadline, time.monotonic() + self._patience)
        for failures in itertools.count(1):
            try:
                return self._request(self._package)
            except OSError as error:
                raise DownloadError(f"the node service cannot be asked for the package: {error}") from error
            except DownloadError as error:
                pause = backoff(failures)
                if not error.busy or time.monotonic() + pause > give_up:
                    raise
                logger.warning("%s: %s; next try in %.1f s", self._package.reference, error.reason, pause)
            time.sleep(pause)
        raise AssertionError


def _install(installation: _Installation, space: _Space, leave: _Leave) -> None:
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
            _transfer(package, archive, space, leave) as (transfer, limits),
        ):
            summary = _unpack(installation, transfer, files, limits, space)
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
def _transfer(package: Package, archive: Path, space: _Space, leave: _Leave) -> Iterator[tuple[Transfer, Limits]]:
    download = leave.ask()
    if download.size != package.size:
        raise BlobChangedError(f"the blob has {download.size} bytes, the package was activated with {package.size}")
    space.ensure(_room(archive.parent, 1, package.size))
    with fetching(download, archive, sha256=package.sha256, deadline=leave.deadline, renew=leave.ask) as transfer:
        yield transfer, leave.limits(download)


def _unpack(installation: _Installation, transfer: Transfer, files: Path, limits: Limits, space: _Space) -> Summary:
    """Unpack what lands, while the rest is on its way.

    That is before its digest is known, and safe all the same: what is unpacked is judged as if a stranger had sent it,
    into a folder that nobody else looks into, and it is published only after ``Transfer.finish`` found the digest
    right. What is wrong with it is told only then, too: for another content than the pinned one, that is the failure.
    """

    def ensure_room(summary: Summary) -> None:
        missing = transfer.missing
        held = Room(installation.package.size - missing, 0)
        space.ensure(_room(files.parent, summary.files, summary.unpacked_size + missing), held)

    try:
        with installation.failures(UNZIP_FAILED):
            return unpack(transfer.read_at, installation.package.size, files, limits, before_writing=ensure_room)
    except StoppedError:
        transfer.finish()
        raise
    except DiskFullError:
        raise
    except InstallError as error:
        if isinstance(error.__cause__, ArchiveError):
            transfer.finish()
        raise


def _room(folder: Path, files: int, size: int) -> Room:
    """What so many files of so many bytes in all take: of each file's last block, half is lost on average."""
    return Room(size + files * os.statvfs(folder).f_frsize // 2, files)


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
