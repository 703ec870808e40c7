"""Unpacking a package to disk."""

import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from packhorse.archive.contents import inflate, read_contents
from packhorse.archive.end import ReadAt
from packhorse.archive.entries import Entry, Kind, read_layout
from packhorse.archive.errors import ArchiveError
from packhorse.archive.inspection import Directory, read_directory
from packhorse.archive.limits import Limits, Summary

EXECUTABLE_STARTS = (b"\x7fELF", b"#!")
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

WINDOW = 1 << 18
"""Bytes of the ZIP file that are read at once in front of headers: most small files lie in there as well."""
SMALL = 1 << 16
"""Files up to so many bytes, packed and unpacked, are handed out in batches with their data."""
BATCH = 64
"""Small files that are handed out at a time."""
WAITING = 8
"""Batches and large files that wait for a thread, at most."""


def extract(
    path: Path,
    destination: Path,
    limits: Limits | None = None,
    threads: int | None = None,
    *,
    before_writing: Callable[[Summary], None] | None = None,
) -> Summary:
    """Unpack a ZIP file into a new folder; see ``unpack``.

    Raises:
        ArchiveError: The package is damaged, or not fit to be one.
        FileExistsError: The destination exists.
        OSError: The ZIP file cannot be read, or the files cannot be written.
    """
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:

        def read_at(offset: int, length: int) -> bytes:
            return os.pread(source, length, offset)

        size = os.fstat(source).st_size
        return unpack(read_at, size, destination, limits, threads, before_writing=before_writing)
    finally:
        os.close(source)


def unpack(
    read_at: ReadAt,
    file_size: int,
    destination: Path,
    limits: Limits | None = None,
    threads: int | None = None,
    *,
    before_writing: Callable[[Summary], None] | None = None,
) -> Summary:
    """Unpack a package into a new folder while it is read once, from its beginning to its end, after its directory.

    So ``read_at`` may wait for bytes that are still on their way, and nothing need be known of them but that they will
    be judged here: no file is written outside of the destination, and not more than the directory promised, whatever
    they are. Who fetches a package this way keeps the destination to himself until the digest was compared.

    Everybody may read what it holds, and nobody but its owner may write it. What is executable for somebody becomes
    executable for everybody; where the ZIP file does not tell, programs and scripts are known by their first bytes.
    Nothing else of the modes is taken over.

    Args:
        read_at: The ZIP file; called by several threads.
        file_size: Bytes of it.
        destination: The folder to create; the one that it is in has to be there. After a failure it is gone.
        limits: How much the package may hold; the default limits if None.
        threads: How many files are unpacked at a time; by default one for each processor, at most 4.
        before_writing: Called when the directory was found good, with what is going to be written; may raise.

    Raises:
        ArchiveError: The package is damaged, or not fit to be one.
        FileExistsError: The destination exists.
        OSError: The files cannot be written.
        Exception: What ``read_at`` raises.
    """
    limits = limits or Limits()
    directory = read_directory(read_at, file_size, limits)
    if before_writing is not None:
        before_writing(directory.summary)
    # Nobody else looks into the folder before it is complete.
    destination.mkdir(mode=0o700)
    try:
        window = _Window(read_at, file_size)
        _unpack(window, directory, destination, limits, threads or min(4, len(os.sched_getaffinity(0))))
        destination.chmod(0o755)
    except BaseException:
        shutil.rmtree(destination)
        raise
    return directory.summary


def _unpack(window: "_Window", directory: Directory, destination: Path, limits: Limits, threads: int) -> None:
    read_at = window.source
    root = os.open(destination, FOLDER_FLAGS)
    try:
        for folder in directory.tree.folders:
            os.mkdir(folder, 0o700, dir_fd=root)
            # Not left to mkdir, which minds the umask and hands on a set-group-ID bit.
            os.chmod(folder, 0o755, dir_fd=root)  # noqa: S103  # Tasks run as any user.
        with _writers(read_at, root, threads) as writers:
            for entry in read_layout(window.read_at, directory.entries, directory.end):
                if entry.kind is Kind.LINK:
                    directory.add_target(read_at, entry, limits)
                elif entry.kind is Kind.FOLDER:
                    _check_empty(read_at, entry)
                else:
                    writers.add(entry, window)
        directory.check_links()
        # Links come last: while files are written there is none that a path could lead through.
        for name, target in directory.targets.items():
            os.symlink(target, name, dir_fd=root)
    finally:
        os.close(root)


def _check_empty(read_at: ReadAt, folder: Entry) -> None:
    """Read the data of a folder, which have to be none, but may be compressed."""
    for _ in read_contents(read_at, folder):
        raise ArchiveError("is a folder with data of its own", entry=folder.name)


class _Window:
    """Reads ahead of whoever goes through a file from its beginning to its end."""

    def __init__(self, source: ReadAt, size: int) -> None:
        self.source = source
        self._size = size
        self._start = 0
        self._data = b""

    def read_at(self, offset: int, length: int) -> bytes:
        """Read so many bytes, fewer only at the end of the file."""
        length = min(length, self._size - offset)
        start = offset - self._start
        if start < 0 or start + length > len(self._data):
            self._data = self.source(offset, max(length, WINDOW))
            self._start, start = offset, 0
        return self._data[start : start + length]


_Batch = list[tuple[Entry, bytes | None]]


class _Writers:
    """Threads that write files. Each is given small files in batches, and large ones alone."""

    def __init__(self, read_at: ReadAt, root: int) -> None:
        self._read_at = read_at
        self._root = root
        self._queue: queue.Queue[_Batch | None] = queue.Queue(WAITING)
        self._batch: _Batch = []
        self._errors: list[BaseException] = []

    def add(self, entry: Entry, window: _Window) -> None:
        """Have a file written. Raises what writing another one raised."""
        if max(entry.compressed, entry.size) > SMALL:
            self._put([(entry, None)])
            return
        self._batch.append((entry, window.read_at(entry.data_offset, entry.compressed)))
        if len(self._batch) == BATCH:
            self._flush()

    def end(self, threads: int) -> None:
        """Tell all threads that there is no more."""
        self._flush()
        for _ in range(threads):
            self._queue.put(None)

    def work(self) -> None:
        """What a thread does. After a failure it goes on to empty the queue, so that nobody waits for room in it."""
        while (batch := self._queue.get()) is not None:
            if self._errors:
                continue
            try:
                for entry, packed in batch:
                    if packed is None:
                        _write_large(self._read_at, entry, self._root)
                    else:
                        _write_small(packed, entry, self._root)
            except BaseException as error:  # It is raised again by check.
                self._errors.append(error)

    def check(self) -> None:
        """Raise what a thread raised."""
        if self._errors:
            raise self._errors[0]

    def _flush(self) -> None:
        if self._batch:
            self._put(self._batch)
            self._batch = []

    def _put(self, batch: _Batch) -> None:
        self.check()
        self._queue.put(batch)


@contextmanager
def _writers(read_at: ReadAt, root: int, threads: int) -> Iterator[_Writers]:
    """Threads that are done when the context ends without an exception, and have stopped in any case."""
    writers = _Writers(read_at, root)
    pool = [threading.Thread(target=writers.work, name=f"extract-{number}") for number in range(threads)]
    for thread in pool:
        thread.start()
    try:
        yield writers
    finally:
        writers.end(threads)
        for thread in pool:
            thread.join()
    writers.check()


def _write_small(packed: bytes, entry: Entry, root: int) -> None:
    data = inflate(packed, entry)
    executable = data.startswith(EXECUTABLE_STARTS) if entry.executable is None else entry.executable
    mode = 0o755 if executable else 0o644
    file = os.open(entry.name, FILE_FLAGS, mode, dir_fd=root)
    try:
        if data:
            _write_fully(file, data)
        _finish(file, mode, entry)
    finally:
        os.close(file)


def _write_large(read_at: ReadAt, entry: Entry, root: int) -> None:
    executable = entry.executable
    file = os.open(entry.name, FILE_FLAGS, 0o600, dir_fd=root)
    try:
        for piece in read_contents(read_at, entry):
            if executable is None:
                executable = piece.startswith(EXECUTABLE_STARTS)
            _write_fully(file, piece)
        _finish(file, 0o755 if executable else 0o644, entry)
    finally:
        os.close(file)


def _finish(file: int, mode: int, entry: Entry) -> None:
    # Not left to open, which minds the umask.
    os.fchmod(file, mode)
    if entry.modified is not None:
        os.utime(file, (entry.modified, entry.modified))


def _write_fully(file: int, data: bytes) -> None:
    written = os.write(file, data)
    if written == len(data):
        return
    view = memoryview(data)[written:]
    while view:
        view = view[os.write(file, view) :]
