"""Progress: a bar on a terminal, a few plain lines anywhere else. All of it goes to standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from rich import progress
from rich.console import Console

from packhorse.cli.output import plural, say, size, span

Advance = Callable[[int], None]
"""Takes the amount that is done by now, not what was added."""

_LONG = 10.0  # seconds between two plain lines at least


@contextlib.contextmanager
def meter(
    label: str, total: int, unit: Literal["bytes", "tasks", "nodes"], *, quiet: bool = False, begun: int = 0
) -> Iterator[Advance]:
    """Show how much of ``total`` is done.

    Args:
        label: What is done.
        total: When it is finished.
        unit: Bytes come with a rate and the time that is left; tasks and nodes are counted.
        quiet: Show nothing where there is no terminal.
        begun: What was done before, and does not count for the rate.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console, label, total, unit, begun) as advance:
            yield advance
    elif quiet:
        yield lambda _: None
    else:
        yield _lines(label, total, unit, begun)


@contextlib.contextmanager
def _bar(console: Console, label: str, total: int, unit: str, begun: int) -> Iterator[Advance]:
    amounts: tuple[progress.ProgressColumn, ...] = (
        (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
        if unit == "bytes"
        else (progress.MofNCompleteColumn(), progress.TimeElapsedColumn())
    )
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), *amounts)
    with progress.Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(label, total=total, completed=begun)
        yield lambda done: bar.update(task, completed=done)


def _lines(label: str, total: int, unit: str, begun: int) -> Advance:
    say(f"{label}: {size(total) if unit == 'bytes' else plural(total, unit.removesuffix('s'))}")
    start = shown = time.monotonic()

    def advance(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done >= total or now - shown < _LONG:
            return
        shown = now
        line = f"{label}: {done * 100 // total} %"
        rate = (done - begun) / (now - start)
        if unit == "bytes" and rate > 0:
            line += f", {size(rate)}/s, {span((total - done) / rate)} left"
        say(line)

    return advance
