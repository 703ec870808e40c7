"""What the demo shows: chapters, and commands with what they really print."""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from tests.cluster.command import ClusterError


class Terminal:
    """Where the demo is told.

    Attributes:
        console: For everything that is no output of a command.
    """

    def __init__(self, *, color: bool) -> None:
        self.console = Console(no_color=not color, highlight=False)
        self._color = color
        self._began = time.monotonic()
        self._chapters = 0
        self._env = dict(os.environ)
        self._folder = Path.cwd()

    def prepare(self, folder: Path, programs: Path, kubeconfig: Path) -> None:
        """Run commands in this folder, find programs in that one first, and reach that cluster."""
        self._folder = folder
        self._env["PATH"] = f"{programs}{os.pathsep}{self._env['PATH']}"
        self._env["KUBECONFIG"] = str(kubeconfig)
        if not self._color:
            self._env["NO_COLOR"] = "1"

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A part of the story, with the time that it took at its end."""
        self._chapters += 1
        began = time.monotonic()
        self.console.print()
        self.console.rule(Text(f"{self._chapters}. {title}", "bold"), align="left", style="dim")
        yield
        self.console.print(f"[dim]({time.monotonic() - began:.1f} s)[/dim]")

    def note(self, text: str) -> None:
        """A sentence between commands."""
        self.console.print()
        self.console.print(Text(text))

    def show(self, text: str, language: str, lines: int | None = None) -> None:
        """A file's text, or its first lines."""
        all_lines = text.rstrip("\n").split("\n")
        shown = all_lines[:lines]
        highlighted = Syntax("", language, theme="ansi_light", background_color="default").highlight("\n".join(shown))
        self.console.print()
        self.console.print(highlighted, soft_wrap=True, end="")
        if len(shown) < len(all_lines):
            self.console.print(f"[dim]... and {len(all_lines) - len(shown)} lines more[/dim]")

    def run(self, *words: str, lines: int | None = None) -> None:
        """Print a command as one would type it, and run it on this terminal.

        Args:
            words: The program and its arguments.
            lines: Show only so many lines of what it prints.

        Raises:
            ClusterError: It failed.
        """
        self._announce(words)
        done = subprocess.run(
            words, cwd=self._folder, env=self._env, check=False, stdout=lines and subprocess.PIPE, text=True
        )
        if lines:
            printed = done.stdout.splitlines()
            print("\n".join(printed[:lines]), flush=True)
            if len(printed) > lines:
                self.console.print(f"[dim]... and {len(printed) - lines} lines more[/dim]")
        self._check(done.returncode, words)

    def read(self, *words: str) -> str:
        """Run a command that is no part of the story, and return what it prints.

        Raises:
            ClusterError: It failed.
        """
        done = subprocess.run(words, cwd=self._folder, env=self._env, check=False, stdout=subprocess.PIPE, text=True)
        self._check(done.returncode, words)
        return done.stdout

    def _announce(self, words: tuple[str, ...]) -> None:
        self.console.print()
        self.console.print(Text.assemble(("$ ", "dim"), (shlex.join(words), "bold")), soft_wrap=True)
        sys.stdout.flush()

    def _check(self, code: int, words: tuple[str, ...]) -> None:
        if code:
            raise ClusterError(f"This command failed with exit code {code}: {shlex.join(words)}")
