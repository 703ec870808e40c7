"""What all our resources share: metadata, conditions, and what a CRD says of a kind besides its fields."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

GROUP = "packhorse.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Model(BaseModel):
    """A part of a resource: camelCase outside, unknown fields ignored (the API server prunes or refuses them)."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    rules: ClassVar[tuple["Rule", ...]] = ()
    """CEL rules that the API server checks on this object."""

    def dump(self) -> dict[str, Any]:
        """As it goes to the API server: camelCase, plain JSON values, nothing where there is nothing."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def dump_given(self) -> dict[str, Any]:
        """The same, without what was not given: an object as the API server has it, with no defaults of ours."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


@dataclass(frozen=True)
class Rule:
    """A CEL validation rule (``x-kubernetes-validations``).

    Attributes:
        rule: True where the object is good.
        message: What is wrong and what to write instead.
        message_expression: A CEL string that says the same with the object's own values.
        field_path: JSON path of the field to blame, below the object that carries the rule.
    """

    rule: str
    message: str
    message_expression: str | None = None
    field_path: str | None = None

    def schema(self) -> dict[str, str]:
        """As an entry of ``x-kubernetes-validations``."""
        entry = {"rule": self.rule, "message": self.message}
        if self.message_expression:
            entry["messageExpression"] = self.message_expression
        if self.field_path:
            entry["fieldPath"] = self.field_path
        return entry


def checked(*rules: Rule) -> dict[str, JsonValue]:
    """What a field with rules of its own adds to its schema (pydantic's ``json_schema_extra``)."""
    return {"x-kubernetes-validations": [dict(rule.schema()) for rule in rules]}


IMMUTABLE = Rule("self == oldSelf", "cannot be changed; delete the object and create another one")


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; ``priority`` 1 shows it with ``-o wide`` only."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    description: str = ""
    priority: int = 0


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True)
class Scale:
    """Where the scale subresource finds its numbers, so that ``kubectl scale``, HPA and KEDA work."""

    replicas: str
    status_replicas: str
    selector: str


class OwnerReference(Model):
    """The owner of an object, as far as we read it."""

    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(Model):
    """Object metadata, as far as we read it."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(Model):
    """One observation about an object, in the form that all of Kubernetes uses."""

    type: Annotated[str, Field(max_length=316)]
    """What is observed, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, in one word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, for people: what is wrong, with which object, and what to do."""
    last_transition_time: str
    """When the status last changed."""
    observed_generation: int = 0
    """The metadata.generation that this was observed of."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class Status(Model):
    """What every status has."""

    default: ClassVar[dict[str, Any]] = {"observedGeneration": -1}
    """What the API server puts there at creation: without it kstatus (Flux, ``helm --wait``) takes a new object for
    ready.
    """

    observed_generation: int = -1
    """The metadata.generation that the operator last acted on; -1 before the first time."""
    conditions: Conditions = ()
    """Observations about this object. kubectl wait --for=condition=... waits for one."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


class Resource(Model):
    """A custom resource; a subclass adds ``spec`` and ``status``."""

    kind: ClassVar[str]
    plural: ClassVar[str]
    short_name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    scale: ClassVar[Scale | None] = None

    metadata: Metadata

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name
