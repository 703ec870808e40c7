"""Uninstalling on a real cluster: nothing is left that waits for an operator which is gone.

CRDs and the operator of all other tests are shared, so releases here serve a namespace of their own, with that operator
away: it serves every namespace, and would take hold of objects again.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import Cluster
from tests.e2e.conftest import ROOT, Namespace, eventually, make_namespace, resource, without_operator

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

RELEASE = "leaving"
HOME = "packhorse-leaving"
"""Namespace of the releases."""
FINALIZERS = {"phapp": ["packhorse.dev/packages"], "phpkg": ["packhorse.dev/blob"]}


@pytest.fixture(scope="module")
def alone(installed: Cluster) -> Iterator[Cluster]:
    """The cluster with no operator."""
    with without_operator(installed):
        yield installed


@pytest.fixture
def home(alone: Cluster) -> Iterator[Cluster]:
    """The cluster with a restricted namespace for a release, which goes with it at the end."""

    def remove() -> None:
        alone.run_helm("uninstall", RELEASE, "-n", HOME, "--ignore-not-found", "--timeout", "120s")
        alone.run_kubectl("delete", "namespace", HOME, "--ignore-not-found", "--timeout=120s")

    remove()
    alone.run_kubectl("create", "namespace", HOME)
    alone.run_kubectl("label", "namespace", HOME, "pod-security.kubernetes.io/enforce=restricted")
    yield alone
    remove()


@pytest.fixture
def served(alone: Cluster) -> Iterator[Namespace]:
    """A namespace to serve."""
    made = make_namespace(alone)
    yield made
    release(made)
    alone.run_kubectl("delete", "namespace", made.name, "--ignore-not-found", "--timeout=120s")


def release(namespace: Namespace) -> None:
    """Take all finalizers off, so that a test that failed leaves no namespace that hangs."""
    for kind in FINALIZERS:
        for item in namespace.list(kind):
            name = item["metadata"]["name"]
            namespace.kubectl("patch", kind, name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def install(cluster: Cluster, *namespaces: str) -> None:
    """A release that serves these namespaces, with no storage account."""
    settings = [f"watchNamespaces={{{','.join(namespaces)}}}", "crds.enabled=false", "azurite.enabled=false"]
    words = [word for value in settings for word in ("--set", value)]
    words += [word for value in cluster.image_values for word in ("--set-string", value)]
    cluster.run_helm("install", RELEASE, ROOT / "helm" / "packhorse", "-n", HOME, "--wait", "--timeout", "300s", *words)


def fill(namespace: Namespace) -> None:
    """An application and a package of it."""
    namespace.apply(
        resource("Application", "kept"), resource("ApplicationPackage", "kept.1", applicationId="kept", version="1")
    )


def finalizers(namespace: Namespace) -> dict[str, list[str]]:
    """Finalizers by kind, of all objects together."""
    return {
        kind: [each for item in namespace.list(kind) for each in item["metadata"].get("finalizers", ())]
        for kind in FINALIZERS
    }


def left_of_the_release(cluster: Cluster) -> list[str]:
    """Objects that carry its label, apart from its history."""
    kinds = "all,serviceaccounts,roles,rolebindings,networkpolicies,resourcequotas"
    across = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    selector = f"app.kubernetes.io/instance={RELEASE}"
    found = cluster.run_kubectl("get", kinds, "--all-namespaces", "-l", selector, "-o", "name").split()
    return found + cluster.run_kubectl("get", across, "-l", selector, "-o", "name").split()


def test_objects_are_kept_and_wait_for_nobody(home: Cluster, served: Namespace) -> None:
    install(home, served.name)
    fill(served)
    eventually(lambda: finalizers(served) == FINALIZERS, "the operator holds them")
    home.run_helm("uninstall", RELEASE, "-n", HOME, "--timeout", "300s")
    assert finalizers(served) == {"phapp": [], "phpkg": []}
    assert len(served.list("phapp")) == len(served.list("phpkg")) == 1
    eventually(lambda: not left_of_the_release(home), "nothing of the release is left")
    assert finalizers(served) == {"phapp": [], "phpkg": []}, "and nothing holds them again"
    home.run_kubectl("delete", "namespace", served.name, "--timeout=120s")


def test_what_was_being_deleted_goes(home: Cluster, served: Namespace) -> None:
    install(home, served.name)
    fill(served)
    eventually(lambda: finalizers(served) == FINALIZERS, "the operator holds them")
    home.run_kubectl("scale", f"deployment/{RELEASE}-packhorse-operator", "-n", HOME, "--replicas=0")
    operator = "app.kubernetes.io/component=operator"
    home.run_kubectl("wait", "pod", "-n", HOME, "-l", operator, "--for=delete", "--timeout=120s")
    served.kubectl("delete", "phapp,phpkg", "--all", "--wait=false")
    assert finalizers(served) == FINALIZERS, "they wait"
    home.run_helm("uninstall", RELEASE, "-n", HOME, "--wait", "--timeout", "300s")
    assert served.list("phapp") == served.list("phpkg") == []


def test_a_served_namespace_that_is_gone_is_no_obstacle(home: Cluster, served: Namespace) -> None:
    gone = make_namespace(home)
    install(home, served.name, gone.name)
    fill(served)
    eventually(lambda: finalizers(served) == FINALIZERS, "the operator holds them")
    home.run_kubectl("delete", "namespace", gone.name, "--timeout=120s")
    home.run_helm("uninstall", RELEASE, "-n", HOME, "--timeout", "300s")
    assert finalizers(served) == {"phapp": [], "phpkg": []}


def test_the_manifests_let_go_of_a_namespace_that_hangs(alone: Cluster, served: Namespace, tmp_path: Path) -> None:
    fill(served)
    for kind, names in FINALIZERS.items():
        held = json.dumps({"metadata": {"finalizers": names}})
        served.kubectl("patch", kind, served.list(kind)[0]["metadata"]["name"], "--type=merge", "-p", held)
    alone.run_kubectl("delete", "namespace", served.name, "--wait=false")
    overlay(alone, served, tmp_path)
    try:
        alone.run_kubectl("apply", "--server-side", "-k", tmp_path)
        job = ("job/packhorse-uninstall", "-n", "packhorse-uninstall")
        alone.run_kubectl("wait", *job, "--for=condition=Complete", "--timeout=180s")
        alone.run_kubectl("wait", f"namespace/{served.name}", "--for=delete", "--timeout=120s")
    finally:
        alone.run_kubectl("delete", "-k", tmp_path, "--ignore-not-found")


def overlay(cluster: Cluster, namespace: Namespace, folder: Path) -> None:
    """A kustomization of the manifests with the image of this cluster, for one namespace."""
    name, tag = cluster.operator_image.rsplit(":", 1)
    variable = {"op": "replace", "path": "/spec/template/spec/containers/0/env/0/value", "value": namespace.name}
    kustomization = {
        "resources": [os.path.relpath(ROOT / "manifests" / "uninstall", folder.resolve())],
        "images": [{"name": "packhorse/packhorse", "newName": name, "newTag": tag}],
        "patches": [{"target": {"kind": "Job"}, "patch": yaml.safe_dump([variable])}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
