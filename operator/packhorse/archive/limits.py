"""How much a package may hold, and how much one does hold."""

from dataclasses import dataclass

GIB = 1 << 30
MIB = 1 << 20


DIRECTORY_SIZE = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on a package; generous by default, since a cap that honest packages meet is a fault of its own.

    Attributes:
        files: Files, links and folders together; folders count also where only the files in them are listed.
        file_size: Bytes of one file, unpacked.
        total_size: Bytes of all files, unpacked.
        ratio: Bytes of all files, unpacked, over bytes of the ZIP file. Deflate cannot exceed 1,032.
        path_length: Bytes of a path, in UTF-8, also of what a symbolic link points to.
        depth: Names in a path.
        directory_size: Bytes of the ZIP file's central directory: it bounds the memory that judging a package takes.
    """

    files: int = 250_000
    file_size: int = 64 * GIB
    total_size: int = 256 * GIB
    ratio: int = 500
    path_length: int = 1024
    depth: int = 64
    directory_size: int = DIRECTORY_SIZE


def directory_size(files: int) -> int:
    """Bytes of a central directory that so many files may take: on average 256 a file, and never less than usual."""
    return max(DIRECTORY_SIZE, 256 * files)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a package holds.

    Attributes:
        files: Files and symbolic links, without folders.
        unpacked_size: Bytes of all files, unpacked.
    """

    files: int
    unpacked_size: int
