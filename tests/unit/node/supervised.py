"""A supervisor that really runs, in a PID namespace of its own: there it is process 1, as in a container.

It signals whatever carries an attempt's variable; outside of a namespace that could be somebody else's process.
"""

import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

from packhorse.node.layout import BUSYBOX, Layout
from tests.cluster import apt
from tests.cluster.cache import Cache

PATIENCE = 30.0
"""Seconds until something that does not happen fails a test."""


def find_busybox() -> Path:
    """A busybox, installed if need be. Raises ClusterError, which says what to install, where there is none."""
    if BUSYBOX.exists():
        return BUSYBOX
    if not shutil.which("busybox"):
        apt.install(Cache(), {"busybox-static": "busybox"}, "Testing what runs on nodes")
    found = shutil.which("busybox")
    assert found is not None
    return Path(found).resolve()


class Supervisor:
    """The supervisor of a node, and this test in place of its agent."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._results = os.open(layout.results, os.O_RDWR | os.O_NONBLOCK)
        self._requests = os.open(layout.requests, os.O_RDWR | os.O_NONBLOCK)
        self._told = b""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str] | None = None, *, wait: bool = True) -> None:
        """Start it; with ``wait`` take the line that says so."""
        namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if os.geteuid() != 0:
            namespace += ["--user", "--map-root-user"]
        self._process = subprocess.Popen(
            [*namespace, self.layout.busybox, "sh", self.layout.bin / "supervisor", self.layout.root],
            env={"PATH": os.environ["PATH"], **(environment or {})},
        )
        if wait:
            assert self.line() == "booted"

    def close(self) -> None:
        """Kill it with all that it started."""
        self.kill()
        os.close(self._results)
        os.close(self._requests)

    def kill(self) -> None:
        """As when the container is killed: every process of it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        os.kill(int(children[0]), number)

    def freeze(self) -> None:
        """Have it do nothing; what it started goes on."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> int:
        """As when the container is asked to end; its exit code."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        code = self._process.wait(PATIENCE)
        self._process = None
        return code

    def ask(self, line: str) -> None:
        os.write(self._requests, f"\n{line}\n".encode())

    def line(self) -> str:
        """The next line of the FIFO of results that is not empty."""
        deadline = time.monotonic() + PATIENCE
        self._told = self._told.lstrip(b"\n")
        while b"\n" not in self._told:
            ready, _, _ = select.select([self._results], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the supervisor told nothing in {PATIENCE:g} s"
            self._told = (self._told + os.read(self._results, 65536)).lstrip(b"\n")
        line, _, self._told = self._told.partition(b"\n")
        return line.decode()

    def run(self, key: str, script: str) -> None:
        """Have a script run as an attempt."""
        folder = self.layout.run / key
        folder.mkdir()
        (folder / "launch").write_text(script)
        self.ask(f"run {key}")

    def exit(self, key: str) -> str:
        """What is said about the end of an attempt."""
        return str((self.layout.run / key / "exit").readlink())


def eventually(happens: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + PATIENCE
    while not happens.exists():
        assert time.monotonic() < deadline, f"{happens} did not appear in {PATIENCE:g} s"
        os.sched_yield()
        select.select([], [], [], 0.005)
