"""Submitting tasks, and copying their files."""

import re
import secrets
import sys
from pathlib import Path
from typing import Any

from packhorse.cli import duration, files, output, references, waiting
from packhorse.cli.cluster import TASKS, Json
from packhorse.cli.connection import connect
from packhorse.cli.errors import UsageError
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.cli.progress import meter
from packhorse.model import Task
from packhorse.model.meta import API_VERSION

_LITERAL = re.compile(r'["\\`]|\$(?![A-Za-z_{])')  # what would mean something inside double quotes


def manifest(
    command: list[str], *, pool: str, name: str | None, job: str | None, packages: list[str], environment: list[str]
) -> Json:
    """A Task as it goes to the API server.

    Args:
        command: A command line, or a program and its arguments.
        pool: Name of the pool.
        name: Name of the task; None for a random one.
        job: Id of the job; None for the default one.
        packages: ``app``, ``app#version`` or ``app:version`` each.
        environment: ``NAME=VALUE`` each.

    Raises:
        UsageError: A reference or a variable is none.
    """
    spec: dict[str, Any] = {"pool": pool, "commandLine": command_line(command)}
    if job:
        spec["jobId"] = job
    if packages:
        spec["applicationPackageReferences"] = [references.parse(text).dump() for text in packages]
    if environment:
        spec["environmentSettings"] = [_setting(text) for text in environment]
    metadata = {"name": name or f"task-{secrets.token_hex(4)}"}
    return {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": spec}


def submit(target: Target, task: Json, form: Output | None, *, wait: bool, timeout: str) -> None:
    """Create a task, and wait for it where that is wanted."""
    limit = duration.seconds(timeout)
    with connect(target) as cluster:
        created = cluster.create(TASKS, task)
        name = created["metadata"]["name"]
        if form in {Output.YAML, Output.JSON, Output.NAME}:
            print(output.one_object(created, TASKS.singular, form), flush=True)
        else:
            print(f"task/{name} created", flush=True)
        if wait:
            waiting.wait_on(cluster, waiting.Choice((name,)), limit)


def copy_file(target: Target, source: str, destination: Path) -> None:
    """Copy one file, named as ``NAME:PATH``, from a task's node to a file or a directory here, or to stdout (``-``)."""
    name, colon, path = source.partition(":")
    if not (name and colon and path):
        raise UsageError(f"'{source}' is not NAME:PATH, such as frame-007:frame.png.")
    with connect(target) as cluster:
        task = parse(Task, cluster.get(TASKS, name))
        remote = files.RemoteFile(cluster, files.node_of(task), files.locate(task, path))
        size = remote.measure()
        if str(destination) == "-":
            for piece in remote.read(0, size):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        if destination.is_dir():
            destination /= remote.path.name
        with meter(f"Copying {remote.path.name}", size, "bytes", quiet=True) as advance:
            remote.copy(destination, size, advance)
        print(f"{destination} ({output.size(size)})")


def command_line(words: list[str]) -> str:
    """What /bin/sh gets.

    One word is a command line already. Several are put in double quotes, so that each stays one word and variables in
    them are still found on the node.
    """
    if len(words) == 1:
        return words[0]
    return " ".join(
        word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f'"{_LITERAL.sub(_escaped, word)}"' for word in words
    )


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


def _setting(text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--env {text}: write NAME=VALUE.")
    return {"name": name, "value": value}
