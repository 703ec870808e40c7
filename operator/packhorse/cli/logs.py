"""What a task wrote: from its node while that is there, else what its status kept."""

import sys
import time
from typing import Literal

from packhorse.cli.cluster import TASKS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError, ConnectionLostError
from packhorse.cli.exec import Channel
from packhorse.cli.files import NodeGoneError, NoFileError, RemoteFile, directory, node_of
from packhorse.cli.options import Target
from packhorse.cli.output import say
from packhorse.cli.parsing import parse
from packhorse.model import Task, TaskState

Stream = Literal["stdout", "stderr"]

_LOOK = 1.0  # seconds between two looks at the task
_TRIES = 5


def show(target: Target, name: str, stream: Stream) -> None:
    """Print what there is now."""
    with connect(target) as cluster:
        _show_from(cluster, parse(Task, cluster.get(TASKS, name)), stream, 0)


def follow(target: Target, name: str, stream: Stream) -> None:
    """Print what comes until the task is completed; a further attempt is announced and begins anew."""
    with connect(target) as cluster:
        _follow(cluster, name, stream)


def _follow(cluster: Cluster, name: str, stream: Stream) -> None:
    attempt = offset = failures = 0
    said = ""
    while True:
        task = parse(Task, cluster.get(TASKS, name))
        if task.status.state in {TaskState.ACTIVE, TaskState.PREPARING}:
            if said != task.status.state:
                said = task.status.state
                say(f"Task {name} is {said}: waiting until it runs.")
            time.sleep(_LOOK)
            continue
        if task.status.attempt != attempt:
            if attempt:
                say(f"Task {name} was run again: attempt {task.status.attempt} on node {task.status.node_name}.")
            attempt, offset = task.status.attempt, 0
        if task.status.state is TaskState.COMPLETED:
            _show_from(cluster, task, stream, offset)
            return
        try:
            offset += _pump(cluster, task, stream, offset)
            failures = 0
        except (NodeGoneError, NoFileError):
            time.sleep(_LOOK)  # a file that is not there yet, or a node that was lost: the task's state will tell
        except ConnectionLostError as error:
            failures += 1
            if failures >= _TRIES:
                raise
            say(f"{error.message} Trying again.")
            time.sleep(_LOOK)


def _pump(cluster: Cluster, task: Task, stream: Stream, offset: int) -> int:
    """Print what the running attempt writes after ``offset`` until its task changes; how many bytes that was."""
    remote = _remote(cluster, task, stream)
    written = 0
    looked = time.monotonic()
    with remote.follow(offset) as running:
        while not running.ended:
            frame = running.read(_LOOK)
            if frame and frame.channel is Channel.STDOUT:
                _write(frame.data)
                written += len(frame.data)
            if time.monotonic() - looked >= _LOOK:
                looked = time.monotonic()
                now = parse(Task, cluster.get(TASKS, task.metadata.name)).status
                if (now.state, now.attempt) != (task.status.state, task.status.attempt):
                    return written
        remote.judge(running)
    return written


def _show_from(cluster: Cluster, task: Task, stream: Stream, offset: int) -> None:
    """Print what the task has written after ``offset``."""
    remote = _remote(cluster, task, stream)
    try:
        size = remote.measure()
        for piece in remote.read(offset, size):
            _write(piece)
    except (NodeGoneError, NoFileError) as error:
        if task.status.output is None:
            raise CliError(error.message, "The task's status keeps no output either.") from error
        kept = task.status.output.stdout if stream == "stdout" else task.status.output.stderr
        say(f"{error.message} These are the last lines, which the task's status keeps:")
        _write(kept.encode())


def _remote(cluster: Cluster, task: Task, stream: Stream) -> RemoteFile:
    return RemoteFile(cluster, node_of(task), directory(task) / f"{stream}.txt")


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
