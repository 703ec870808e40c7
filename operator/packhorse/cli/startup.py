"""What a node's start task wrote."""

import time
from functools import partial

from packhorse.cli.cluster import POOLS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError, ConnectionLostError
from packhorse.cli.files import ROOT, NodeGoneError, NoFileError, RemoteFile
from packhorse.cli.logs import Stream
from packhorse.cli.nodes import Node, find
from packhorse.cli.options import Target
from packhorse.cli.output import say
from packhorse.cli.parsing import parse
from packhorse.cli.streaming import LOOK, Cursor, print_from, pump
from packhorse.model import Pool
from packhorse.model.node import StartTaskInfo

_TRIES = 5


def show(target: Target, name: str, stream: Stream) -> None:
    """Print what there is now.

    Raises:
        CliError: There is no such node, or nothing that its start task wrote.
    """
    with connect(target) as cluster:
        node = _find(cluster, name)
        try:
            print_from(_remote(cluster, name, stream), Cursor())
        except NoFileError as error:
            raise _nothing(node) from error
        except NodeGoneError as error:
            raise CliError(error.message, f"Its containers run once packages are installed: {_see(name)}") from error


def follow(target: Target, name: str, stream: Stream) -> None:
    """Print what comes until the start task is completed; a further attempt is announced and begins anew.

    Raises:
        CliError: There is no such node, or its pool has no start task.
    """
    with connect(target) as cluster:
        node = _find(cluster, name)
        cursor, info = Cursor(), _info(node.pool, name)
        failures = 0
        while info is None or info.state == "running":
            try:
                pump(_remote(cluster, name, stream), cursor, partial(_has_changed, cluster, node, info))
                failures = 0
            except (NodeGoneError, NoFileError):
                time.sleep(LOOK)  # it has not begun yet
            except ConnectionLostError as error:
                failures += 1
                if failures >= _TRIES:
                    raise
                say(f"{error.message} Trying again.")
                time.sleep(LOOK)
            now = _look(cluster, node)
            if now and info and now.start_time != info.start_time:
                say(f"The start task was run again: retry {now.retry_count}.")
                cursor = Cursor()
            info = now
        try:
            print_from(_remote(cluster, name, stream), cursor)
        except NoFileError as error:
            raise _nothing(node) from error


def _find(cluster: Cluster, name: str) -> Node:
    node = find(cluster, name)
    if node.pool.spec.start_task is None and _info(node.pool, name) is None:
        pool = node.pool.metadata.name
        raise CliError(
            f"Node {name} has no start task: pool {pool} says none.", "What a task wrote: packhorse task logs"
        )
    return node


def _info(pool: Pool, name: str) -> StartTaskInfo | None:
    return next((node.start_task_info for node in pool.status.nodes if node.name == name), None)


def _look(cluster: Cluster, node: Node) -> StartTaskInfo | None:
    return _info(parse(Pool, cluster.get(POOLS, node.pool.metadata.name)), node.name)


def _has_changed(cluster: Cluster, node: Node, before: StartTaskInfo | None) -> bool:
    """Whether it is another attempt, or the last one is over."""
    now = _look(cluster, node)
    return (now and (now.start_time, now.state)) != (before and (before.start_time, before.state))


def _remote(cluster: Cluster, name: str, stream: Stream) -> RemoteFile:
    return RemoteFile(cluster, name, ROOT / "startup" / f"{stream}.txt")


def _nothing(node: Node) -> CliError:
    info = _info(node.pool, node.name)
    state = f"it is {info.state}" if info else "it has not begun"
    return CliError(f"The start task of node {node.name} has written nothing: {state}.", _see(node.name))


def _see(name: str) -> str:
    return f"See how far the node is: packhorse node show {name}"
