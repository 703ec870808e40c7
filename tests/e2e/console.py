"""Documents whose commands are run as a reader would type them, and whose outputs have to be what is printed.

In a document, a ``yaml`` block whose first line is a comment with a file's name is that file. A ``console`` block is a
conversation: lines that begin with ``$ `` are commands (``> `` continues one), all others are what it prints, errors
included. ``...`` stands for anything within a line, and alone on a line for any lines. A command may fail only where
its output shows an error.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

POOL_IMAGE = "debian:bookworm-slim"

_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (?P<name>[\w./-]+)\n")
_ERROR = re.compile(r"^(error|the \S+ \S+ is invalid)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class File:
    """A file that the document shows."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command line with what it prints."""

    line: str
    output: str


def steps(document: str) -> list[File | Command]:
    """What a reader of the document does, in order."""
    found: list[File | Command] = []
    for block in _BLOCK.finditer(document):
        text = block["text"]
        if block["language"] == "yaml" and (name := _FILE_NAME.match(text)):
            found.append(File(name["name"], text))
        elif block["language"] == "console":
            found += _conversation(text)
    return found


def _conversation(text: str) -> list[Command]:
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = next((number for number, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
        command = "\n".join([lines[0], *(line.removeprefix("> ") for line in lines[1:end])])
        found.append(Command(command, "\n".join(lines[end:]).strip()))
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether this is what the document shows, but for the width of gaps and for what ``...`` stands for."""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            words = re.split(r"\s+", line.strip())
            pattern += r"\s*" + r"\s+".join(re.escape(word).replace(r"\.\.\.", r".*?") for word in words) + r"[ \t]*\n"
    return re.fullmatch(pattern, printed.strip() + "\n" if printed.strip() else "") is not None


def follow(step: File | Command, folder: Path, environment: Mapping[str, str], timeout: float) -> str:
    """Do what a step says; what is wrong with the outcome, or nothing."""
    if isinstance(step, File):
        # a test cluster may have no registry, and the image of pools under another name
        (folder / step.name).write_text(step.text.replace(POOL_IMAGE, environment.get("TASK_IMAGE", POOL_IMAGE)))
        return ""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", step.line],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if (done.returncode != 0) is not (_ERROR.search(step.output) is not None):
        return f"$ {step.line}\nexit code {done.returncode}\n{done.stdout}"
    if not matches(step.output, done.stdout):
        return f"$ {step.line}\n--- the document says\n{step.output}\n--- it prints\n{done.stdout}"
    return ""
