import gc
import json
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from packhorse.cli.main import app
from packhorse.cli.parallel import THREADS
from tests.unit.cli.fake_cluster import FakeCluster

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, as in a terminal; a shell starts what runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    with FakeCluster(tmp_path / "node") as fake:
        yield fake


@pytest.fixture
def kubeconfig(cluster: FakeCluster, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": cluster.url}}],
                "users": [{"name": "me", "user": {"token": "mine"}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
                "current-context": "fake",
            }
        )
    )
    return path


@pytest.fixture
def packhorse(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line against the fake cluster."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run


@pytest.fixture
def swept() -> Iterator[None]:
    """Connections that were left behind on purpose are no leak; the server is gone when they are swept up."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def abandoned(swept: None, cluster: FakeCluster) -> Iterator[None]:
    """For tests that interrupt a transfer: its threads are left behind, and end while the server is still there."""
    yield
    await_transfers()


def await_transfers() -> None:
    """Wait until the threads of interrupted transfers, which a process would end without, have ended."""
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(60)
            assert not thread.is_alive()
