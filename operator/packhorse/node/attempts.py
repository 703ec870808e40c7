"""Attempts of tasks on this node: their files, and how they are started and read.

An attempt is known by its key, ``<uid of the Task>-<number>``. What the agent knows of it lies in a file of its own, so
that a restarted agent goes on where the last one stopped; its launch script and exit code lie where the supervisor, in
the user's container, finds them.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from packhorse.domain.environment import PREFIX, task_directory
from packhorse.node.layout import RUN_MODE, Layout, quote
from packhorse.protocol import RunTask

_log = logging.getLogger(__name__)

LOST = "lost"
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

    def make_launch(self, record: Record, node_environment: Mapping[str, str]) -> None:
        """Write the script that the supervisor is to run; see ``launch_script``."""
        folder = self._layout.run / record.key
        folder.mkdir(exist_ok=True)
        folder.chmod(RUN_MODE)
        script = launch_script(record.message, self._layout, node_environment)
        temporary = folder / "launch.new"
        temporary.write_text(script)
        temporary.chmod(0o640)
        temporary.rename(folder / "launch")

    def launched(self, key: str) -> float | None:
        """When the launch script of an attempt was written, seconds since 1970; None where it was not."""
        try:
            return (self._layout.run / key / "launch").stat().st_mtime
        except FileNotFoundError:
            return None

    def exit(self, key: str) -> Exit | None:
        """How an attempt ended; None where it has not."""
        try:
            text = (self._layout.run / key / "exit").read_text().strip()
        except FileNotFoundError:
            return None
        return Exit(None if text == LOST else int(text))

    def outputs(self, message: RunTask) -> tuple[str, str]:
        """The ends of what the task wrote to its standard output and its standard error output."""
        folder = self._layout.root / task_directory(message.job_id, message.name)
        return _tail(folder / "stdout.txt"), _tail(folder / "stderr.txt")

    def forget(self, key: str) -> None:
        """Remove what is kept of an attempt; the task's own directory stays."""
        shutil.rmtree(self._layout.run / key, ignore_errors=True)
        (self._layout.attempts / f"{key}.json").unlink(missing_ok=True)


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
        "PACKHORSE_ATTEMPT": attempt_key(message.uid, message.attempt),
    }
    gone = [name for name in node_environment if name.startswith(PREFIX) and name not in environment]
    words = ["env", *(word for name in gone for word in ("-u", name)), "--"]
    words += [f"{name}={value}" for name, value in environment.items()]
    words += ["/bin/sh", "-c", message.command_line]
    return "\n".join(
        [
            "umask 022",
            f"if [ -e {folder} ]; then {busybox} chmod -R u+rwX {folder}; {busybox} rm -rf {folder}; fi",
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


def _tail(path: Path) -> str:
    """The last lines of a file, whole ones where there is a line end at all; empty where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            data = file.read(TAIL)
    except OSError:
        return ""
    if size > TAIL and b"\n" in data[:-1]:
        data = data[data.index(b"\n") + 1 :]
    return data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
