"""Argo CD's health checks of our kinds, run as Argo CD runs them: in Lua, with the object as `obj`."""

from typing import Any

import lupa
import pytest
import yaml

from packhorse.model import RESOURCES
from tests.unit.chart.rendering import MANIFESTS

ARGOCD = MANIFESTS / "gitops" / "argocd"


def condition(kind: str, status: str, message: str, reason: str = "Because") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


READY = condition("Ready", "True", "fine")


def health(kind: str, status: dict[str, Any] | None, generation: int = 2) -> tuple[str, str]:
    """Health and message of an object, as Argo CD finds them by the script for its kind."""
    scripts = yaml.safe_load((ARGOCD / "health.yaml").read_text())["data"]
    runtime = lupa.LuaRuntime(unpack_returned_tuples=True)
    item: dict[str, Any] = {"kind": kind, "metadata": {"generation": generation}}
    if status is not None:
        item["status"] = {"observedGeneration": generation, **status}
    runtime.globals()["obj"] = runtime.table_from(item, recursive=True)
    result = runtime.execute(scripts[f"resource.customizations.health.packhorse.dev_{kind}"])
    return result["status"], result["message"] or ""


def test_every_kind_has_a_health_check() -> None:
    scripts = yaml.safe_load((ARGOCD / "health.yaml").read_text())["data"]
    assert set(scripts) == {f"resource.customizations.health.packhorse.dev_{kind.kind}" for kind in RESOURCES}


@pytest.mark.parametrize("kind", [resource.kind for resource in RESOURCES])
@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"conditions": []}])
def test_a_new_object_is_on_its_way(kind: str, status: dict[str, Any] | None) -> None:
    assert health(kind, status)[0] == "Progressing"


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        ("Application", {"conditions": [READY]}),
        ("ApplicationPackage", {"state": "Active", "conditions": [READY]}),
        ("Pool", {"conditions": [READY]}),
    ],
)
def test_what_was_found_of_an_earlier_generation_does_not_count(kind: str, old: dict[str, Any]) -> None:
    assert health(kind, old) == ("Healthy", "fine")
    assert health(kind, {**old, "observedGeneration": 1})[0] == "Progressing"


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("Application", {"conditions": [condition("Ready", "False", "too many")]}, ("Degraded", "too many")),
        (
            "Application",
            {"conditions": [condition("Ready", "False", "no 2.7 yet", "RequestedDefaultVersionNotActive")]},
            ("Progressing", "no 2.7 yet"),
        ),
        ("ApplicationPackage", {"state": "Pending"}, ("Progressing", "Waiting for its file")),
        (
            "ApplicationPackage",
            {"state": "Pending", "conditions": [condition("Ready", "False", "no blob")]},
            ("Progressing", "no blob"),
        ),
        (
            "ApplicationPackage",
            {"state": "Pending", "conditions": [condition("StorageLinked", "False", "link one"), READY]},
            ("Degraded", "link one"),
        ),
        (
            "ApplicationPackage",
            {"state": "Failed", "conditions": [condition("Ready", "False", "no ZIP")]},
            ("Degraded", "no ZIP"),
        ),
        ("Pool", {"conditions": [condition("Ready", "False", "1 of 3")]}, ("Progressing", "1 of 3")),
        (
            "Pool",
            {"unusableNodes": 1, "conditions": [condition("Ready", "False", "render-1: no")]},
            ("Degraded", "render-1: no"),
        ),
        (
            "Pool",
            {"conditions": [condition("Ready", "False", "not ours", "Conflict")]},
            ("Degraded", "not ours"),
        ),
        ("Task", {"state": "running"}, ("Progressing", "running")),
        ("Task", {"state": "completed", "conditions": [condition("Complete", "True", "done")]}, ("Healthy", "done")),
        ("Task", {"state": "completed", "conditions": [condition("Failed", "True", "exit 1")]}, ("Degraded", "exit 1")),
    ],
)
def test_health(kind: str, status: dict[str, Any], expected: tuple[str, str]) -> None:
    assert health(kind, status) == expected
