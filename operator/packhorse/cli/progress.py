"""Progress: a bar on a terminal, a few plain lines anywhere else. All of it goes to standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from rich import progress
from rich.console import Console

from packhorse.cli.output import plural, say, size

Advance = Callable[[int], None]
"""Takes the amount that is done by now, not what was added."""

_QUARTERS = 4  # plain lines, for what takes long
_LONG = 10.0  # seconds between them at least


@contextlib.contextmanager
def meter(label: str, total: int, unit: Literal["bytes", "tasks"], *, quiet: bool = False) -> Iterator[Advance]:
    """Show how much of ``total`` is done.

    Args:
        label: What is done.
        total: When it is finished.
        unit: Bytes come with a rate and the time that is left; tasks are counted.
        quiet: Show nothing where there is no terminal.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console, label, total, unit) as advance:
            yield advance
    elif quiet:
        yield lambda _: None
    else:
        yield _lines(label, total, unit)


@contextlib.contextmanager
def _bar(console: Console, label: str, total: int, unit: str) -> Iterator[Advance]:
    amounts: tuple[progress.ProgressColumn, ...] = (
        (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
        if unit == "bytes"
        else (progress.MofNCompleteColumn(), progress.TimeElapsedColumn())
    )
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), *amounts)
    with progress.Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


def _lines(label: str, total: int, unit: str) -> Advance:
    amount = size(total) if unit == "bytes" else plural(total, "task")
    say(f"{label}: {amount}")
    shown, quarter = time.monotonic(), 0

    def advance(done: int) -> None:
        nonlocal shown, quarter
        reached = done * _QUARTERS // total if total else _QUARTERS
        if quarter < reached < _QUARTERS and time.monotonic() - shown > _LONG:
            say(f"{label}: {reached * 100 // _QUARTERS} %")
            shown = time.monotonic()
        quarter = max(quarter, reached)

    return advance
