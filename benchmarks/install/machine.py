"""The machine that the benchmark runs on: brought into the same state before each turn."""

import os
import re
from pathlib import Path

MIB = 1 << 20
FREE = 1536 * MIB
"""Bytes of memory that are left free: the rest holds cached pages of files."""


class Memory:
    """Keeps memory filled with cached file pages, as it is on a machine that has run for a while.

    A virtual machine may hand free memory back to its host, and then pays for the first touch of each page: seconds per
    gigabyte here, at random. Filled memory is reused at once. The pages belong to a sparse file: they cost no disk, and
    the kernel drops them as soon as somebody needs room.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "sparse", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, 1 << 40)
        (folder / "sparse").unlink()
        self._position = 0

    def fill(self) -> None:
        """Fill what is free now."""
        while (free := _free()) > FREE:
            for _ in range(min(free - FREE, 256 * MIB) // MIB + 1):
                os.pread(self._file, MIB, self._position)
                self._position += MIB

    def close(self) -> None:
        """Give all of it back."""
        os.close(self._file)


def _free() -> int:
    found = re.search(r"MemFree: +(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0
