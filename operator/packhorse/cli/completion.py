"""Completion in the shell: of ids, versions and names from the cluster, also as ``kubectl packhorse``."""

import contextlib
import io
import os
import shlex
import sys
from typing import Any

from packhorse.cli import names
from packhorse.cli.cluster import APPLICATIONS, PACKAGES, POOLS, TASKS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.options import Target
from packhorse.cli.parsing import parse
from packhorse.model import ApplicationPackage
from packhorse.model.names import application_name

VARIABLE = "_PACKHORSE_COMPLETE"
_PATIENCE = 3.0  # seconds; somebody waits for a key press to be answered
_NO_FILES, _FILES = 4, 0  # what kubectl does where nothing fits


def values(target: Target, what: str, application: str | None) -> list[str]:
    """What there is to choose from.

    Args:
        target: Where to look.
        what: ``applications``, ``versions``, ``references``, ``pools``, ``nodes`` or ``tasks``.
        application: Id of the application whose versions are meant.
    """
    try:
        with connect(target) as cluster:
            cluster.patience = _PATIENCE
            return _values(cluster, what, application)
    except Exception:  # whatever it is, a line that is being typed is no place to say it
        return []


def _values(cluster: Cluster, what: str, application: str | None) -> list[str]:
    if what == "applications":
        return [item["spec"].get("id") or item["metadata"]["name"] for item in cluster.objects(APPLICATIONS)]
    if what == "versions":
        name = application_name(application or "")
        return [package.spec.version for package in names.packages_of(cluster, name)]
    if what == "references":
        active = [
            each for each in (parse(ApplicationPackage, item) for item in cluster.objects(PACKAGES)) if each.active
        ]
        return [
            *_values(cluster, "applications", None),
            *(f"{package.spec.application_id}#{package.spec.version}" for package in active),
        ]
    if what == "nodes":
        pools = cluster.objects(POOLS)
        return [node["name"] for item in pools for node in item.get("status", {}).get("nodes") or []]
    kind = {"pools": POOLS, "tasks": TASKS}[what]
    return [item["metadata"]["name"] for item in cluster.objects(kind)]


def kubectl_complete(app: Any) -> int:
    """Answer kubectl, which asks with the words after ``kubectl packhorse``, the last of them incomplete.

    One line for each proposal, with its help after a tab, and a last one that says whether files fit as well.
    """
    words = sys.argv[1:] or [""]
    line = shlex.join(["packhorse", *words[:-1]]) + " " + (shlex.quote(words[-1]) if words[-1] else "")
    os.environ[VARIABLE] = "complete_fish"
    os.environ["_TYPER_COMPLETE_ARGS"] = line
    os.environ["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer), contextlib.suppress(SystemExit):
        app(args=[], prog_name="packhorse", complete_var=VARIABLE)
    proposals = answer.getvalue().strip()
    if proposals:
        print(proposals)
    print(f":{_NO_FILES if proposals else _FILES}")
    return 0


def print_script(app: Any, shell: str) -> None:
    """Print the script that switches completion on in a shell: ``bash``, ``zsh`` or ``fish``."""
    os.environ[VARIABLE] = f"source_{shell}"
    with contextlib.suppress(SystemExit):
        app(args=[], prog_name="packhorse", complete_var=VARIABLE)
