"""The agent's ends of the two FIFOs by which it talks with the supervisor in the user's container.

Tasks can write to both FIFOs too, and remove them. So every line begins with a line end of its own, which closes what
somebody may have left unfinished before it; a line of any length takes little memory; and a FIFO that is no longer the
one of its name is made anew. The supervisor gets hold of the new one when the user's container starts again.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable

from packhorse.node import beneath
from packhorse.node.layout import FIFO_MODE, Layout
from packhorse.protocol import Detail, Problem

_log = logging.getLogger(__name__)

BOOTED = "booted"
LONGEST_LINE = 1024

CUT_OFF = Problem(
    "Unknown",
    "The node's agent cannot reach the supervisor in the user's container",
    (Detail("Message", "A task removed a FIFO in .packhorse/run. Restart the node."),),
)


class Supervision:
    """Asks the supervisor, and hears what it says.

    Args:
        layout: Of the node.
        on_line: Gets every line that the supervisor, or a task, wrote.
        on_cut_off: Called with True when a FIFO had to be made anew, also by an agent before this one: the supervisor
            hears nothing until it starts again. Then it is called with False.
    """

    def __init__(self, layout: Layout, on_line: Callable[[str], None], on_cut_off: Callable[[bool], None]) -> None:
        self._layout = layout
        self._on_line = on_line
        self._on_cut_off = on_cut_off
        self._requests = self._results = -1
        self._waiting: deque[bytes] = deque()
        self._unfinished = b""

    def open(self) -> None:
        """Begin to listen. Raises OSError."""
        if not self._open():
            self._renew()
        elif self._layout.cut_off.exists():
            self._on_cut_off(True)

    def close(self) -> None:
        """Listen no more."""
        loop = asyncio.get_running_loop()
        for descriptor in (self._requests, self._results):
            if descriptor >= 0:
                loop.remove_reader(descriptor)
                loop.remove_writer(descriptor)
                os.close(descriptor)
        self._requests = self._results = -1

    def ask(self, line: str) -> None:
        """Have the supervisor do something; a line waits while the FIFO is full."""
        with beneath.folder(self._layout.run) as run:
            intact = beneath.is_there(run, self._layout.requests.name, self._requests) and beneath.is_there(
                run, self._layout.results.name, self._results
            )
        if not intact:
            self.close()
            self._renew()
        self._waiting.append(f"\n{line}\n".encode())
        if len(self._waiting) == 1:
            self._write()

    def _open(self) -> bool:
        with beneath.folder(self._layout.run) as run:
            try:
                self._requests = beneath.open_fifo(run, self._layout.requests.name)
                self._results = beneath.open_fifo(run, self._layout.results.name)
            except (FileNotFoundError, PermissionError, beneath.NotExpectedError) as error:
                _log.error("%s", error)
                self.close()
                return False
        asyncio.get_running_loop().add_reader(self._results, self._read)
        return True

    def _renew(self) -> None:
        _log.error("a FIFO of the supervisor's was removed; both are made anew")
        with beneath.folder(self._layout.run) as run:
            for fifo in (self._layout.requests, self._layout.results):
                beneath.remove(run, fifo.name)
                beneath.make_fifo(run, fifo.name, FIFO_MODE)
        self._unfinished = b""
        if not self._open():
            raise beneath.NotExpectedError(str(self._layout.run), "folder with two FIFOs")
        self._layout.cut_off.touch()
        self._on_cut_off(True)

    def _write(self) -> None:
        """Write what fits; a line as short as these is taken whole or not at all."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            try:
                os.write(self._requests, self._waiting[0])
            except BlockingIOError:
                loop.add_writer(self._requests, self._write)
                return
            self._waiting.popleft()
        loop.remove_writer(self._requests)

    def _read(self) -> None:
        try:
            data = os.read(self._results, 65536)
        except BlockingIOError:  # somebody else has read it
            return
        *lines, unfinished = (self._unfinished + data).split(b"\n")
        # Nothing of ours is as long; its other end will make no sense either.
        self._unfinished = unfinished if len(unfinished) <= LONGEST_LINE else b""
        for line in dict.fromkeys(lines):
            if line == BOOTED.encode() and self._layout.cut_off.exists():
                self._layout.cut_off.unlink()
                self._on_cut_off(False)
            if line and len(line) <= LONGEST_LINE:
                self._on_line(line.decode(errors="replace"))
