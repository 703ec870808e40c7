"""Unpacking a package to disk."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packhorse.archive.contents import read_contents
from packhorse.archive.end import ReadAt
from packhorse.archive.entries import Entry, Kind
from packhorse.archive.errors import ArchiveError
from packhorse.archive.inspection import Contents, judge
from packhorse.archive.limits import Limits, Summary

EXECUTABLE_STARTS = (b"\x7fELF", b"#!")
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(
    path: Path,
    destination: Path,
    limits: Limits | None = None,
    threads: int | None = None,
    *,
    before_writing: Callable[[Summary], None] | None = None,
) -> Summary:
    """Unpack a package into a new folder.

    Everybody may read what it holds, and nobody but its owner may write it. What is executable for somebody becomes
    executable for everybody; where the ZIP file does not tell, programs and scripts are known by their first bytes.
    Nothing else of the modes is taken over.

    Args:
        path: The ZIP file.
        destination: The folder to create; the one that it is in has to be there. After a failure it is gone.
        limits: How much the package may hold; the default limits if None.
        threads: How many files are unpacked at a time; by default one for each processor, at most 4.
        before_writing: Called when the package was found good, with what is going to be written; may raise.

    Raises:
        ArchiveError: The package is damaged, or not fit to be one.
        FileExistsError: The destination exists.
        OSError: The ZIP file cannot be read, or the files cannot be written.
    """
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:

        def read_at(offset: int, length: int) -> bytes:
            return os.pread(source, length, offset)

        contents = judge(read_at, os.fstat(source).st_size, limits or Limits())
        if before_writing is not None:
            before_writing(contents.summary)
        # Nobody else looks into the folder before it is complete.
        destination.mkdir(mode=0o700)
        try:
            _unpack(read_at, contents, destination, threads or min(4, len(os.sched_getaffinity(0))))
            destination.chmod(0o755)
        except BaseException:
            shutil.rmtree(destination)
            raise
    finally:
        os.close(source)
    return contents.summary


def _unpack(read_at: ReadAt, contents: Contents, destination: Path, threads: int) -> None:
    root = os.open(destination, FOLDER_FLAGS)
    try:
        for folder in contents.folders:
            os.mkdir(folder, 0o700, dir_fd=root)
            # Not left to mkdir, which minds the umask and hands on a set-group-ID bit.
            os.chmod(folder, 0o755, dir_fd=root)  # noqa: S103  # Tasks run as any user.
        files = [entry for entry in contents.entries if entry.kind is Kind.FILE]
        # Largest first, so that the last files to be done are small and all threads end together.
        files.sort(key=lambda entry: entry.size, reverse=True)
        _write_files(read_at, files, root, threads)
        # Links come last: while files are written there is none that a path could lead through.
        for name, target in contents.targets.items():
            os.symlink(target, name, dir_fd=root)
        for entry in contents.entries:
            if entry.kind is Kind.FOLDER:
                _check_empty(read_at, entry)
    finally:
        os.close(root)


def _check_empty(read_at: ReadAt, folder: Entry) -> None:
    """Read the data of a folder, which have to be none, but may be compressed."""
    for _ in read_contents(read_at, folder):
        raise ArchiveError("is a folder with data of its own", entry=folder.name)


def _write_files(read_at: ReadAt, files: list[Entry], root: int, threads: int) -> None:
    queue = iter(files)
    lock = threading.Lock()
    failed = threading.Event()

    def take() -> Iterator[Entry]:
        while not failed.is_set():
            with lock:
                entry = next(queue, None)
            if entry is None:
                return
            yield entry

    def work() -> None:
        try:
            for entry in take():
                _write_file(read_at, entry, root)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(threads, "extract") as pool:
        workers = [pool.submit(work) for _ in range(threads)]
    for worker in workers:
        worker.result()


def _write_file(read_at: ReadAt, entry: Entry, root: int) -> None:
    executable = entry.executable
    file = os.open(entry.name, FILE_FLAGS, 0o600, dir_fd=root)
    try:
        for piece in read_contents(read_at, entry):
            if executable is None:
                executable = piece.startswith(EXECUTABLE_STARTS)
            _write_fully(file, piece)
        os.fchmod(file, 0o755 if executable else 0o644)
        if entry.modified is not None:
            os.utime(file, (entry.modified, entry.modified))
    finally:
        os.close(file)


def _write_fully(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
