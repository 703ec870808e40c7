"""Where things lie on a node's volume, and the files by which agent and supervisor talk.

The user's container sees ``bin`` (to read) and ``run``, never ``agent``.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

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
        self.start = self.bin / "start"
        self.busybox = self.bin / "busybox"

    def prepare(self, busybox: Path = BUSYBOX) -> None:
        """Make every folder, the FIFOs and the supervisor; what earlier starts left stays. Raises OSError."""
        _folder(self.root / "applications", 0o755)
        for name in ("shared", "startup", "startup/wd", "fsmounts", "workitems"):
            _folder(self.root / name, SHARED_MODE)
        _folder(self.root / ".packhorse", 0o755)
        _folder(self.bin, 0o755)
        _folder(self.run, RUN_MODE)
        _folder(self.agent, 0o700)
        _folder(self.attempts, 0o700)
        for fifo in (self.requests, self.results):
            if not (fifo.exists() and stat.S_ISFIFO(fifo.stat().st_mode)):
                fifo.unlink(missing_ok=True)
                os.mkfifo(fifo)
            fifo.chmod(FIFO_MODE)
        self.booted.unlink(missing_ok=True)
        script = resources.files("packhorse.node").joinpath("supervisor.sh").read_bytes()
        _replace(self.bin / "supervisor", script, 0o644)
        temporary = self.bin / ".busybox"
        shutil.copyfile(busybox, temporary)
        temporary.chmod(0o755)
        temporary.rename(self.busybox)

    def write_start(self, environment: Mapping[str, str]) -> None:
        """Write the script that starts the supervisor with these variables."""
        words = [str(self.busybox), "env", "--", *(f"{name}={value}" for name, value in environment.items())]
        words += [str(self.busybox), "sh", str(self.bin / "supervisor"), str(self.root)]
        _replace(self.start, f"exec {' '.join(quote(word) for word in words)}\n".encode(), 0o644)


def quote(word: str) -> str:
    """A word as any POSIX shell reads it back."""
    return "'" + word.replace("'", "'\\''") + "'"


def _folder(path: Path, mode: int) -> None:
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that a reader sees the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.rename(path)
