"""What Helm does after an uninstall, so that no object waits for an operator that is gone."""

import importlib.util
from typing import Any

import pytest

from tests.unit.chart.rendering import HOOK, MANIFESTS, Object, find, hooks, kustomize, render

NAME = "packhorse-uninstall"


def job(objects: list[Object]) -> Any:
    return find(objects, "Job", NAME)["spec"]


def test_hooks_run_after_the_deletion_and_go_when_they_are_done() -> None:
    found = hooks(render())
    assert [item["kind"] for item in found] == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"]
    for item in found:
        assert item["metadata"]["name"] == NAME
        assert item["metadata"]["annotations"][HOOK] == "post-delete"
        policies = item["metadata"]["annotations"][f"{HOOK}-delete-policy"].split(",")
        assert policies == ["before-hook-creation", "hook-succeeded"]
    weights = [int(item["metadata"]["annotations"][f"{HOOK}-weight"]) for item in found]
    assert max(weights[:-1]) < weights[-1], "rights before the Job that needs them"


def test_the_rights_of_the_operator_are_no_hooks() -> None:
    """They are gone before the Job runs, so the operator cannot put the finalizers back."""
    kinds = ("ClusterRoleBinding", "RoleBinding")
    for values in ({}, {"watchNamespaces": ["render"]}):
        objects = render(values)
        bound = [item for item in objects if item["kind"] in kinds and "operator" in item["metadata"]["name"]]
        assert bound
        assert all(HOOK not in item["metadata"].get("annotations", {}) for item in bound)


def test_nothing_of_it_needs_a_namespace_that_may_be_gone() -> None:
    objects = hooks(render({"watchNamespaces": ["render"]}))
    assert {item["metadata"].get("namespace") for item in objects} == {None, "packhorse-system"}


@pytest.mark.parametrize("namespaces", [[], ["render", "genomics"]])
def test_the_job_runs_the_operators_image_for_the_served_namespaces(namespaces: list[str]) -> None:
    values = {"watchNamespaces": namespaces, "image": {"repository": "r/p", "tag": "9", "pullPolicy": "Always"}}
    [container] = job(render(values))["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("r/p:9", "Always")
    assert container["env"] == [{"name": "PACKHORSE_WATCH_NAMESPACES", "value": ",".join(namespaces)}]


def test_the_program_is_there() -> None:
    for objects in (render(), kustomize(MANIFESTS / "uninstall")):
        [container] = job(objects)["template"]["spec"]["containers"]
        python, option, module = container["command"]
        assert (python, option) == ("python3", "-m")
        assert importlib.util.find_spec(module)


def test_the_job_goes_where_the_operator_went() -> None:
    settings = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "registry"}],
    }
    assert settings.items() <= job(render(settings))["template"]["spec"].items()


def test_the_job_ends() -> None:
    """Helm waits five minutes by default: the Job's own end comes first and is told."""
    spec = job(render())
    assert spec["activeDeadlineSeconds"] < 300
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_no_service_or_policy_takes_the_job_for_another_pod() -> None:
    objects = render()
    labels = job(objects)["template"]["metadata"]["labels"]
    for item in objects:
        if item["kind"] == "Service":
            assert not item["spec"]["selector"].items() <= labels.items()
