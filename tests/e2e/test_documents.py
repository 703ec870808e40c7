"""What the documents tell a reader to type works, and prints what they show."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import PATIENCE, ROOT, Namespace, make_namespace
from tests.e2e.console import Command, File, follow, matches, steps

DOCUMENTS = [path for path in sorted((ROOT / "docs").glob("*.md")) if "```console" in path.read_text()]
"""Those that show what to type; others only explain."""


@pytest.fixture
def environment(installed: Cluster, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A shell with kubectl and packhorse, in a namespace of its own, the current one of its kubeconfig."""
    namespace: Namespace = make_namespace(installed)
    commands = tmp_path / "bin"
    commands.mkdir()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(installed.kubeconfig.read_bytes())
    kubeconfig.chmod(0o600)
    (commands / "kubectl").symlink_to(installed.kubectl)
    for name in ("packhorse", "kubectl-packhorse"):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m packhorse.cli "$@"\n')
        script.chmod(0o755)
    found = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(kubeconfig),
        "TASK_IMAGE": installed.task_image,
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }
    line = f"kubectl config set-context --current --namespace={namespace.name} >/dev/null"
    assert follow(Command(line, ""), tmp_path, found, PATIENCE) == ""
    yield found
    installed.run_kubectl("delete", "namespace", namespace.name, "--wait=false")


@pytest.mark.cluster
@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_a_document_tells_the_truth(document: Path, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    found = steps(document.read_text())
    assert any(isinstance(step, Command) for step in found)
    for step in found:
        wrong = follow(step, folder, environment, PATIENCE + 60)
        assert not wrong, wrong


def test_documents_are_taken_apart_as_a_reader_does() -> None:
    blocks = ["yaml\n# a.yaml\nkind: X", "yaml\nkind: Y", "console\n$ one \\\n>   two\nsaid\n$ three"]
    document = "Text\n" + "".join(f"```{block}\n```\n" for block in blocks)
    assert steps(document) == [
        File("a.yaml", "# a.yaml\nkind: X\n"),
        Command("one \\\n  two", "said"),
        Command("three", ""),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("NAME   AGE\nx   ...", "NAME    AGE\nx       3s\n", True),
        ("NAME   AGE\nx   ...", "NAME    AGE\ny       3s\n", False),
        ("first\n...\nlast", "first\na\nb\nlast\n", True),
        ("first\n...", "first\n", True),
        ("first", "first\nsecond\n", False),
        ("", "", True),
        ("", "something\n", False),
        ("a (...) b", "a (x y) b", True),
    ],
)
def test_what_is_printed_has_to_be_what_is_shown(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same
