"""Running other programs: their output is kept, and shown when they fail."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Locks that this process holds, by descriptor. The programs that it runs hold them as well: if it is killed, the next
# one waits for their end instead of working in the same files.
held_locks: set[int] = set()

_SHOWN = 2000  # characters of a failed program's output: the end of it tells the cause


class ClusterError(Exception):
    """Something that the person at the terminal has to know, in full sentences; no traceback helps with it."""


class CommandError(ClusterError):
    """A program failed, or took longer than it may."""


def environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The environment of this process with `extra` over it; a value of None takes the variable away."""
    merged: dict[str, str | None] = {**os.environ, **(extra or {})}
    return {name: value for name, value in merged.items() if value is not None}


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    log: Path | None = None,
    keep_locks: bool = True,
) -> str:
    """Run a program to its end and return its standard output.

    Args:
        command: The program and its arguments.
        env: Changes to the environment; None removes a variable.
        cwd: The folder to run in.
        stdin: What the program reads; nothing by default, so that it can never wait for a terminal.
        timeout: Seconds after which it is killed.
        log: A file that gets all output instead; the result is then empty.
        keep_locks: Whether our locks last until its end; not where it may start a service, which would hold on to them.

    Raises:
        CommandError: It could not be started, failed, or ran out of time.
    """
    words = [str(word) for word in command]
    shown = " ".join(words)
    locks = tuple(held_locks) if keep_locks else ()
    try:
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as out:
                done = subprocess.run(
                    words, env=environment(env), cwd=cwd, input=stdin or "", timeout=timeout, stdout=out,
                    stderr=subprocess.STDOUT, text=True, check=False, pass_fds=locks,
                )  # fmt: skip
            output, errors = "", log.read_text(errors="replace")
        else:
            done = subprocess.run(
                words, env=environment(env), cwd=cwd, input=stdin or "", timeout=timeout, capture_output=True,
                text=True, errors="replace", check=False, pass_fds=locks,
            )  # fmt: skip
            output, errors = done.stdout, done.stderr or done.stdout
    except FileNotFoundError as error:
        raise CommandError(f"{words[0]} is not installed, or not on the PATH.") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"No end within {timeout:.0f} s: {shown}") from error
    if done.returncode:
        where = f"\n(all of it: {log})" if log else ""
        raise CommandError(f"Exit code {done.returncode} of: {shown}\n{errors.strip()[-_SHOWN:]}{where}")
    return output


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str | None] | None = None, timeout: float) -> bool:
    """Whether a program, run for its exit code alone, succeeds within `timeout` seconds."""
    try:
        run(command, env=env, timeout=timeout)
    except CommandError:
        return False
    return True
