"""Files of a task, read on its node."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packhorse.cli.cluster import Cluster
from packhorse.cli.errors import ApiError, CliError, ConnectionLostError
from packhorse.cli.exec import Channel, Exec, NotStartedError
from packhorse.cli.progress import Advance
from packhorse.cli.whole import written_whole
from packhorse.model import Task

ROOT = PurePosixPath("/mnt/batch/tasks")
_BUSYBOX = str(ROOT / ".packhorse/bin/busybox")  # there in every node, whatever image its user chose
_CONTAINER = "node"
_TRIES = 5

# Exit codes of the scripts, whose $0 is busybox and $1 the file.
_NO_FILE, _NOT_REGULAR, _NOT_READABLE = 66, 67, 68
_CHECK = f'[ -e "$1" ] || exit {_NO_FILE}; [ -f "$1" ] || exit {_NOT_REGULAR}; [ -r "$1" ] || exit {_NOT_READABLE}; '
_SIZE = _CHECK + 'exec "$0" stat -L -c %s "$1"'
_READ = _CHECK + '"$0" tail -c "+$2" "$1" | "$0" head -c "$3"'
# It ends with its standard input: a node must not keep the processes of those who closed their laptops.
_FOLLOW = _CHECK + '"$0" tail -f -c "+$2" "$1" & "$0" cat >/dev/null; kill $!; wait'

_NOT_THERE = {400, 404, 500}  # a container that has not begun; no such pod; a container that has ended


class NodeGoneError(CliError):
    """The node is not there now."""


class NoFileError(CliError):
    """The node is there, the file is not, or cannot be read."""


def directory(task: Task) -> PurePosixPath:
    """A task's directory on its node: its outputs, and ``wd``, where it works."""
    return ROOT / "workitems" / task.spec.job_id / "job-1" / task.metadata.name


def locate(task: Task, path: str) -> PurePosixPath:
    """A file of a task; a relative path is below its working directory, and ``..`` may lead to its outputs.

    Raises:
        CliError: The path leads out of the task's directory.
    """
    whole = PurePosixPath(os.path.normpath(directory(task) / "wd" / path))
    if directory(task) not in whole.parents:
        raise CliError(
            f"'{path}' is not below the directory of task {task.metadata.name}.",
            f"Relative paths are below {directory(task)}/wd; its outputs are ../stdout.txt and ../stderr.txt.",
        )
    return whole


def node_of(task: Task) -> str:
    """Name of the node that ran the task last.

    Raises:
        CliError: None did yet.
    """
    if not task.status.node_name:
        raise CliError(f"Task {task.metadata.name} has not been on a node yet: it is {task.status.state}.")
    return task.status.node_name


@dataclass(frozen=True)
class RemoteFile:
    """A file on a node.

    Every method raises :class:`NodeGoneError` where the node is not there, and :class:`NoFileError` where the file is
    not, or is none that can be read.
    """

    cluster: Cluster
    node: str
    path: PurePosixPath

    def measure(self) -> int:
        """Its length in bytes."""
        with self._run(_SIZE) as running:
            answer = b"".join(frame.data for frame in running.frames() if frame.channel is Channel.STDOUT)
            self.judge(running)
        return int(answer)

    def read(self, offset: int, end: int) -> Iterator[bytes]:
        """The bytes from ``offset`` to before ``end``.

        A connection that breaks is made again, a few times, from where the last one ended.
        """
        failures = 0
        while offset < end:
            before = offset
            try:
                with self._run(_READ, str(offset + 1), str(end - offset)) as running:
                    for frame in running.frames():
                        if frame.channel is Channel.STDOUT:
                            offset += len(frame.data)
                            yield frame.data
                    self.judge(running)
                if offset < end:
                    raise ConnectionLostError(f"{self.node} sent {self.path} only to byte {offset} of {end}.")
            except ConnectionLostError:
                failures = 0 if offset > before else failures + 1
                if failures >= _TRIES:
                    raise

    def copy(self, destination: Path, size: int, advance: Advance) -> None:
        """Copy its first ``size`` bytes here. The destination is whole or untouched.

        Raises:
            CliError: It cannot be written here.
        """
        try:
            with written_whole(destination) as (file, _):
                for piece in self.read(0, size):
                    file.write(piece)
                    advance(file.tell())
        except OSError as error:
            raise CliError(f"{destination} cannot be written: {error.strerror or error}.") from error

    def follow(self, offset: int) -> contextlib.AbstractContextManager[Exec]:
        """A command that writes the file from ``offset`` on, and what is added to it, as long as it is not closed."""
        return self._run(_FOLLOW, str(offset + 1), stdin=True)

    def judge(self, running: Exec) -> None:
        """Raise what the exit code of a command that ended means."""
        code = running.exit_code
        if code == _NO_FILE:
            raise NoFileError(f"There is no file {self.path} on node {self.node}.")
        if code == _NOT_REGULAR:
            raise NoFileError(f"{self.path} on node {self.node} is a directory or no plain file.")
        if code == _NOT_READABLE:
            raise NoFileError(f"{self.path} on node {self.node} may not be read by the user that the node runs as.")
        if code:
            raise NoFileError(f"{self.path} on node {self.node} could not be read: exit code {code}.")

    @contextlib.contextmanager
    def _run(self, script: str, *arguments: str, stdin: bool = False) -> Iterator[Exec]:
        command = [_BUSYBOX, "sh", "-c", script, _BUSYBOX, str(self.path), *arguments]
        try:
            running = Exec(self.cluster, self.node, _CONTAINER, command, stdin=stdin)
        except ApiError as error:
            if error.status in _NOT_THERE:
                raise NodeGoneError(f"Node {self.node} is not there now: {error.message}") from error
            raise
        try:
            with running:
                yield running
        except NotStartedError as error:
            raise NodeGoneError(f"Node {self.node} does not run now: {error.message}") from error
