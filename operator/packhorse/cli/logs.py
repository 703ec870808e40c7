"""What a task wrote: from its node while that is there, else what its status kept."""

import time
from functools import partial
from typing import Literal

from packhorse.cli.cluster import TASKS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError, ConnectionLostError
from packhorse.cli.files import NodeGoneError, NoFileError, RemoteFile, directory, node_of
from packhorse.cli.options import Target
from packhorse.cli.output import say
from packhorse.cli.parsing import parse
from packhorse.cli.streaming import LOOK, Cursor, print_from, pump, write
from packhorse.model import Task, TaskState

Stream = Literal["stdout", "stderr"]

_TRIES = 5


def show(target: Target, name: str, stream: Stream) -> None:
    """Print what there is now."""
    with connect(target) as cluster:
        _show_from(cluster, parse(Task, cluster.get(TASKS, name)), stream, Cursor())


def follow(target: Target, name: str, stream: Stream) -> None:
    """Print what comes until the task is completed; a further attempt is announced and begins anew."""
    with connect(target) as cluster:
        _follow(cluster, name, stream)


def _follow(cluster: Cluster, name: str, stream: Stream) -> None:
    attempt = failures = 0
    cursor = Cursor()
    said = ""
    while True:
        task = parse(Task, cluster.get(TASKS, name))
        if task.status.state in {TaskState.ACTIVE, TaskState.PREPARING}:
            if said != task.status.state:
                said = task.status.state
                say(f"Task {name} is {said}: waiting until it runs.")
            time.sleep(LOOK)
            continue
        if task.status.attempt != attempt:
            if attempt:
                say(f"Task {name} was run again: attempt {task.status.attempt} on node {task.status.node_name}.")
            attempt, cursor = task.status.attempt, Cursor()
        if task.status.state is TaskState.COMPLETED:
            _show_from(cluster, task, stream, cursor)
            return
        try:
            pump(_remote(cluster, task, stream), cursor, partial(_has_changed, cluster, task))
            failures = 0
        except (NodeGoneError, NoFileError):
            time.sleep(LOOK)  # a file that is not there yet, or a node that was lost: the task's state will tell
        except ConnectionLostError as error:
            failures += 1
            if failures >= _TRIES:
                raise
            say(f"{error.message} Trying again.")
            time.sleep(LOOK)


def _has_changed(cluster: Cluster, task: Task) -> bool:
    now = parse(Task, cluster.get(TASKS, task.metadata.name)).status
    return (now.state, now.attempt) != (task.status.state, task.status.attempt)


def _show_from(cluster: Cluster, task: Task, stream: Stream, cursor: Cursor) -> None:
    """Print what the task has written after the cursor."""
    try:
        print_from(_remote(cluster, task, stream), cursor)
    except (NodeGoneError, NoFileError) as error:
        if task.status.output is None:
            raise CliError(error.message, "The task's status keeps no output either.") from error
        kept = task.status.output.stdout if stream == "stdout" else task.status.output.stderr
        say(f"{error.message} These are the last lines, which the task's status keeps:")
        write(kept.encode())


def _remote(cluster: Cluster, task: Task, stream: Stream) -> RemoteFile:
    return RemoteFile(cluster, node_of(task), directory(task) / f"{stream}.txt")
