"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def written_whole(destination: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside the destination, open for writing, and its path; it takes the destination's place at the end.

    When the block raises, the destination stays as it was, and the new file is removed.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield cast("BinaryIO", file), part
        part.chmod(_mode_of_new_files())
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)


def _mode_of_new_files() -> int:
    """The mode that a new file gets here; temporary files have a narrower one."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
