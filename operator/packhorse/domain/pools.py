"""What a Pool's status says, and whether its nodes may be made at all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packhorse.domain import azure
from packhorse.domain.conditions import PACKAGES_RESOLVED, READY, Observation, conditions
from packhorse.domain.environment import CollisionError, package_variables
from packhorse.domain.nodes import Pod, Presence, deployed_package, node_status
from packhorse.domain.references import Catalog, UnresolvedReferenceError
from packhorse.model import NodeState, NodeStatus, Pool, PoolStatus
from packhorse.model.node import POOL_LABEL
from packhorse.protocol import Problem, VisiblePackage


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
    """Everything that a pool's status depends on.

    Attributes:
        pods: Its nodes.
        presence: What the connections of its nodes show, by name.
        revision: The template that a node would be made from now.
        conflict: Why its StatefulSet cannot be made, empty where it can.
    """

    pool: Pool
    resolution: Resolution
    pods: Sequence[Pod]
    presence: Mapping[str, Presence]
    revision: str
    conflict: str = ""


def pool_status(view: PoolView, now: str) -> PoolStatus:
    """The status of a pool."""
    pool, resolution = view.pool, view.resolution
    wanted = [item.package for item in resolution.packages] if resolution.packages is not None else None
    earlier = {node.name: node for node in pool.status.nodes}
    nodes = tuple(
        node_status(
            pod,
            view.presence.get(pod.name),
            earlier.get(pod.name),
            target=pool.spec.target_nodes,
            wanted=wanted,
            revision=view.revision,
            now=now,
        )
        for pod in sorted(view.pods, key=lambda pod: pod.ordinal)
    )
    states = Counter(node.state for node in nodes)
    present = [node for node in nodes if node.packages or node.state in {NodeState.IDLE, NodeState.RUNNING}]
    return PoolStatus(
        observed_generation=pool.metadata.generation,
        allocation_state="steady" if _steady(pool, nodes) else "resizing",
        selector=f"{POOL_LABEL}={pool.metadata.name}",
        current_nodes=len(nodes),
        idle_nodes=states[NodeState.IDLE],
        running_nodes=states[NodeState.RUNNING],
        unusable_nodes=states[NodeState.UNUSABLE],
        outdated_nodes=sum(not node.up_to_date for node in present),
        packages=tuple(deployed_package(package) for package in wanted or ()),
        nodes=nodes,
        conditions=conditions(
            pool.status.conditions,
            [_ready(view, nodes), _resolved(resolution)],
            generation=pool.metadata.generation,
            now=now,
        ),
    )


def _steady(pool: Pool, nodes: Sequence[NodeStatus]) -> bool:
    moving = {NodeState.CREATING, NodeState.STARTING, NodeState.LEAVING_POOL}
    return len(nodes) == pool.spec.target_nodes and not any(node.state in moving for node in nodes)


def _resolved(resolution: Resolution) -> Observation:
    if resolution.packages is None:
        return Observation(PACKAGES_RESOLVED, False, azure.INVALID_REFERENCES, resolution.message)
    return Observation(PACKAGES_RESOLVED, True, "Resolved", f"{len(resolution.packages)} package(s)")


def _ready(view: PoolView, nodes: Sequence[NodeStatus]) -> Observation:
    """Ready: as many nodes as there should be, and all of them can run tasks."""
    if view.conflict:
        return Observation(READY, False, "Conflict", view.conflict)
    if view.resolution.packages is None and not nodes:
        return Observation(READY, False, azure.INVALID_REFERENCES, view.resolution.message)
    target = view.pool.spec.target_nodes
    usable = sum(node.state in {NodeState.IDLE, NodeState.RUNNING} for node in nodes)
    broken = [node for node in nodes if node.state is NodeState.UNUSABLE]
    if broken:
        error = broken[0].errors[0]
        details = "; ".join(f"{detail.name}: {detail.value}" for detail in error.error_details)
        message = f"{len(broken)} of {target} node(s) unusable; {broken[0].name}: {error.message}; {details}"
        return Observation(READY, False, error.code, message)
    if usable < target or len(nodes) != target:
        return Observation(READY, False, "Resizing", f"{usable} of {target} node(s) can run tasks")
    return Observation(READY, True, "Steady", f"{usable} node(s) can run tasks")
