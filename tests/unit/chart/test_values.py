"""The values: what is refused, and that each is explained."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.chart.rendering import CHART, refusal, render

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
OPEN = re.compile(r"(^|\.)(resources|podAnnotations|podLabels|nodeSelector|affinity|annotations)$")
"""Values that are Kubernetes' own objects: what is in them is not the chart's matter."""


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and not OPEN.search(path):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def schema_leaves(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        path = f"{above}{name}"
        if "properties" in inner and not OPEN.search(path):
            yield from schema_leaves(inner, f"{path}.")
        else:
            yield path


def test_the_schema_has_each_value_and_no_other() -> None:
    assert set(schema_leaves(SCHEMA)) == {path for path, _ in leaves(VALUES)} | {"global"}


def test_the_readme_has_each_value_with_its_default() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]*)` \| (.+) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert [(path, json.loads(default)) for path, default, _ in rows] == list(leaves(VALUES))


def test_the_schema_describes_each_value() -> None:
    def check(schema: dict[str, Any], path: str) -> None:
        assert schema.get("description"), f"{path} has no description"
        for name, inner in schema.get("properties", {}).items():
            if not OPEN.search(path):
                check(inner, f"{path}.{name}")

    for name, inner in SCHEMA["properties"].items():
        check(inner, name)


def test_objects_of_the_chart_take_no_unknown_values() -> None:
    def check(schema: dict[str, Any]) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False
            for inner in schema["properties"].values():
                check(inner)

    check(SCHEMA)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"azurit": {"enabled": False}}, "'azurit' not allowed"),
        ({"azurite": {"enable": False}}, "'/azurite': additional properties 'enable' not allowed"),
        ({"azurite": {"enabled": "no"}}, "'/azurite/enabled': got string, want boolean"),
        ({"azurite": {"image": {"tag": ""}}}, "'/azurite/image/tag'"),
        ({"azurite": {"persistence": {"size": "big"}}}, "'/azurite/persistence/size': 'big' does not match"),
        ({"crds": {"keep": 1}}, "'/crds/keep': got number, want boolean"),
        ({"extraEnv": [{"name": "PACKHORSE_IMAGE", "value": "x"}]}, "'/extraEnv/0/name'"),
        ({"extraEnv": [{"value": "x"}]}, "'/extraEnv/0': missing property 'name'"),
        ({"fullnameOverride": "Packhorse"}, "'/fullnameOverride': 'Packhorse' does not match"),
        ({"image": {"digest": "abc"}}, "'/image/digest': 'abc' does not match pattern '^(sha256:[a-f0-9]{64})?$'"),
        ({"image": {"pullPolicy": "Sometimes"}}, "must be one of 'Always', 'IfNotPresent', 'Never'"),
        ({"image": {"repository": ""}}, "'/image/repository'"),
        ({"image": {"tag": 1.0}}, "'/image/tag': got number, want string"),
        ({"imagePullSecrets": ["registry"]}, "'/imagePullSecrets/0': got string, want object"),
        ({"logLevel": "loud"}, "'/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"resources": {"limit": {"memory": "1Gi"}}}, "'/resources': additional properties 'limit' not allowed"),
        ({"storage": {"container": "No_Such"}}, "'/storage/container': 'No_Such' does not match"),
        ({"storage": {"container": "a--b"}}, "'/storage/container'"),
        ({"nodes": {"networkPolicy": "yes"}}, "'/nodes/networkPolicy': got string, want boolean"),
        ({"quotas": {"applications": -1}}, "'/quotas/applications': minimum: got -1, want 0"),
        ({"quotas": {"packageSize": "much"}}, "'/quotas/packageSize': 'much' does not match"),
        ({"quotas": {"packageSize": 5}}, "'/quotas/packageSize': got number, want null or string"),
        (
            {"quotas": {"packagesPerApplication": 1.5}},
            "'/quotas/packagesPerApplication': got number, want null or integer",
        ),
        ({"quotas": {"referencesPerPool": 101}}, "'/quotas/referencesPerPool': maximum: got 101, want 100"),
        ({"storage": {"account": "http://acct"}}, "'/storage/account': 'http://acct' does not match"),
        ({"storage": {"existingSecret": "A B"}}, "'/storage/existingSecret'"),
        ({"storage": {"namespaceSecrets": "yes"}}, "'/storage/namespaceSecrets': got string, want boolean"),
        ({"storage": {"workloadIdentity": {"clientId": "me"}}}, "'/storage/workloadIdentity/clientId'"),
        ({"watchNamespaces": "render"}, "'/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["render", "render"]}, "'/watchNamespaces'"),
        ({"watchNamespaces": ["Render"]}, "'/watchNamespaces/0': 'Render' does not match"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    assert words in refusal(values)


def test_the_values_of_a_parent_chart_pass() -> None:
    assert render({"global": {"anything": 1}}) == render()
