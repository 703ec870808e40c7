"""Where things lie on a node's volume, and the files by which agent and supervisor talk.

The user's container sees ``bin`` (to read) and ``run``, never ``agent``. Tasks run as one user on a node, as with
Batch's auto-user of the pool: they are kept apart from the agent, not from each other. One can read another's files,
its launch script and its environment, and end it.
"""

import contextlib
import os
import stat
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from packhorse.node import beneath

BUSYBOX = Path("/usr/lib/packhorse/busybox")
"""The static busybox in our own image."""

SHARED_MODE = 0o2775
"""Folders that tasks write to: the group of a node's processes owns them, and what is made in them."""
RUN_MODE = 0o2770
FIFO_MODE = 0o660


class Layout:
    """The paths below a node's root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        own = root / ".packhorse"
        self.bin = own / "bin"
        self.run = own / "run"
        self.agent = own / "agent"
        self.requests = self.run / "requests"
        self.results = self.run / "results"
        self.booted = self.run / "booted"
        self.deployed = self.agent / "deployed.json"
        self.attempts = self.agent / "attempts"
        self.start_task = self.agent / "start-task.json"
        self.removals = self.agent / "removals.json"
        self.cut_off = self.agent / "cut-off"
        self.startup = root / "startup"
        self.start = self.bin / "start"
        self.busybox = self.bin / "busybox"

    def prepare(self, busybox: Path = BUSYBOX) -> None:
        """Make every folder, the FIFOs and the supervisor; what earlier starts left stays. Raises OSError.

        What tasks put in the way of ours goes.
        """
        with beneath.folder(self.root) as root:
            for name in ("applications", ".packhorse"):
                beneath.make_folder(root, name, 0o755)
            for name in ("shared", "startup", "fsmounts", "workitems"):
                beneath.make_folder(root, name, SHARED_MODE)
        with beneath.folder(self.root, "startup") as startup:
            beneath.make_folder(startup, "wd", SHARED_MODE)
        with beneath.folder(self.root, ".packhorse") as own:
            beneath.make_folder(own, "bin", 0o755)
            beneath.make_folder(own, "run", RUN_MODE)
            beneath.make_folder(own, "agent", 0o700)
        with beneath.folder(self.agent) as agent:
            beneath.make_folder(agent, "attempts", 0o700)
        with beneath.folder(self.run) as run:
            for fifo in (self.requests, self.results):
                beneath.make_fifo(run, fifo.name, FIFO_MODE)
            beneath.remove(run, self.booted.name)
        self.cut_off.unlink(missing_ok=True)
        script = resources.files("packhorse.node").joinpath("supervisor.sh").read_bytes()
        _replace(self.bin / "supervisor", script, 0o644)
        _replace(self.busybox, busybox.read_bytes(), 0o755)

    def is_up(self) -> bool:
        """Whether the supervisor has said so since the node started."""
        return os.path.lexists(self.booted)

    def write_start(self, environment: Mapping[str, str]) -> None:
        """Write the script that starts the supervisor with these variables."""
        words = [str(self.busybox), "env", "--", *(f"{name}={value}" for name, value in environment.items())]
        words += [str(self.busybox), "sh", str(self.bin / "supervisor"), str(self.root)]
        _replace(self.start, f"exec {' '.join(quote(word) for word in words)}\n".encode(), 0o644)

    def write_deployed(self, deployed: bytes) -> None:
        """Write what the agent has to know of the pool."""
        _replace(self.deployed, deployed, 0o600)


def quote(word: str) -> str:
    """A word as any POSIX shell reads it back."""
    return "'" + word.replace("'", "'\\''") + "'"


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that a reader sees the old or the new one, whole.

    One that is as it should be is left alone: a node whose disk is full has to come up, so that somebody can clear it.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content and stat.S_IMODE(path.stat().st_mode) == mode:
            return
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.rename(path)
