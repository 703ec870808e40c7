"""``python -m demo``: see Packhorse at work, on a cluster that is made for the purpose or on one of yours."""

import argparse
import os
import sys
from pathlib import Path

from demo import story
from demo.terminal import Terminal
from tests.cluster import ClusterError

_AGAIN = "The demo can be run again at any time: it goes on from what is there."


def main() -> int:
    """Tell the story; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Packhorse at work, step by step.")
    parser.add_argument(
        "--output", type=Path, default=Path("packhorse-demo-frame.png"), help="where the picture goes (%(default)s)"
    )
    parser.add_argument("--kubeconfig", help="use this cluster instead of making one")
    parser.add_argument("--no-color", action="store_true", help="plain text, for a transcript")
    arguments = parser.parse_args()
    terminal = Terminal(color=not arguments.no_color and "NO_COLOR" not in os.environ)
    try:
        story.tell(terminal, arguments.output.absolute(), arguments.kubeconfig)
    except ClusterError as error:
        print(f"\n{error}\n{_AGAIN}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nInterrupted. {_AGAIN}", file=sys.stderr)
        return 130
    return 0


sys.exit(main())
