"""The name by which this program was called: it is a plug-in of kubectl too."""

import sys
from pathlib import Path

PLUGIN = "kubectl-packhorse"


def name() -> str:
    """``packhorse``, or ``kubectl packhorse`` where kubectl started it."""
    return "kubectl packhorse" if Path(sys.argv[0]).name == PLUGIN else "packhorse"


def examples(*lines: str) -> str:
    r"""The end of a command's help: commands that can be copied.

    Args:
        lines: Command lines without the program's name; a line that begins with ``#`` explains the next one.
    """
    shown = [f"  {line}" if line.startswith("#") else f"  {name()} {line}" for line in lines]
    return "\b\n" + "\n".join(["Examples:", *shown])
