import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from packhorse import __version__
from packhorse.cli.main import app
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster

FORBIDDEN = {
    "kind": "Status",
    "reason": "Forbidden",
    "message": 'applications.packhorse.dev is forbidden: User "me" cannot list resource "applications"',
}


def test_version(packhorse: Run) -> None:
    assert packhorse("--version").stdout == f"packhorse {__version__}\n"


@pytest.mark.parametrize("place", ["before", "after"])
def test_namespace_is_taken_before_and_after_the_command(place: str, packhorse: Run, cluster: FakeCluster) -> None:
    option = ["-n", "other"]
    arguments = [*option, "app", "list"] if place == "before" else ["app", "list", *option]

    packhorse(*arguments)

    assert cluster.requests == [("GET", "/apis/packhorse.dev/v1alpha1/namespaces/other/applications")]


def test_namespace_of_the_context_is_the_default(kubeconfig: Path, packhorse: Run, cluster: FakeCluster) -> None:
    config = json.loads(kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = "films"
    kubeconfig.write_text(json.dumps(config))

    packhorse("app", "list")

    assert cluster.requests[0][1].endswith("/namespaces/films/applications")


def test_token_of_the_kubeconfig_is_shown(packhorse: Run, cluster: FakeCluster) -> None:
    cluster.token = "mine"
    assert packhorse("app", "list").exit_code == 0

    cluster.token = "another"
    result = packhorse("app", "list")
    assert result.exit_code == 1
    assert "does not accept these credentials" in result.stderr


def test_cluster_that_does_not_answer(kubeconfig: Path, packhorse: Run) -> None:
    with socket.socket() as bound:  # a port that is taken, and listens to nobody
        bound.bind(("127.0.0.1", 0))
        config = json.loads(kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{bound.getsockname()[1]}"
        kubeconfig.write_text(json.dumps(config))

        result = packhorse("app", "list")

    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr
    assert "Connection refused" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    result = CliRunner().invoke(app, ["app", "list"])

    assert result.exit_code == 1
    assert "No cluster is known" in result.stderr
    assert "--kubeconfig" in result.stderr


def test_named_kubeconfig_has_to_be_there(packhorse: Run) -> None:
    result = packhorse("--kubeconfig", "/nowhere", "app", "list")

    assert result.exit_code == 1
    assert "There is no kubeconfig /nowhere." in result.stderr


def test_unknown_context_names_those_that_there_are(packhorse: Run) -> None:
    result = packhorse("--context", "moon", "app", "list")

    assert result.exit_code == 1
    assert "no context 'moon'" in result.stderr
    assert "It has: fake" in result.stderr


def test_cluster_without_packhorse(packhorse: Run, cluster: FakeCluster) -> None:
    cluster.refusals["GET", "applications"] = (404, "404 page not found")

    result = packhorse("app", "list")

    assert result.exit_code == 1
    assert "does not know Packhorse's resources" in result.stderr
    assert "helm upgrade --install" in result.stderr


def test_missing_right_is_told_in_the_servers_words(packhorse: Run, cluster: FakeCluster) -> None:
    cluster.refusals["GET", "applications"] = (403, FORBIDDEN)

    result = packhorse("app", "list")

    assert result.exit_code == 1
    assert 'User "me" cannot list resource' in result.stderr
    assert "administrator" in result.stderr


def test_missing_object_is_named(packhorse: Run) -> None:
    result = packhorse("pool", "show", "nothing")

    assert result.exit_code == 1
    assert "There is no pool 'nothing' here." in result.stderr


def test_wrong_usage_is_exit_code_2(packhorse: Run) -> None:
    assert packhorse("app", "destroy").exit_code == 2
    assert packhorse("pool", "show").exit_code == 2
