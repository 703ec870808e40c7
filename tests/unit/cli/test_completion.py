import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from packhorse.cli import program
from packhorse.cli.errors import redact
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.fake_nodes import add_pool
from tests.unit.cli.fake_operator import add_package

Called = Callable[..., "subprocess.CompletedProcess[str]"]

_ENTRIES = {
    "packhorse": "main",
    "kubectl-packhorse": "main",
    "kubectl_complete-packhorse": "kubectl_complete",
}


@pytest.fixture
def called(tmp_path: Path, kubeconfig: Path) -> Called:
    """Run one of the programs that the Python package installs, by its own name."""

    def call(name: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        script = tmp_path / name
        script.write_text(f"#!{sys.executable}\nfrom packhorse.cli.main import {_ENTRIES[name]}\n{_ENTRIES[name]}()\n")
        script.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "PYTHONPATH": "operator", "KUBECONFIG": str(kubeconfig)}
        variables.pop("KUBERNETES_SERVICE_HOST", None)
        return subprocess.run(
            [str(script), *arguments], env={**variables, **environment}, capture_output=True, text=True, check=False
        )

    return call


def proposals(result: "subprocess.CompletedProcess[str]") -> list[str]:
    assert result.returncode == 0, result.stderr
    *lines, directive = result.stdout.splitlines()
    assert directive == (":4" if lines else ":0")
    return [line.partition("\t")[0] for line in lines]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pack"], ["package"]),
        (["package", "show", ""], ["FFmpeg", "blender"]),
        (["package", "show", "FF"], ["FFmpeg"]),
        (["package", "show", "ffmpeg", ""], ["9", "10"]),
        (["-n", "default", "package", "delete", "FFmpeg", "9", "1"], ["10"]),
        (["app", "set-default", "FFmpeg", "1"], ["10"]),
        (["-n", "other", "package", "show", ""], []),
        (["package", "upload", "ffmpeg", "9", ""], []),
        (["app", "show", "--kubeconfig", "/nowhere", ""], []),
        (["pool", "resize", ""], ["render"]),
        (["pool", "autoscale", "enable", "re"], ["render"]),
        (["pool", "set", "render", "--package", "ff"], ["ffmpeg#9", "ffmpeg#10"]),
        (["pool", "set", "render", "--package", "b"], ["blender", "blender#1"]),
        (["node", "list", ""], ["render"]),
        (["node", "show", "render-"], ["render-0", "render-1"]),
        (["node", "reboot", "render-0", ""], ["render-1"]),
        (["node", "disable", "render-0", "--running-tasks", "t"], ["terminate", "taskcompletion"]),
        (["task", "submit", "--pool", ""], ["render"]),
        (["task", "submit", "--package", "blender#"], ["blender#1"]),
    ],
)
def test_kubectl_is_answered(words: list[str], expected: list[str], called: Called, cluster: FakeCluster) -> None:
    add_package(cluster, "ffmpeg.10")
    add_package(cluster, "ffmpeg.9")
    add_package(cluster, "blender.1")
    add_pool(cluster)
    cluster.update("applications", "ffmpeg", spec={"id": "FFmpeg"})

    assert sorted(proposals(called("kubectl_complete-packhorse", *words))) == sorted(expected)


def test_bash_asks_by_the_script(called: Called, cluster: FakeCluster, tmp_path: Path) -> None:
    add_package(cluster, "ffmpeg.10")
    script = called("packhorse", "completion", "bash").stdout
    (tmp_path / "completion.bash").write_text(script)

    asked = subprocess.run(
        ["bash", "--norc", "-c", _ASK_BASH, "bash", str(tmp_path / "completion.bash")],
        env={
            **os.environ,
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "operator",
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert asked.stdout == "10\n"


_ASK_BASH = """
source "$1"
COMP_WORDS=(packhorse package show ffmpeg "")
COMP_CWORD=4
_packhorse_completion packhorse
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_about_this_program(shell: str, called: Called) -> None:
    script = called("packhorse", "completion", shell)

    assert script.returncode == 0
    assert "_PACKHORSE_COMPLETE" in script.stdout


def test_usage_has_the_name_that_it_was_called_by(called: Called) -> None:
    assert "Usage: packhorse package show" in called("packhorse", "package", "show", "-h").stdout
    help_ = called("kubectl-packhorse", "package", "show", "-h").stdout
    assert "Usage: kubectl packhorse package show" in help_
    assert "  kubectl packhorse package show blender 2.7" in help_
    assert "Usage: kubectl packhorse package show" in called("kubectl-packhorse", "package", "show").stderr


_GROUPS = {"app": 5, "package": 8, "storage": 1, "pool": 8, "pool autoscale": 2, "node": 7, "task": 4}


@pytest.mark.parametrize(("group", "count"), _GROUPS.items())
def test_every_command_has_an_example(group: str, count: int, packhorse: Run) -> None:
    listed = packhorse(*group.split(), "-h").stdout.partition("Commands:")[2].partition("\n\n")[0]
    commands = re.findall(r"^  (\S+)", listed, re.MULTILINE)

    assert len(commands) == count
    for command in commands:
        examples = packhorse(*group.split(), command, "-h").stdout.partition("Examples:")[2]
        assert f"    packhorse {group} {command}" in examples


@pytest.mark.parametrize(
    "text",
    [
        "https://a.blob.core.windows.net/c/b?se=2026&sig=SECRET%3D&sp=r failed",
        "{'Authorization': 'Bearer SECRET'}",
        "Max retries exceeded with url: /b?comp=block&SIG=SECRET (Caused by",
    ],
)
def test_secrets_are_taken_out_of_foreign_words(text: str) -> None:
    assert "SECRET" not in redact(text)
    assert "REDACTED" in redact(text)


def test_fault_of_ours_shows_no_signature(called: Called, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "from packhorse.cli import connection\n"
        "def fail(target):\n"
        "    raise RuntimeError('https://account/blob?sig=SECRET')\n"
        "connection._cluster = fail\n"
    )

    result = called("packhorse", "app", "list", PYTHONPATH=f"operator{os.pathsep}{site}")

    assert result.returncode == 1
    assert "RuntimeError" in result.stderr
    assert "SECRET" not in result.stderr


def test_name_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-packhorse"])
    assert program.name() == "kubectl packhorse"
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py"])
    assert program.name() == "packhorse"
