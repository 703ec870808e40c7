"""Pool: nodes that are kept warm with an application's packages on them."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from packhorse.model.meta import AGE, IMMUTABLE, Column, Model, Resource, Rule, Scale, Status, checked
from packhorse.model.names import DNS_SUBDOMAIN
from packhorse.model.node import DeployedPackage, NodeStatus, RunningTaskOption
from packhorse.model.reference import Duration, EnvironmentSettings, References
from packhorse.model.template import PodTemplate


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
        Rule(
            "!has(self.medium) || self.ephemeral",
            "medium: Memory means files that last as long as their pod; add ephemeral: true",
            field_path=".medium",
        ),
    )

    size: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")] = "10Gi"
    """Space for packages, unpacked, and for tasks' files, as a Kubernetes quantity."""
    storage_class_name: Annotated[str, Field(max_length=253)] | None = None
    """Storage class of the nodes' volume claims. Default: the cluster's own default class."""
    ephemeral: bool = False
    """If true, a node's files last as long as its pod: a reboot loses them."""
    medium: Literal["Memory"] | None = None
    """Memory: an ephemeral node's files are in its machine's memory, as much as size allows, and counted as its memory.
    Default: on the machine's disk.
    """


class StartTask(Model):
    """A command that every node runs when it starts: after the packages are installed, before it gets tasks."""

    command_line: Annotated[str, Field(min_length=1, max_length=65536)]
    """Run by /bin/sh -c in $AZ_BATCH_NODE_STARTUP_DIR/wd, with the variables of the node and its packages. It may run
    again on a node, also without a reboot.
    """
    environment_settings: EnvironmentSettings = ()
    """Variables for it; they win over the pool's."""
    max_task_retry_count: Annotated[int, Field(ge=-1, le=1000)] = 0
    """How often it is run again after an exit code other than 0; -1 means without limit."""
    wait_for_success: bool = True
    """If true, the node gets tasks only when it has succeeded, and is starttaskfailed when it has not."""


class NodeUpdatePolicy(StrEnum):
    """When nodes that exist get changed packages."""

    ON_REBOOT = "OnReboot"
    ROLLING = "Rolling"


class RollingUpdate(Model):
    """How a pool with nodeUpdatePolicy Rolling is brought up to date."""

    max_unavailable: Annotated[int, Field(ge=1, le=10000)] = 1
    """How many nodes may be unable to take tasks at once, for whatever reason."""


class AutoScale(Model):
    """Lets the number of nodes follow the tasks."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minNodes <= self.maxNodes",
            "minNodes is above maxNodes; raise maxNodes or lower minNodes",
            field_path=".minNodes",
        ),
    )

    min_nodes: Annotated[int, Field(ge=0, le=10000)] = 0
    """Never fewer nodes than that."""
    max_nodes: Annotated[int, Field(ge=1, le=10000)]
    """Never more."""
    scale_down_delay: Duration = "5m"
    """For how long fewer nodes must have been enough before some go."""


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
    """How many nodes there should be. kubectl scale sets it; with autoScale the operator does."""
    auto_scale: AutoScale | None = None
    """Lets the number of nodes follow the slots that tasks need. Leave out targetNodes then."""
    node_deallocation_option: RunningTaskOption = RunningTaskOption.REQUEUE
    """What becomes of the tasks on a node that leaves since targetNodes was lowered: requeue them, terminate them, or
    wait for them (taskcompletion).
    """
    image: Annotated[str, Field(min_length=1, max_length=1024)]
    """Container image that tasks run in: anything with /bin/sh."""
    task_slots_per_node: Annotated[int, Field(ge=1, le=256, json_schema_extra=checked(IMMUTABLE))] = 1
    """How many tasks of one slot a node runs at once. It cannot be changed, as in Batch."""
    task_scheduling_policy: TaskSchedulingPolicy = TaskSchedulingPolicy()
    """How tasks are distributed over the nodes."""
    application_package_references: References = ()
    """Packages on every node. A change reaches new nodes, and others when they are rebooted or reimaged."""
    node_update_policy: NodeUpdatePolicy = NodeUpdatePolicy.ON_REBOOT
    """OnReboot, as in Batch: a node that exists changes only when somebody reboots it. Rolling: the operator reboots
    nodes that are not up to date when they run no task, and stops where one of them fails.
    """
    rolling_update: RollingUpdate = RollingUpdate()
    """For Rolling: how many nodes at once."""
    start_task: StartTask | None = None
    """Runs on every node when it starts. A change reaches new and rebooted nodes."""
    environment_settings: EnvironmentSettings = ()
    """Variables for every process on the nodes. A change reaches new and rebooted nodes."""
    node_storage: NodeStorage = NodeStorage()
    """Where a node keeps packages and tasks' files. It cannot be changed."""
    enable_inter_node_communication: bool = False
    """If true, nodes of the pool may open connections to each other. No others ever may, where the cluster's network
    keeps to NetworkPolicies.
    """
    template: PodTemplate | None = None
    """A partial pod template: resources, machines, volumes and whatever else the nodes' pods shall have. A change
    reaches new and rebooted nodes.
    """


class AutoScaleRun(Model):
    """What autoScale found last."""

    needed_nodes: int
    """Nodes for the slots that tasks need now, within minNodes and maxNodes."""
    peak_nodes: int = 0
    """The highest number needed since scaleDownSince."""
    scale_down_since: str | None = None
    """Since when fewer nodes than targetNodes have been enough."""


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
    """How many of them get no tasks since an installation or their start task failed."""
    offline_nodes: int = 0
    """How many of them get no tasks since somebody disabled scheduling."""
    unknown_nodes: int = 0
    """How many of them have lost contact."""
    outdated_nodes: int = 0
    """How many of them are not what a new node would be now; see nodes."""
    auto_scale_run: AutoScaleRun | None = None
    """What autoScale found last."""
    packages: Annotated[tuple[DeployedPackage, ...], Field(max_length=100)] = ()
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
