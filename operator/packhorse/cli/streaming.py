"""Printing a file of a node as it grows."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from packhorse.cli.exec import Channel
from packhorse.cli.files import RemoteFile

LOOK = 1.0
"""Seconds between two looks at what writes the file."""


@dataclass
class Cursor:
    """How far a file was printed."""

    offset: int = 0


def pump(remote: RemoteFile, cursor: Cursor, is_over: Callable[[], bool]) -> None:
    """Print what is written to a file after the cursor, until nobody writes to it any more.

    The cursor moves with what is printed, so that after an error nothing is printed twice.

    Args:
        remote: The file.
        cursor: Where to begin.
        is_over: Asked about once a second whether it is no longer written, or anew.

    Raises:
        NodeGoneError: The node is not there.
        NoFileError: The file is not.
        ConnectionLostError: The connection broke off.
    """
    looked = time.monotonic()
    with remote.follow(cursor.offset) as running:
        while not running.ended:
            frame = running.read(LOOK)
            if frame and frame.channel is Channel.STDOUT:
                write(frame.data)
                cursor.offset += len(frame.data)
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                if is_over():
                    return
        remote.judge(running)


def print_from(remote: RemoteFile, cursor: Cursor) -> None:
    """Print what a file holds now after the cursor.

    Raises:
        NodeGoneError: The node is not there.
        NoFileError: The file is not.
        ConnectionLostError: The connection broke off, again and again.
    """
    size = remote.measure()
    for piece in remote.read(cursor.offset, size):
        write(piece)
        cursor.offset += len(piece)


def write(data: bytes) -> None:
    """Print bytes as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
