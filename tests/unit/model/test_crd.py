"""The generated CRDs: structural, described, bounded, up to date."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from packhorse.model import RESOURCES, Pool, Resource, Task
from packhorse.model.crd import custom_resource_definition, file_name, main, render, structural

CRDS = Path(__file__).parents[3] / "crds"
Schema = dict[str, Any]


def root(resource: type[Resource]) -> Schema:
    (version,) = custom_resource_definition(resource)["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{path}[]")


ALL = [
    pytest.param(path, schema, id=f"{resource.kind}{path}")
    for resource in RESOURCES
    for path, schema in nodes(root(resource))
    if path != ".metadata"
]


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_files_are_up_to_date(resource: type[Resource]) -> None:
    same = (CRDS / file_name(resource)).read_text() == render(resource)
    assert same, f"crds/{file_name(resource)} is not up to date; run `make crds`"


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_structural(path: str, schema: Schema) -> None:
    known = {"type", "description", "enum", "pattern", "format", "default", "minimum", "maximum"}
    known |= {"minLength", "maxLength", "minItems", "maxItems", "properties", "required", "items"}
    known |= {"maxProperties", "additionalProperties"}
    if "x-kubernetes-int-or-string" in schema:
        assert "type" not in schema, path
        return
    assert schema["type"] in {"object", "array", "string", "integer", "boolean"}, path
    assert {key for key in schema if not key.startswith("x-kubernetes-")} <= known, path
    assert schema["type"] != "array" or "items" in schema, path
    assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), path
    assert not {"properties", "x-kubernetes-preserve-unknown-fields"} & schema.keys() or (
        "additionalProperties" not in schema
    ), path


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_every_field_is_described_in_plain_sentences(path: str, schema: Schema) -> None:
    if path.endswith("[]"):
        return
    text = schema["description"]
    assert len(text) >= 10, path
    assert "\n" not in text, path
    assert "``" not in text, path


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_what_users_write_is_bounded(path: str, schema: Schema) -> None:
    """Else the API server finds the rules too costly."""
    if not path.startswith(".spec"):
        return
    if "x-kubernetes-int-or-string" in schema:
        assert "pattern" in schema, path
        return
    if schema["type"] == "array":
        assert "maxItems" in schema, path
    if "additionalProperties" in schema:
        assert "maxProperties" in schema, path
    if schema["type"] == "string":
        assert "maxLength" in schema or "enum" in schema, path
    if schema["type"] == "integer":
        assert {"minimum", "maximum"} <= schema.keys(), path


def nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(nulls(inner) for inner in value.values())
    return value is None or (isinstance(value, list) and any(nulls(inner) for inner in value))


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_defaults_are_values_of_their_fields(path: str, schema: Schema) -> None:
    if "default" not in schema:
        return
    default = schema["default"]
    kinds: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    assert type(default) is kinds[schema["type"]], path
    assert not nulls(default), path
    if "enum" in schema:
        assert default in schema["enum"], path
    if isinstance(default, dict):
        assert default.keys() <= schema["properties"].keys(), path
    if path.startswith(".status."):
        pytest.fail(f"{path}: the API server would write this into every object")


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_new_object_is_not_taken_for_ready(resource: type[Resource]) -> None:
    assert root(resource)["properties"]["status"]["default"]["observedGeneration"] == -1


def test_a_new_task_is_active() -> None:
    assert root(Task)["properties"]["status"]["default"] == {"observedGeneration": -1, "state": "active"}


def find(schema: Schema, path: str) -> Schema:
    """The schema at a JSON path of a column or of the scale subresource."""
    for part in re.sub(r"\[\?\(@\.type=='\w+'\)\]", "[]", path).lstrip(".").split("."):
        name, _, is_list = part.partition("[")
        schema = schema["properties"][name]
        schema = schema["items"] if is_list else schema
    return schema


@pytest.mark.parametrize("resource", RESOURCES)
def test_columns_show_fields_that_there_are(resource: type[Resource]) -> None:
    (version,) = custom_resource_definition(resource)["spec"]["versions"]
    for column in version["additionalPrinterColumns"]:
        if column["jsonPath"] == ".metadata.creationTimestamp":
            assert column["type"] == "date"
        else:
            assert find(root(resource), column["jsonPath"])["type"] == column["type"], column


def test_scale() -> None:
    (version,) = custom_resource_definition(Pool)["spec"]["versions"]
    scale = version["subresources"]["scale"]
    assert find(root(Pool), scale["specReplicasPath"])["type"] == "integer"
    assert find(root(Pool), scale["statusReplicasPath"])["type"] == "integer"
    assert find(root(Pool), scale["labelSelectorPath"])["type"] == "string"
    (version,) = custom_resource_definition(Task)["spec"]["versions"]
    assert version["subresources"] == {"status": {}}


@pytest.mark.parametrize("resource", RESOURCES)
def test_names_of_the_kind(resource: type[Resource]) -> None:
    found = custom_resource_definition(resource)
    names = found["spec"]["names"]
    assert found["metadata"]["name"] == f"{names['plural']}.packhorse.dev"
    assert (names["kind"], names["singular"]) == (resource.kind, resource.kind.lower())
    assert names["shortNames"][0].startswith("ph")
    assert names["categories"] == ["packhorse"]
    assert found["spec"]["scope"] == "Namespaced"


@pytest.mark.parametrize("resource", RESOURCES)
def test_lists_by_key_have_their_keys(resource: type[Resource]) -> None:
    for path, schema in nodes(root(resource)):
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            assert key in schema["items"]["properties"], path
            assert key in schema["items"]["required"], path


@pytest.mark.parametrize("resource", RESOURCES)
def test_what_is_written_is_yaml_that_says_where_it_comes_from(resource: type[Resource]) -> None:
    text = render(resource)
    assert text.startswith("# Generated")
    assert yaml.safe_load(text) == custom_resource_definition(resource)


def test_unions_are_refused() -> None:
    with pytest.raises(TypeError, match="no unions"):
        structural({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {})


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    monkeypatch.setattr(sys, "argv", ["crd", str(folder)])
    assert main() == 1
    assert "make crds" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["crd", "--write", str(folder)])
    assert main() == 0
    monkeypatch.setattr(sys, "argv", ["crd", str(folder)])
    assert main() == 0
    (folder / file_name(Pool)).write_text("edited by hand")
    assert main() == 1
    assert file_name(Pool) in capsys.readouterr().err
