"""Pool: nodes that are kept warm with an application's packages on them, and the states that Batch gives to nodes."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from packhorse.model.meta import AGE, IMMUTABLE, Column, Model, Resource, Rule, Scale, Status, checked
from packhorse.model.names import DNS_SUBDOMAIN
from packhorse.model.reference import EnvironmentSettings, References

POOL_LABEL = "packhorse.dev/pool"
"""On every pod that is a node: the name of its pool."""


class NodeFillType(StrEnum):
    """How tasks are spread over the nodes of a pool."""

    SPREAD = "Spread"
    PACK = "Pack"


class TaskSchedulingPolicy(Model):
    """How tasks are distributed."""

    node_fill_type: NodeFillType = NodeFillType.SPREAD
    """Spread: evenly over all nodes. Pack: fill one node before the next."""


class NodeStorage(Model):
    """The volume that holds a node's packages and tasks."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.ephemeral && has(self.storageClassName))",
            "storageClassName has no meaning with ephemeral: true; remove one of them",
        ),
    )

    size: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")] = "10Gi"
    """Space for packages, unpacked, and for tasks' files, as a Kubernetes quantity."""
    storage_class_name: Annotated[str, Field(max_length=253)] | None = None
    """Storage class of the nodes' volume claims. Default: the cluster's own default class."""
    ephemeral: bool = False
    """If true, a node's files last as long as its pod: a reboot loses them."""


class PoolSpec(Model):
    """What the nodes are and what is on them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(oldSelf.nodeStorage) || (has(self.nodeStorage) && self.nodeStorage == oldSelf.nodeStorage)",
            "nodeStorage cannot be changed, since nodes keep their volumes; create another Pool",
            field_path=".nodeStorage",
        ),
    )

    target_nodes: Annotated[int, Field(ge=0, le=10000)] = 1
    """How many nodes there should be. kubectl scale sets it."""
    image: Annotated[str, Field(min_length=1, max_length=1024)]
    """Container image that tasks run in: anything with /bin/sh."""
    task_slots_per_node: Annotated[int, Field(ge=1, le=256, json_schema_extra=checked(IMMUTABLE))] = 1
    """How many tasks of one slot a node runs at once. It cannot be changed, as in Batch."""
    task_scheduling_policy: TaskSchedulingPolicy = TaskSchedulingPolicy()
    """How tasks are distributed over the nodes."""
    application_package_references: References = ()
    """Packages on every node. A change reaches new nodes, and others when they are rebooted or reimaged."""
    environment_settings: EnvironmentSettings = ()
    """Variables for every process on the nodes. A change reaches new and rebooted nodes."""
    node_storage: NodeStorage = NodeStorage()
    """Where a node keeps packages and tasks' files. It cannot be changed."""


class NodeState(StrEnum):
    """States of a compute node, in Batch's words."""

    CREATING = "creating"
    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    REBOOTING = "rebooting"
    LEAVING_POOL = "leavingpool"
    UNUSABLE = "unusable"
    UNKNOWN = "unknown"


class ErrorDetail(Model):
    """One name and value that explain an error further."""

    name: str
    """What it is about, such as ApplicationPackageReference or Cause."""
    value: str
    """What there is to say of it."""


class NodeError(Model):
    """Why a node is unusable, in the form of Batch's node errors."""

    code: str
    """Batch's code, such as ApplicationPackageError."""
    message: str
    """Batch's message."""
    error_details: Annotated[tuple[ErrorDetail, ...], Field(max_length=16)] = ()
    """Which package, and the true cause."""


class DeployedPackage(Model):
    """A package with its content."""

    application_id: str
    """Id of the application."""
    version: str
    """Its version."""
    sha256: str
    """Digest of the content."""


class NodeStatus(Model):
    """One node of a pool."""

    name: str
    """Name of the node, which is that of its pod."""
    state: NodeState
    """creating, starting, idle, running, rebooting, leavingpool, unusable or unknown, as in Batch."""
    state_transition_time: str
    """Since when."""
    packages: Annotated[tuple[DeployedPackage, ...], Field(max_length=10)] = ()
    """The pool's packages as this node installed them when it last started."""
    up_to_date: bool = False
    """Whether these are what a node would install now. A reboot brings them up to date."""
    running_tasks: int = 0
    """How many tasks it runs."""
    errors: Annotated[tuple[NodeError, ...], Field(max_length=16)] = ()
    """Why it is unusable."""


class PoolStatus(Status):
    """What the operator knows of the pool."""

    allocation_state: Literal["steady", "resizing"] | None = None
    """steady: as many nodes as there should be. resizing: on the way there."""
    selector: str | None = None
    """Label selector of its nodes' pods, for the scale subresource."""
    current_nodes: int = 0
    """How many nodes there are."""
    idle_nodes: int = 0
    """How many of them wait for a task."""
    running_nodes: int = 0
    """How many of them run one or more."""
    unusable_nodes: int = 0
    """How many of them get no tasks since an installation failed."""
    outdated_nodes: int = 0
    """How many of them hold other packages than a node would install now."""
    packages: Annotated[tuple[DeployedPackage, ...], Field(max_length=10)] = ()
    """The packages that a node would install now: each reference with its version and content."""
    nodes: Annotated[
        tuple[NodeStatus, ...],
        Field(
            max_length=10000,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Every node."""


class Pool(Resource):
    """A pool of nodes: warm pods that have the pool's application packages and run tasks."""

    kind: ClassVar[str] = "Pool"
    plural: ClassVar[str] = "pools"
    short_name: ClassVar[str] = "phpool"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.metadata.name.size() <= 52 && !self.metadata.name.contains('.')",
            "metadata.name begins the names of the pool's nodes: at most 52 letters, digits and hyphens, no periods",
        ),
    )
    scale: ClassVar[Scale | None] = Scale(".spec.targetNodes", ".status.currentNodes", ".status.selector")
    columns: ClassVar[tuple[Column, ...]] = (
        Column("Target", ".spec.targetNodes", "integer", "How many nodes there should be"),
        Column("Nodes", ".status.currentNodes", "integer", "How many there are"),
        Column("Idle", ".status.idleNodes", "integer"),
        Column("Running", ".status.runningNodes", "integer"),
        Column("Unusable", ".status.unusableNodes", "integer"),
        Column("Outdated", ".status.outdatedNodes", "integer", "Nodes that a reboot would give other packages"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Image", ".spec.image", priority=1),
        AGE,
    )

    spec: PoolSpec
    """What the nodes are and what is on them."""
    status: PoolStatus = PoolStatus()
    """What the operator knows of it."""


PoolName = Annotated[str, Field(min_length=1, max_length=52, pattern=DNS_SUBDOMAIN)]
