"""What a Pool's status says, and whether its nodes may be made at all."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from packhorse.domain import azure
from packhorse.domain.autoscale import decide, nodes_for
from packhorse.domain.conditions import (
    NODES_UP_TO_DATE,
    PACKAGES_RESOLVED,
    READY,
    ROLLING_UPDATE_STOPPED,
    Observation,
    conditions,
)
from packhorse.domain.environment import CollisionError, package_variables
from packhorse.domain.nodes import Presence, Wanted, deployed_package, node_status
from packhorse.domain.podstate import Pod
from packhorse.domain.references import Catalog, UnresolvedReferenceError
from packhorse.domain.upkeep import Drain, Plan, plan, reimages
from packhorse.model import NodeState, NodeStatus, Pool, PoolStatus
from packhorse.model.node import BROKEN, POOL_LABEL
from packhorse.model.pool import AutoScaleRun, NodeUpdatePolicy
from packhorse.protocol import Problem, StartTask, VisiblePackage


@dataclass(frozen=True)
class Resolution:
    """What a pool's references mean now: the packages, or the problem with the reference that means nothing."""

    packages: tuple[VisiblePackage, ...] | None
    problem: Problem | None = None
    message: str = ""


def resolve_pool(pool: Pool, catalog: Catalog) -> Resolution:
    """Resolve a pool's references, in order; the first one that fails is told."""
    try:
        packages = catalog.resolve_all(pool.spec.application_package_references)
        package_variables(packages, catalog.defaults(packages))
    except UnresolvedReferenceError as error:
        problem = azure.invalid_packages(azure.INVALID_FOR_POOL, error.reference, azure.INVALID_REFERENCES, error.cause)
        return Resolution(None, problem, str(error))
    except CollisionError as error:
        references = ", ".join(reference.text for reference in pool.spec.application_package_references)
        problem = azure.invalid_packages(azure.INVALID_FOR_POOL, references, azure.INVALID_REFERENCES, str(error))
        return Resolution(None, problem, str(error))
    return Resolution(packages)


@dataclass(frozen=True)
class PoolView:
    """Everything that a pool's status and the plan for its nodes depend on.

    Attributes:
        pods: Its nodes.
        presence: What the connections of its nodes show, by name.
        held: How many tasks its nodes hold, connected or not, by name.
        demand: How many tasks, waiting or held, need so many slots.
        revision: The template that a node would be made from now.
        retry: Uids of unusable pods whose cause may be gone.
    """

    pool: Pool
    resolution: Resolution
    pods: Sequence[Pod]
    presence: Mapping[str, Presence]
    revision: str
    held: Mapping[str, int] = field(default_factory=dict)
    demand: Mapping[int, int] = field(default_factory=dict)
    retry: Collection[str] = ()


def fingerprint(pool: Pool) -> str:
    """Of what a node is told when it starts besides its packages; where it differs, the node is behind."""
    parts = pool.spec.model_dump_json(include={"environment_settings", "start_task"}, by_alias=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def start_task(pool: Pool) -> StartTask | None:
    """A pool's start task as its nodes are told it."""
    given = pool.spec.start_task
    if given is None:
        return None
    return StartTask(
        command_line=given.command_line,
        environment={setting.name: setting.value for setting in given.environment_settings},
        max_retry_count=given.max_task_retry_count,
        wait_for_success=given.wait_for_success,
    )


def observe_nodes(view: PoolView, now: str) -> tuple[NodeStatus, ...]:
    """The nodes of a pool as they are, by their numbers."""
    packages = view.resolution.packages
    wanted = Wanted(
        packages=[item.package for item in packages] if packages is not None else None,
        revision=view.revision,
        fingerprint=fingerprint(view.pool),
    )
    earlier = {node.name: node for node in view.pool.status.nodes}
    return tuple(
        node_status(
            pod,
            view.presence.get(pod.name),
            earlier.get(pod.name),
            target=view.pool.spec.target_nodes,
            wanted=wanted,
            now=now,
            reimaging=reimages(pod, view.pool),
        )
        for pod in sorted(view.pods, key=lambda pod: pod.ordinal)
    )


def plan_pool(view: PoolView, nodes: Sequence[NodeStatus], now: str) -> Plan:
    """What is to be done with a pool's nodes."""
    resolved = view.resolution.packages is not None
    return plan(view.pool, view.pods, nodes, held=view.held, retry=view.retry, resolved=resolved, now=now)


def scale(view: PoolView, now: str) -> tuple[int, AutoScaleRun | None, float | None]:
    """How many nodes there should be, what autoScale has to remember, and when it looks again at the latest."""
    spec = view.pool.spec
    if spec.auto_scale is None:
        return spec.target_nodes, None, None
    disabled = sum(pod.disable is not None and pod.ordinal < spec.target_nodes for pod in view.pods)
    needed = nodes_for(view.demand, spec.task_slots_per_node)
    if needed:
        needed += disabled  # they run nothing further
    return decide(spec.auto_scale, spec.target_nodes, needed, view.pool.status.auto_scale_run, now)


def pool_status(
    view: PoolView,
    nodes: Sequence[NodeStatus],
    upkeep: Plan,
    now: str,
    *,
    trouble: tuple[str, str] | None = None,
    run: AutoScaleRun | None = None,
) -> PoolStatus:
    """The status of a pool.

    Args:
        view: What it depends on.
        nodes: From ``observe_nodes``.
        upkeep: From ``plan_pool``.
        now: RFC 3339.
        trouble: Why its StatefulSet cannot be made or changed, as reason and message.
        run: What autoScale found.
    """
    pool = view.pool
    nodes = tuple(_with_pending(node, upkeep.drains.get(node.name)) for node in nodes)
    states = Counter(node.state for node in nodes)
    present = [node for node in nodes if node.packages or node.state in {NodeState.IDLE, NodeState.RUNNING}]
    outdated = sum(not node.up_to_date for node in present)
    return PoolStatus(
        observed_generation=pool.metadata.generation,
        allocation_state="steady" if _steady(pool, nodes) else "resizing",
        selector=f"{POOL_LABEL}={pool.metadata.name}",
        current_nodes=len(nodes),
        idle_nodes=states[NodeState.IDLE],
        running_nodes=states[NodeState.RUNNING],
        unusable_nodes=sum(states[state] for state in BROKEN),
        offline_nodes=states[NodeState.OFFLINE],
        unknown_nodes=states[NodeState.UNKNOWN],
        outdated_nodes=outdated,
        auto_scale_run=run,
        packages=tuple(deployed_package(item.package) for item in view.resolution.packages or ()),
        nodes=nodes,
        conditions=conditions(
            pool.status.conditions,
            [
                _ready(view, nodes, trouble),
                _resolved(view.resolution),
                _up_to_date(view, nodes, upkeep, outdated),
            ],
            generation=pool.metadata.generation,
            now=now,
        ),
    )


def _with_pending(node: NodeStatus, drain: Drain | None) -> NodeStatus:
    pending = drain.purpose.value if drain and drain.purpose else None
    return node.model_copy(update={"pending": pending})


def _steady(pool: Pool, nodes: Sequence[NodeStatus]) -> bool:
    moving = {NodeState.CREATING, NodeState.STARTING, NodeState.LEAVING_POOL}
    return len(nodes) == pool.spec.target_nodes and not any(node.state in moving for node in nodes)


def _resolved(resolution: Resolution) -> Observation:
    if resolution.packages is None:
        return Observation(PACKAGES_RESOLVED, False, azure.INVALID_REFERENCES, resolution.message)
    return Observation(PACKAGES_RESOLVED, True, "Resolved", f"{len(resolution.packages)} package(s)")


def _up_to_date(view: PoolView, nodes: Sequence[NodeStatus], upkeep: Plan, outdated: int) -> Observation:
    """NodesUpToDate: every node has what a new one would have."""
    if view.resolution.packages is None:
        return Observation(NODES_UP_TO_DATE, None, azure.INVALID_REFERENCES, view.resolution.message)
    if upkeep.stopped:
        return Observation(NODES_UP_TO_DATE, False, ROLLING_UPDATE_STOPPED, upkeep.stopped)
    missing = sum(not node.up_to_date for node in nodes) - outdated
    if not outdated and missing:
        return Observation(
            NODES_UP_TO_DATE, False, "NodesStarting", f"{missing} of {len(nodes)} node(s) have yet to start"
        )
    if not outdated:
        return Observation(NODES_UP_TO_DATE, True, "UpToDate")
    if view.pool.spec.node_update_policy is NodeUpdatePolicy.ROLLING:
        return Observation(NODES_UP_TO_DATE, False, "RollingUpdate", f"{outdated} of {len(nodes)} node(s) are behind")
    message = f"{outdated} of {len(nodes)} node(s) are behind until they are rebooted: packhorse pool reboot"
    return Observation(NODES_UP_TO_DATE, False, "NodesBehind", f"{message} {view.pool.metadata.name}")


def _ready(view: PoolView, nodes: Sequence[NodeStatus], trouble: tuple[str, str] | None) -> Observation:
    """Ready: as many nodes as there should be, and all of them can run tasks."""
    if trouble:
        return Observation(READY, False, *trouble)
    if view.resolution.packages is None and not nodes and view.pool.spec.target_nodes:
        return Observation(READY, False, azure.INVALID_REFERENCES, view.resolution.message)
    target = view.pool.spec.target_nodes
    usable = sum(node.state in {NodeState.IDLE, NodeState.RUNNING} for node in nodes)
    broken = [node for node in nodes if node.errors]
    if broken:
        error = broken[0].errors[0]
        details = "; ".join(f"{detail.name}: {detail.value}" for detail in error.error_details)
        message = f"{len(broken)} of {target} node(s) unusable; {broken[0].name}: {error.message}; {details}"
        return Observation(READY, False, error.code, message)
    offline = sum(node.state is NodeState.OFFLINE for node in nodes)
    if offline and usable + offline == target == len(nodes):
        return Observation(
            READY, True, "Steady", f"{usable} node(s) can run tasks, scheduling is disabled on {offline}"
        )
    if usable < target or len(nodes) != target:
        return Observation(READY, False, "Resizing", f"{usable} of {target} node(s) can run tasks")
    return Observation(READY, True, "Steady", f"{usable} node(s) can run tasks")
