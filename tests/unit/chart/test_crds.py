"""The chart's CRDs are those of crds/, and survive being printed by Helm."""

import pytest
import yaml

from packhorse.model import RESOURCES
from packhorse.model.crd import custom_resource_definition, file_name
from tests.unit.chart.rendering import CHART, CRDS, Object, keys, render

OURS = {f"{resource.plural}.packhorse.dev": resource for resource in RESOURCES}


def crds(objects: list[Object]) -> list[Object]:
    return [item for item in objects if item["kind"] == "CustomResourceDefinition"]


def test_the_chart_has_the_same_files() -> None:
    wanted = {file_name(resource) for resource in RESOURCES}
    for folder in (CRDS, CHART / "files" / "crds"):
        assert {file.name for file in folder.glob("*.yaml")} == wanted, folder
    for name in wanted:
        same = (CRDS / name).read_text() == (CHART / "files" / "crds" / name).read_text()
        assert same, f"helm/packhorse/files/crds/{name} is not up to date; run `make crds`"


def test_kustomize_has_each() -> None:
    listed = yaml.safe_load((CRDS / "Kustomization").read_text())["resources"]
    assert listed == [file_name(resource) for resource in RESOURCES]


@pytest.mark.parametrize("keep", [True, False])
def test_helm_prints_them_as_they_are(keep: bool) -> None:
    rendered = crds(render({"crds": {"keep": keep}}))
    assert {item["metadata"]["name"] for item in rendered} == OURS.keys()
    for item in rendered:
        own = custom_resource_definition(OURS[item["metadata"]["name"]])
        assert item["spec"] == own["spec"]
        assert own["metadata"]["labels"].items() <= item["metadata"]["labels"].items()
        kept = {"helm.sh/resource-policy": "keep"} if keep else None
        assert item["metadata"].get("annotations") == kept


def test_without_crds() -> None:
    gone = keys(render()) - keys(render({"crds": {"enabled": False}}))
    assert gone == {("CustomResourceDefinition", name) for name in OURS}
