"""Attempts of tasks on this node: their files, and how they are started and read.

An attempt is known by its key, ``<uid of the Task>-<number>``. What the agent knows of it lies in a file of its own, so
that a restarted agent goes on where the last one stopped; its launch script and exit code lie where the supervisor, in
the user's container, finds them.
"""

import itertools
import logging
import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from packhorse.domain.environment import PREFIX, task_directory
from packhorse.node import beneath
from packhorse.node.layout import RUN_MODE, Layout, quote
from packhorse.protocol import RunTask

_log = logging.getLogger(__name__)

LOST = "lost"
EXIT_CODE = re.compile(r"[0-9]{1,3}", re.ASCII)
OWN_FILES = ("launch", "launch.new", "started", "exit")
"""All that agent and supervisor put into the folder of an attempt."""
TAIL = 2048
"""Bytes of each output that go into the Task's status."""


class Record(msgspec.Struct, frozen=True):
    """What the agent keeps of an attempt on disk.

    Attributes:
        message: What the operator asked for.
        start_time: When, RFC 3339.
    """

    message: RunTask
    start_time: str

    @property
    def key(self) -> str:
        """Names the attempt on this node."""
        return attempt_key(self.message.uid, self.message.attempt)


def attempt_key(uid: str, attempt: int) -> str:
    """The name of an attempt on a node."""
    return f"{uid}-{attempt}"


@dataclass(frozen=True)
class Exit:
    """How an attempt ended: its exit code, or None where that is lost."""

    code: int | None


class AttemptFiles:
    """The files of all attempts on a node. Raises OSError."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def load(self) -> list[Record]:
        """All attempts that are not forgotten.

        A record that a power failure cut short is removed: the operator will notice that the attempt is missing.
        """
        decode = msgspec.json.Decoder(Record).decode
        found = []
        for path in sorted(self._layout.attempts.glob("*.json")):
            try:
                found.append(decode(path.read_bytes()))
            except msgspec.DecodeError as error:
                _log.warning("the record of attempt %s cannot be read and is removed: %s", path.stem, error)
                path.unlink()
        return found

    def keep(self, record: Record) -> None:
        """Remember an attempt."""
        path = self._layout.attempts / f"{record.key}.json"
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.rename(path)

    def make_launch(self, key: str, script: str) -> None:
        """Write the script that the supervisor is to run for an attempt."""
        with beneath.folder(self._layout.run) as run:
            beneath.make_folder(run, key, RUN_MODE)
        with beneath.folder(self._layout.run, key) as folder:
            beneath.write(folder, "launch", script.encode(), 0o640)

    def launched(self, key: str) -> float | None:
        """When the launch script of an attempt was written, seconds since 1970; None where it was not."""
        try:
            with beneath.folder(self._layout.run, key) as folder:
                return beneath.modified(folder, "launch") / 1e9
        except (FileNotFoundError, beneath.NotExpectedError):
            return None

    def exit(self, key: str) -> Exit | None:
        """How an attempt ended; None where it has not. What makes no sense there tells nothing: the end is lost."""
        try:
            with beneath.folder(self._layout.run, key) as folder:
                text = beneath.read_link(folder, "exit")
        except FileNotFoundError:
            return None
        except (beneath.NotExpectedError, PermissionError) as error:
            _log.warning("how attempt %s ended cannot be read: %s", key, error)
            return Exit(None)
        if EXIT_CODE.fullmatch(text):
            return Exit(int(text))
        if text != LOST:
            _log.warning("how attempt %s ended cannot be read: %.40r", key, text)
        return Exit(None)

    def outputs(self, message: RunTask) -> tuple[str, str]:
        """The ends of what the task wrote to its standard output and its standard error output."""
        names = task_directory(message.job_id, message.name).parts
        try:
            with beneath.folder(self._layout.root, *names) as folder:
                return _tail(folder, "stdout.txt"), _tail(folder, "stderr.txt")
        except OSError:
            return "", ""

    def forget(self, key: str) -> str | None:
        """Remove what is kept of an attempt; the task's own directory stays. Returns as ``clear`` does."""
        # The record first: with the record alone, the next agent would take the attempt for one to be launched.
        (self._layout.attempts / f"{key}.json").unlink(missing_ok=True)
        return self.clear(key)

    def clear(self, name: str) -> str | None:
        """Remove the folder of an attempt.

        Returns:
            The name of a folder that the supervisor has to remove, with the tasks' own rights: a task put something
            into this one. None where all is gone.
        """
        with beneath.folder(self._layout.run) as run:
            return beneath.remove_folder(run, name, OWN_FILES)

    def strays(self, known: Container[str | None]) -> list[str]:
        """Folders of attempts that nobody knows any more, or that a task made; a thousand at most."""
        with os.scandir(self._layout.run) as entries:
            folders = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            return list(itertools.islice((name for name in folders if name not in known), 1000))


def launch_script(message: RunTask, layout: Layout, node_environment: Mapping[str, str]) -> str:
    """The script of an attempt: a clean directory, the outputs, the variables, the command line.

    Args:
        message: What is to run.
        layout: Of the node.
        node_environment: What the supervisor was started with. The task has it too, but for package variables that the
            operator does not name for it: the default version may be another one by now.
    """
    busybox, folder = quote(str(layout.busybox)), quote(str(layout.root / task_directory(message.job_id, message.name)))
    environment: Mapping[str, str] = {
        **{name: value for name, value in node_environment.items() if not _inherited(name)},
        **message.environment,
    }
    gone = [name for name in node_environment if name.startswith(PREFIX) and name not in environment]
    clean = f"if [ -e {folder} ]; then {busybox} chmod -R u+rwX {folder}; {busybox} rm -rf {folder}; fi"
    key = attempt_key(message.uid, message.attempt)
    return script(layout, key, folder, environment, message.command_line, first=clean, without=gone)


def script(
    layout: Layout,
    key: str,
    folder: str,
    environment: Mapping[str, str],
    command_line: str,
    *,
    first: str,
    without: Sequence[str] = (),
) -> str:
    """A launch script.

    Args:
        layout: Of the node.
        key: Of the attempt; its processes are found by it.
        folder: Of the outputs, quoted; its ``wd`` is the working directory.
        environment: Variables to set.
        command_line: For a shell.
        first: A line that is run before the folder is made.
        without: Variables of the supervisor's that it shall not have.
    """
    busybox = quote(str(layout.busybox))
    words = ["env", *(word for name in without for word in ("-u", name)), "--"]
    words += [f"{name}={value}" for name, value in {**environment, "PACKHORSE_ATTEMPT": key}.items()]
    words += ["/bin/sh", "-c", command_line]
    return "\n".join(
        [
            "umask 022",
            first,
            f"{busybox} mkdir -p {folder}/wd && cd {folder}/wd || exit 126",
            f"exec >{folder}/stdout.txt 2>{folder}/stderr.txt </dev/null",
            f'export PATH="$PATH:{layout.root}/shared":{folder}/wd',
            f"exec {busybox} {' '.join(quote(word) for word in words)}",
            "",
        ]
    )


def _inherited(name: str) -> bool:
    """Whether a task has a variable of its node anyway, or shall not: shells drop names that they cannot export."""
    return name.startswith(PREFIX) or re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) is not None


def _tail(folder: int, name: str) -> str:
    """The last lines of a file, whole ones where there is a line end at all; empty where there is no file."""
    try:
        data, size = beneath.read_end(folder, name, TAIL)
    except OSError:
        return ""
    if size > TAIL and b"\n" in data[:-1]:
        data = data[data.index(b"\n") + 1 :]
    return data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
