"""No CEL rule without an example that it lets pass and one that it refuses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from packhorse.model import RESOURCES, Resource
from packhorse.model.crd import custom_resource_definition
from packhorse.model.names import DNS_SUBDOMAIN, InvalidNameError, check_id, check_version
from tests.unit.model.rule_examples import EXAMPLES, ID_NAME, UNFIT, UNNAMEABLE, VERSION_NAME, Example, Named


def validations(schema: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Every rule in a schema."""
    yield from schema.get("x-kubernetes-validations", ())
    for inner in schema.get("properties", {}).values():
        yield from validations(inner)
    if "items" in schema:
        yield from validations(schema["items"])


def rules(resource: type[Resource]) -> list[dict[str, str]]:
    (version,) = custom_resource_definition(resource)["spec"]["versions"]
    return list(validations(version["schema"]["openAPIV3Schema"]))


RULES = [(resource, rule["message"]) for resource in RESOURCES for rule in rules(resource)]


@pytest.mark.parametrize(("resource", "message"), sorted(set(RULES), key=str))
def test_every_rule_has_good_and_bad_examples(resource: type[Resource], message: str) -> None:
    own = [example for example in EXAMPLES if (example.resource, example.rule) == (resource, message)]
    assert any(example.told is None for example in own), "there is no example that it lets pass"
    assert any(example.told is not None for example in own), "there is no example that it refuses"


def test_a_rule_that_is_used_in_several_places_has_a_bad_example_for_each() -> None:
    for resource, message in set(RULES):
        bad = [
            example
            for example in EXAMPLES
            if (example.resource, example.rule) == (resource, message) and example.told is not None
        ]
        assert len(bad) >= RULES.count((resource, message)), message


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_is_of_a_rule_and_breaks_nothing_else(example: Example) -> None:
    """What the schema itself would refuse tells nothing of a rule."""
    assert (example.resource, example.rule) in RULES
    for spec in (example.spec, example.before):
        if spec is not None:
            parsed = example.resource.model_validate(example.manifest(spec))
            assert parsed.dump_given()["spec"] == spec


def check(named: Named) -> None:
    check_id(named.application_id)
    if named.version is not None:
        check_version(named.version)


@pytest.mark.parametrize("named", UNFIT, ids=str)
def test_what_the_schema_refuses_is_refused_by_the_functions_too(named: Named) -> None:
    with pytest.raises(ValidationError):
        named.example.resource.model_validate(named.example.manifest())
    with pytest.raises(InvalidNameError, match="at most 64"):
        check(named)


@pytest.mark.parametrize("named", UNNAMEABLE, ids=str)
def test_what_gives_no_legal_name_is_refused_with_that_reason(named: Named) -> None:
    named.example.resource.model_validate(named.example.manifest())
    assert not re.fullmatch(DNS_SUBDOMAIN, named.example.name)
    with pytest.raises(InvalidNameError, match="gives no name that Kubernetes allows"):
        check(named)


@pytest.mark.parametrize(
    "example", [example for example in EXAMPLES if example.resource.kind.startswith("Application")], ids=str
)
def test_the_functions_say_of_ids_and_versions_what_the_rules_say(example: Example) -> None:
    """Where another rule refuses an object, its id is good all the same: it is the name that is wrong."""
    said = refusal(example.spec.get("id") or example.spec.get("applicationId", "none"), example.spec.get("version"))
    assert said == (example.told if example.rule in {ID_NAME, VERSION_NAME} else None)


def refusal(application_id: str, version: str | None) -> str | None:
    """The functions' words in the form of the rules', which leave out the name that would come of it."""
    try:
        check_id(application_id)
        if version is not None:
            check_version(version)
    except InvalidNameError as error:
        return re.sub(r" \('[^']*'\)", "", str(error)).replace("'", '"')
    return None


def test_messages_say_what_to_do() -> None:
    for resource in RESOURCES:
        for rule in rules(resource):
            assert len(rule["message"]) > 30
            assert rule["message"][0].islower()
            assert not rule["message"].endswith(".")
