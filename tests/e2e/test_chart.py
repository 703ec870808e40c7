"""The chart on a real cluster: a release of its own, for one restricted namespace, beside whatever else runs there."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, ensure
from tests.cluster.command import CommandError

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
NAMESPACE = "packhorse-chart-test"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}"
OPERATOR = f"{ACCOUNT}:trial-operator"
AZURITE = f"/api/v1/namespaces/{NAMESPACE}/services/https:trial-azurite:10000/proxy"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return ensure()


@pytest.fixture(scope="module")
def install(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Installs the release; all of it goes at the end."""
    remove(cluster)
    cluster.run_kubectl("create", "namespace", NAMESPACE)
    cluster.run_kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    found = cluster.run_kubectl("get", "crd", "-o", "name")
    values = [
        *cluster.image_values,
        "fullnameOverride=trial",
        f"crds.enabled={json.dumps('/pools.packhorse.dev' not in found)}",
        "crds.keep=false",
        f"watchNamespaces={{{NAMESPACE}}}",
        "azurite.persistence.size=1Gi",
    ]
    settings = [word for value in values for word in ("--set-string" if "image." in value else "--set", value)]

    def run() -> None:
        chart = ROOT / "helm" / "packhorse"
        try:
            cluster.run_helm("install", "trial", chart, "-n", NAMESPACE, "--wait", "--timeout", "300s", *settings)
        except CommandError as error:
            error.add_note(cluster.run_kubectl("get", "pods,persistentvolumeclaims,events", "-n", NAMESPACE))
            raise

    yield run
    remove(cluster)


@pytest.fixture(scope="module")
def installed(cluster: Cluster, install: Callable[[], None]) -> Cluster:
    install()
    return cluster


def remove(cluster: Cluster) -> None:
    """Remove the release and its namespace, of an earlier run too."""
    cluster.run_helm("uninstall", "trial", "-n", NAMESPACE, "--ignore-not-found", "--wait", "--timeout", "120s")
    cluster.run_kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout", "120s")


def get(cluster: Cluster, *what: str) -> Any:
    return json.loads(cluster.run_kubectl("get", "-n", NAMESPACE, *what, "-o", "json"))


def can(cluster: Cluster, user: str, *what: str) -> bool:
    """Whether the API server lets the user do that."""
    command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "auth", "can-i", f"--as={user}", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = str(done.stdout).strip()
    assert answer in {"yes", "no"}, done.stderr
    return answer == "yes"


def eventually(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.2)


def test_every_pod_is_ready_in_a_restricted_namespace(installed: Cluster) -> None:
    pods = get(installed, "pods")["items"]
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {"operator", "azurite"}
    for pod in pods:
        conditions = {entry["type"]: entry["status"] for entry in pod["status"]["conditions"]}
        assert conditions["Ready"] == "True"


def test_the_operator_makes_the_embedded_account_and_azurite_takes_it(installed: Cluster) -> None:
    secret = get(installed, "secret", "trial-azurite")
    assert {"AZURITE_ACCOUNTS", "connectionString", "tls.crt", "tls.key", "ca.crt"} <= secret["data"].keys()


def test_the_operator_reads_secrets_by_name_and_lists_none(installed: Cluster) -> None:
    for name in ("packhorse-authority", "trial-azurite", "packhorse-storage"):
        assert can(installed, OPERATOR, "get", f"secret/{name}", "-n", NAMESPACE)
    assert not can(installed, OPERATOR, "get", "secret/another", "-n", NAMESPACE)
    for verb in ("list", "watch"):
        assert not can(installed, OPERATOR, verb, "secrets", "-n", NAMESPACE)
        assert can(installed, OPERATOR, verb, "pods", "-n", NAMESPACE)
        assert can(installed, OPERATOR, verb, "pools.packhorse.dev", "-n", NAMESPACE)


def test_the_operator_has_no_rights_in_namespaces_that_it_does_not_serve(installed: Cluster) -> None:
    for what in ("pods", "pools.packhorse.dev", "statefulsets.apps", "secrets"):
        for verb in ("get", "list", "create", "delete"):
            assert not can(installed, OPERATOR, verb, what, "-n", "default")
    assert can(installed, OPERATOR, "create", "tokenreviews.authentication.k8s.io")


@pytest.mark.parametrize(("role", "writes"), [("view", False), ("edit", True), ("admin", True)])
def test_the_clusters_own_roles_have_our_kinds(installed: Cluster, role: str, writes: bool) -> None:
    user = f"a-{role}er"
    installed.run_kubectl("create", "rolebinding", user, "-n", NAMESPACE, f"--clusterrole={role}", f"--user={user}")
    for kind in ("applications", "applicationpackages", "pools", "tasks"):

        def may(verb: str, kind: str = kind) -> bool:
            return can(installed, user, verb, f"{kind}.packhorse.dev", "-n", NAMESPACE)

        eventually(lambda: may("list"), f"{role} may list {kind}")
        assert all(may(verb) == writes for verb in ("create", "patch", "delete"))
        assert not can(installed, user, "patch", f"{kind}.packhorse.dev", "--subresource=status", "-n", NAMESPACE)
    assert can(installed, user, "patch", "pools.packhorse.dev", "--subresource=scale", "-n", NAMESPACE) == writes


def test_the_uploaders_role_opens_the_way_to_azurite_and_no_further(installed: Cluster) -> None:
    for name in ("uploader", "other"):
        installed.run_kubectl("create", "serviceaccount", name, "-n", NAMESPACE)
    installed.run_kubectl(
        "create",
        "rolebinding",
        "up",
        "-n",
        NAMESPACE,
        "--role=trial-uploader",
        f"--serviceaccount={NAMESPACE}:uploader",
    )

    def answer(account: str, path: str) -> str:
        with pytest.raises(CommandError) as caught:
            installed.run_kubectl("get", "--raw", path, f"--as={ACCOUNT}:{account}")
        return str(caught.value)

    # Azurite itself answers the one that there is no signature, the API server the other that there is no right.
    assert "cannot get resource" not in answer("uploader", f"{AZURITE}/packhorse?comp=list")
    assert 'cannot get resource "services/proxy"' in answer("other", f"{AZURITE}/packhorse?comp=list")
    node_service = AZURITE.replace("trial-azurite:10000", "trial-node-service:8443")
    assert 'cannot get resource "services/proxy"' in answer("uploader", f"{node_service}/")


def test_the_server_takes_the_samples(installed: Cluster) -> None:
    made = installed.run_kubectl("apply", "--dry-run=server", "-n", NAMESPACE, "-k", ROOT / "manifests" / "samples")
    assert len(made.splitlines()) == 6
    quota = ROOT / "manifests" / "samples" / "quota.yaml"
    assert "created" in installed.run_kubectl("apply", "--dry-run=server", "-n", "default", "-f", quota)


def test_the_served_namespace_has_its_quota(installed: Cluster) -> None:
    hard = get(installed, "resourcequota", "packhorse")["spec"]["hard"]  # in canonical form: 8000 is 8k
    assert hard == {"count/applications.packhorse.dev": "200", "count/applicationpackages.packhorse.dev": "8k"}


def test_a_new_installation_goes_on_with_the_old_ones_storage(installed: Cluster, install: Callable[[], None]) -> None:
    def kept() -> dict[str, Any]:
        return {
            "volume": get(installed, "persistentvolumeclaim", "trial-azurite")["spec"]["volumeName"],
            "account": get(installed, "secret", "trial-azurite")["data"],
            "authority": get(installed, "secret", "packhorse-authority")["data"],
        }

    before = kept()
    installed.run_helm("uninstall", "trial", "-n", NAMESPACE, "--wait", "--timeout", "120s")
    assert kept() == before
    assert get(installed, "deployments")["items"] == []
    install()
    assert kept() == before
