"""One way to say what happens: short lines on standard error, each with the seconds since the start."""

import sys
import time

_START = time.monotonic()


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(f"{time.monotonic() - _START:5.0f} s  {text}\n")
    sys.stderr.flush()
