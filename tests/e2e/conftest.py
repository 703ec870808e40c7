"""The product on a real cluster: installed by its chart, used by kubectl and by the command line, as users do."""

import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests.cluster import Cluster, ensure

ROOT = Path(__file__).parents[2]
SYSTEM = "packhorse-system"
PATIENCE = 120.0
"""Seconds to wait for anything; these machines may be slow, and nothing here measures speed."""

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Look until something true is seen, and return it."""
    deadline = time.monotonic() + patience
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.2)
    return seen


@dataclass(frozen=True)
class Namespace:
    """A namespace of a test's own, and what a user can do there."""

    cluster: Cluster
    name: str

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl in this namespace; what it prints."""
        return self.cluster.run_kubectl("-n", self.name, *args, stdin=stdin, timeout=PATIENCE + 30)

    def apply(self, *objects: Mapping[str, Any]) -> str:
        """``kubectl apply`` of these objects."""
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def refused(self, body: Mapping[str, Any]) -> str:
        """The words by which the API server refuses an object."""
        command = [str(self.cluster.kubectl), "--kubeconfig", str(self.cluster.kubeconfig), "-n", self.name]
        done = subprocess.run(
            [*command, "apply", "-f", "-"], input=yaml.safe_dump(body), capture_output=True, text=True, check=False
        )
        assert done.returncode != 0, f"accepted: {done.stdout}"
        return done.stderr

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def wait(self, what: str, condition: str) -> None:
        """``kubectl wait`` for a condition."""
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={PATIENCE:.0f}s")

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``packhorse`` in this namespace."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "NO_COLOR": "1", "COLUMNS": "200"}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "packhorse.cli",
                "--kubeconfig",
                str(self.cluster.kubeconfig),
                "-n",
                self.name,
                *args,
            ],
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE + 30,
            check=False,
        )
        assert not check or done.returncode == 0, f"packhorse {' '.join(args)}: {done.stdout}{done.stderr}"
        return done

    def nodes(self, pool: str) -> dict[str, dict[str, Any]]:
        """The nodes of a pool's status, by name."""
        return {node["name"]: node for node in self.get("phpool", pool).get("status", {}).get("nodes", ())}

    def idle(self, pool: str, count: int) -> dict[str, dict[str, Any]]:
        """Wait until that many nodes are idle, and no others are there."""

        def look() -> dict[str, dict[str, Any]]:
            nodes = self.nodes(pool)
            return nodes if [node["state"] for node in nodes.values()] == ["idle"] * count else {}

        return eventually(look, f"{count} idle nodes of pool {pool}")

    def finished(self, task: str) -> dict[str, Any]:
        """Wait until a task is completed; its status."""

        def look() -> dict[str, Any] | None:
            status: dict[str, Any] = self.get("phtask", task)["status"]
            return status if status["state"] == "completed" else None

        return eventually(look, f"task {task} completed") or {}

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """A condition of an object; empty where it has none of that type."""
        conditions = self.get(kind, name).get("status", {}).get("conditions", ())
        return next((entry for entry in conditions if entry["type"] == condition), {})


@contextmanager
def _one_at_a_time(worker_id: str, factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where tests run side by side, one process prepares the cluster, and the others find it ready."""
    folder = factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent
    with (shared / "cluster.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def cluster(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The test cluster, with images of the sources as they are."""
    with _one_at_a_time(worker_id, tmp_path_factory):
        return ensure()


@pytest.fixture(scope="session")
def installed(cluster: Cluster, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster with the product installed, or upgraded, by its chart."""
    values = [word for value in cluster.image_values for word in ("--set-string", value)]
    chart = ROOT / "helm" / "packhorse"
    command: list[str | Path] = [
        "upgrade",
        "--install",
        "packhorse",
        chart,
        "-n",
        SYSTEM,
        "--create-namespace",
        "--wait",
    ]
    with _one_at_a_time(worker_id, tmp_path_factory):
        cluster.run_helm(*command, "--timeout", "300s", *values)
    return cluster


@contextmanager
def without_operator(cluster: Cluster) -> Iterator[None]:
    """For a while there is no operator at all. For tests that are marked ``alone``."""
    deployment = ("deployment/packhorse-operator", "-n", SYSTEM)
    cluster.run_kubectl("scale", *deployment, "--replicas=0")
    try:
        selector = "app.kubernetes.io/component=operator"
        cluster.run_kubectl("wait", "pod", "-n", SYSTEM, "-l", selector, "--for=delete", "--timeout=120s")
        yield
    finally:
        cluster.run_kubectl("scale", *deployment, "--replicas=1")
        cluster.run_kubectl("rollout", "status", *deployment, "--timeout=180s")


def make_namespace(cluster: Cluster) -> Namespace:
    """A new namespace under the restricted Pod Security profile."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    cluster.run_kubectl("create", "namespace", name)
    cluster.run_kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    return Namespace(cluster, name)


@pytest.fixture(scope="module")
def namespace(installed: Cluster) -> Iterator[Namespace]:
    """A namespace for the tests of one file."""
    made = make_namespace(installed)
    yield made
    installed.run_kubectl("delete", "namespace", made.name, "--wait=false")


def task(name: str, pool: str, command_line: str, **spec: object) -> dict[str, Any]:
    """A Task."""
    return resource("Task", name, pool=pool, commandLine=command_line, **spec)


def pool(
    name: str, nodes: int, image: str, references: Sequence[Mapping[str, str]] = (), **spec: object
) -> dict[str, Any]:
    """A Pool with small volumes."""
    spec = {"nodeStorage": {"size": "1Gi"}, "applicationPackageReferences": list(references), **spec}
    return resource("Pool", name, targetNodes=nodes, image=image, **spec)


def resource(kind: str, name: str, **spec: object) -> dict[str, Any]:
    """An object of ours."""
    return {"apiVersion": "packhorse.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pack(path: Path, files: Mapping[str, str]) -> Path:
    """A ZIP file; what begins with #! is executable."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if text.startswith("#!") else 0o100644) << 16
            archive.writestr(entry, text)
    return path
