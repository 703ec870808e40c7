"""Which names an entry may have, and which names are the same on some file system."""

import re
import unicodedata

from packhorse.archive.errors import ArchiveError
from packhorse.archive.limits import Limits

NAME_MAX = 255
"""Bytes of one name in a path that Linux file systems take."""

DRIVE = re.compile(r"[A-Za-z]:")
PLAIN = re.compile(r"[A-Za-z0-9._+ -]{1,255}")


def split_name(name: str, limits: Limits) -> list[str]:
    """Return the parts of an entry's name, which has no trailing slash.

    Raises:
        ArchiveError: It would lie outside of the package, has more than one spelling, or no file system takes it.
    """
    if "\0" in name:
        raise ArchiveError("has a NUL character in its name", entry=name)
    if "\\" in name:
        raise ArchiveError("has a backslash in its name; the ZIP format separates folders by '/'", entry=name)
    if name.startswith("/"):
        raise ArchiveError("has an absolute name", entry=name)
    if DRIVE.match(name):
        raise ArchiveError("has a name that starts with a drive letter", entry=name)
    parts = name.split("/")
    if ".." in parts:
        raise ArchiveError("has '..' in its name", entry=name)
    if "." in parts or "" in parts:
        raise ArchiveError("has an empty part or '.' in its name", entry=name)
    _check_lengths(name, parts, limits)
    return parts


def is_plain(name: str, last: str, limits: Limits) -> bool:
    """Whether a name is surely good, if the folder that it is in is one: this asks less, and may say no to good ones.

    Args:
        name: An entry's name, in a folder that ``split_name`` found good.
        last: Its last part.
        limits: How long it may be.
    """
    return (
        PLAIN.fullmatch(last) is not None
        and last not in (".", "..")
        and len(name) <= limits.path_length
        # Of a name without a folder the beginning was judged with nothing.
        and len(name) > len(last)
        and name.isascii()
    )


def _check_lengths(name: str, parts: list[str], limits: Limits) -> None:
    if len(parts) > limits.depth:
        raise ArchiveError(
            f"lies {len(parts)} folders deep, the limit is {limits.depth}",
            entry=name,
            remedy="Pack fewer levels, or have the limit raised.",
        )
    if len(name.encode()) > limits.path_length:
        raise ArchiveError(
            f"has a path of {len(name.encode())} bytes, the limit is {limits.path_length}",
            entry=name,
            remedy="Shorten it, or have the limit raised.",
        )
    for part in parts:
        if len(part.encode()) > NAME_MAX:
            raise ArchiveError(
                f"has a name of {len(part.encode())} bytes, and no file system takes more than {NAME_MAX}",
                entry=name,
                remedy="Shorten it.",
            )


def fold(path: str) -> str:
    """Return what two paths have in common if some file system takes them for one: letter case and composition."""
    if path.isascii():
        folded = path.lower()
        # Most are in lower case: then one string does for both.
        return path if folded == path else folded
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
