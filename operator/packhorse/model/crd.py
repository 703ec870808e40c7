"""Makes the CustomResourceDefinitions out of the models: ``python -m packhorse.model.crd --write crds``.

pydantic gives JSON Schema; a CRD wants a *structural* schema: no references, no ``anyOf`` with null, no titles, and
Kubernetes' own extensions. This module translates the one into the other and adds columns, scale and CEL rules.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from packhorse.model import RESOURCES
from packhorse.model.meta import GROUP, VERSION, Model, Resource, Status

_HEADER = "# Generated from operator/packhorse/model by `make crds`. Do not edit.\n"

_KEPT = frozenset(
    {"type", "description", "enum", "pattern", "format", "default", "minimum", "maximum"}
    | {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)

_OPEN = "x-kubernetes-preserve-unknown-fields"


def structural(
    schema: dict[str, Any], definitions: dict[str, dict[str, Any]], *, status: bool = False
) -> dict[str, Any]:
    """Translate one node of pydantic's JSON Schema (which may refer to ``definitions``) into a structural schema.

    Empty defaults are left out, and all those in a status: the API server would write them into every object.
    """
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    if "anyOf" in schema:
        given = [option for option in schema["anyOf"] if option.get("type") != "null"]
        if len(given) != 1:
            raise TypeError(f"a CRD has no unions: {schema}")
        rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
        return structural({**given[0], **rest}, definitions, status=status)
    if "const" in schema:
        schema = {**schema, "enum": [schema["const"]]}
    result = _tidy(schema, status=status)
    if "items" in schema:
        result["items"] = structural(schema["items"], definitions, status=status)
    further = schema.get("additionalProperties")
    if further is True:
        result[_OPEN] = True
    elif further is not None and _OPEN not in result:
        result["additionalProperties"] = structural(further, definitions, status=status)
    if "properties" in schema:
        result["properties"] = {
            name: structural(item, definitions, status=status) for name, item in schema["properties"].items()
        }
        if schema.get("required"):
            result["required"] = list(schema["required"])
    return result


def _tidy(schema: dict[str, Any], *, status: bool) -> dict[str, Any]:
    """The plain keywords of a schema that a CRD has too."""
    result = {key: value for key, value in schema.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    if result.get("default") in (None, [], "") or status:
        result.pop("default", None)
    if isinstance(result.get("default"), dict):
        result["default"] = {key: value for key, value in result["default"].items() if value is not None}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    return result


def _model_schema(model: type[Model]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    result = structural(schema, schema.get("$defs", {}), status=issubclass(model, Status))
    _add_rules(result, model)
    return result


def _add_rules(schema: dict[str, Any], model: type[Model]) -> None:
    """Put the CEL rules of a model, and of all models below it, where they belong in its schema."""
    if model.rules:
        schema["x-kubernetes-validations"] = [rule.schema() for rule in model.rules]
    for name, field in model.model_fields.items():
        inner = _model_of(field)
        if inner is not None:
            child = schema["properties"][field.alias or name]
            _add_rules(child.get("items", child), inner)


def _model_of(field: FieldInfo) -> type[Model] | None:
    """The model that a field holds, alone, optionally or in a tuple."""
    pending: list[Any] = [field.annotation]
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation if issubclass(annotation, Model) else None
        pending.extend(getattr(annotation, "__args__", ()))
    return None


def custom_resource_definition(resource: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    properties: dict[str, Any] = {
        "apiVersion": {"type": "string", "description": f"Version of this kind's schema: {GROUP}/{VERSION}."},
        "kind": {"type": "string", "description": f"Kind of the object: {resource.kind}."},
        "metadata": {"type": "object"},
    }
    required = []
    for part in ("spec", "status"):
        field = resource.model_fields[part]
        model = _model_of(field)
        if model is None:
            raise TypeError(f"{resource.__name__}.{part} is no model")
        properties[part] = _model_schema(model) | {"description": field.description}
        if issubclass(model, Status):
            properties[part]["default"] = model.default
        elif field.is_required():
            required.append(part)
        else:
            properties[part]["default"] = {}
    root: dict[str, Any] = {"type": "object", "description": resource.__doc__, "properties": properties}
    if required:
        root["required"] = required
    if resource.rules:
        root["x-kubernetes-validations"] = [rule.schema() for rule in resource.rules]
    subresources: dict[str, Any] = {"status": {}}
    if resource.scale:
        subresources["scale"] = {
            "specReplicasPath": resource.scale.replicas,
            "statusReplicasPath": resource.scale.status_replicas,
            "labelSelectorPath": resource.scale.selector,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "packhorse"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["packhorse"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root},
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                }
            ],
        },
    }


def _column(column: Any) -> dict[str, Any]:
    entry = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        entry["description"] = column.description
    if column.priority:
        entry["priority"] = column.priority
    return entry


def render(resource: type[Resource]) -> str:
    """The file that holds the CRD of one kind."""
    body = yaml.safe_dump(custom_resource_definition(resource), sort_keys=False, width=120, allow_unicode=True)
    return _HEADER + body


def file_name(resource: type[Resource]) -> str:
    """The name of that file."""
    return f"{GROUP}_{resource.plural}.yaml"


def main() -> int:
    """Write the CRDs into a folder, or tell whether the files there are up to date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write the files; without it, only compare")
    arguments = parser.parse_args()
    stale = []
    for resource in RESOURCES:
        path: Path = arguments.folder / file_name(resource)
        text = render(resource)
        if arguments.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(str(path))
    if stale:
        print(f"not up to date: {', '.join(stale)}; run `make crds`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
