"""A ZIP file that is to be a package: its digest, and whether every node would take it."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packhorse.archive import ArchiveError, Limits, Summary, inspect
from packhorse.cli import output
from packhorse.cli.errors import CliError
from packhorse.cli.progress import Advance, meter

_READ = 1 << 20

DIGITS = 12
"""Hexadecimal digits of a digest that people see."""


@dataclass(frozen=True)
class Content:
    """A ZIP file that was found good.

    Attributes:
        path: Where it is.
        size: Its length in bytes.
        sha256: Its digest, in lower-case hexadecimal digits.
        files: How many files are in it.
        mark: What changes when the file is changed.
    """

    path: Path
    size: int
    sha256: str
    files: int
    mark: tuple[int, ...]

    def __str__(self) -> str:
        """Size, number of files, and the digest's first digits."""
        return f"{output.size(self.size)}, {output.plural(self.files, 'file')}, sha256 {self.sha256[:DIGITS]}"

    def check_unchanged(self) -> None:
        """Raise CliError where the file is no longer what it was."""
        try:
            now = _mark(self.path)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if now != self.mark:
            raise CliError(f"{self.path} was changed meanwhile.", "Run the command again when nothing writes to it.")


def judge(path: Path) -> Content:
    """Judge a ZIP file as the operator and the nodes will, and read its digest.

    Every file in it is unpacked and thrown away: so damage is found here, and not after the upload.

    Raises:
        CliError: It cannot be a package, or cannot be read.
    """
    try:
        mark = _mark(path)
        size = path.stat().st_size
        with meter(f"Checking {path.name}", size, "bytes", quiet=True) as advance:
            summary = _inspect(path, advance)
        found = Content(path, size, digest(path), summary.files, mark)
    except ArchiveError as error:
        raise CliError(f"{path} cannot be a package. {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    found.check_unchanged()
    return found


def judge_by(content: Content, limits: Limits) -> None:
    """Judge it again, by other limits than the usual ones.

    Raises:
        CliError: It is beyond them.
    """
    try:
        with content.path.open("rb") as stream:
            inspect(stream, limits)
    except ArchiveError as error:
        raise CliError(f"{content.path} cannot be a package of this installation. {error}") from error
    except OSError as error:
        raise _unreadable(content.path, error) from error


def digest(path: Path, label: str = "") -> str:
    """SHA-256 of a file, in lower-case hexadecimal digits; ``label`` names it to the user. Raises OSError."""
    result = hashlib.sha256()
    done = 0
    with (
        meter(f"Reading {label or path.name}", path.stat().st_size, "bytes", quiet=True) as advance,
        path.open("rb", buffering=0) as stream,
    ):
        while piece := stream.read(_READ):
            result.update(piece)
            done += len(piece)
            advance(done)
    return result.hexdigest()


class _Watched(io.FileIO):
    """A file that tells how far it was read."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path)
        self._advance = advance
        self._told = 0

    def readinto(self, buffer: Any) -> int:
        """Read, as any file does."""
        count = super().readinto(buffer)
        if self.tell() - self._told >= _READ:
            self._told = self.tell()
            self._advance(self._told)
        return count


def _inspect(path: Path, advance: Advance) -> Summary:
    with io.BufferedReader(_Watched(path, advance)) as stream:
        return inspect(stream, unpack=True)


def _mark(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _unreadable(path: Path, error: OSError) -> CliError:
    return CliError(f"{path} cannot be read: {error.strerror or error}.")
