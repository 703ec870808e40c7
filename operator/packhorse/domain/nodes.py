"""The state of a pool's nodes, out of what their pods and their connections show."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from packhorse.domain import azure
from packhorse.model import NodeState, NodeStatus
from packhorse.model.node import POOL_LABEL, DeployedPackage, ErrorDetail, NodeError
from packhorse.protocol import Detail, Package, Problem, VisiblePackage

INSTALL_CONTAINER = "install-packages"
AGENT_CONTAINER = "agent"
NODE_CONTAINER = "node"

_IMAGE_PROBLEMS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
    | {"CreateContainerError", "RunContainerError"}
)


class Install(Enum):
    """How far a pod's init container is."""

    WAITING = "waiting"
    WORKING = "working"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Pod:
    """What we need to know of a pod that is a node.

    Attributes:
        owner_uid: Uid of the StatefulSet that controls it; empty where none does.
        ordinal: The number at the end of its name.
        revision: Which version of the pool's template it was made from.
        install: How far its installation is; FAILED also while it is tried again after a failure.
        problem: Why it cannot be used: a failed installation, or a container that cannot start.
        ready: All its containers run.
    """

    namespace: str
    name: str
    uid: str
    owner_uid: str
    pool: str
    ordinal: int
    revision: str
    worker: str
    deleting: bool
    install: Install
    problem: Problem | None
    ready: bool


def observe_pod(raw: Mapping[str, Any]) -> Pod:
    """Read a pod of the API server."""
    metadata, status = raw["metadata"], raw.get("status", {})
    init = {entry["name"]: entry for entry in status.get("initContainerStatuses", ())}
    main = {entry["name"]: entry for entry in status.get("containerStatuses", ())}
    install, problem = _install(init.get(INSTALL_CONTAINER, {}))
    labels = metadata.get("labels", {})
    ordinal = re.search(r"-([0-9]+)$", metadata["name"])
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=next((owner["uid"] for owner in metadata.get("ownerReferences", ()) if owner.get("controller")), ""),
        pool=labels.get(POOL_LABEL, ""),
        ordinal=int(ordinal.group(1)) if ordinal else 0,
        revision=labels.get("controller-revision-hash", ""),
        worker=raw.get("spec", {}).get("nodeName", ""),
        deleting="deletionTimestamp" in metadata,
        install=install,
        problem=problem or _container_problem([*init.values(), *main.values()]),
        ready=any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", ())),
    )


def _install(entry: Mapping[str, Any]) -> tuple[Install, Problem | None]:
    state = entry.get("state", {})
    done = state.get("terminated")
    if done is not None and done["exitCode"] == 0:
        return Install.DONE, None
    failed = done or entry.get("lastState", {}).get("terminated")
    if failed is not None and failed["exitCode"] != 0:
        return Install.FAILED, _install_problem(failed)
    return (Install.WORKING if "running" in state else Install.WAITING), None


def _install_problem(terminated: Mapping[str, Any]) -> Problem:
    """What the init container left as its termination message, or, where it left none, how it ended."""
    try:
        return msgspec.json.decode(terminated.get("message", ""), type=Problem)
    except msgspec.DecodeError:
        cause = (
            f"the container {INSTALL_CONTAINER} ended with exit code {terminated['exitCode']}"
            f" ({terminated.get('reason', 'Error')}); see its log"
        )
        return Problem(azure.APPLICATION_PACKAGE_ERROR, azure.INVALID_FOR_POOL, (Detail("Cause", cause),))


def _container_problem(entries: Sequence[Mapping[str, Any]]) -> Problem | None:
    for entry in entries:
        waiting = entry.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _IMAGE_PROBLEMS:
            text = f"{waiting['reason']}: {waiting.get('message', '')}".removesuffix(": ")
            return Problem(
                "ContainerInvalidImage",
                "A container of the node cannot be started",
                (Detail("Container", entry["name"]), Detail("Image", entry.get("image", "")), Detail("Message", text)),
            )
    return None


@dataclass(frozen=True, slots=True)
class Presence:
    """What a node's connection shows.

    Attributes:
        packages: The pool's packages that it installed at its start.
        running: How many tasks it holds.
    """

    packages: tuple[VisiblePackage, ...]
    running: int


_CONNECTED = {NodeState.IDLE, NodeState.RUNNING, NodeState.UNKNOWN}


def node_state(pod: Pod, presence: Presence | None, target: int, earlier: NodeState | None = None) -> NodeState:
    """The state of a node, in Batch's words.

    Args:
        pod: The node's pod.
        presence: What its connection shows, None where it has none.
        target: How many nodes the pool should have.
        earlier: Its state until now: contact is lost only with a node that there was contact with.
    """
    if pod.deleting:
        return NodeState.LEAVING_POOL if pod.ordinal >= target else NodeState.REBOOTING
    if pod.problem is not None:
        return NodeState.UNUSABLE
    if pod.install is Install.WAITING:
        return NodeState.CREATING
    if pod.install is not Install.DONE:
        return NodeState.UNKNOWN if presence else NodeState.STARTING
    if presence is not None and pod.ready:
        return NodeState.RUNNING if presence.running else NodeState.IDLE
    met = presence is not None or earlier in _CONNECTED
    return NodeState.UNKNOWN if met else NodeState.STARTING


def node_status(
    pod: Pod,
    presence: Presence | None,
    earlier: NodeStatus | None,
    *,
    target: int,
    wanted: Sequence[Package] | None,
    revision: str,
    now: str,
) -> NodeStatus:
    """The entry of a node in its pool's status.

    Args:
        pod: The node's pod.
        presence: What its connection shows, None where it has none.
        earlier: The entry until now.
        target: How many nodes the pool should have.
        wanted: What a node would install now, None where that cannot be told.
        revision: The template that a node would be made from now.
        now: RFC 3339.
    """
    state = node_state(pod, presence, target, earlier.state if earlier else None)
    deployed = [item.package for item in presence.packages] if presence else []
    packages = tuple(deployed_package(package) for package in deployed)
    if presence is None and earlier is not None and state is not NodeState.CREATING:
        packages = earlier.packages
    current = {package.directory for package in deployed} == {package.directory for package in wanted or ()}
    return NodeStatus(
        name=pod.name,
        state=state,
        state_transition_time=earlier.state_transition_time if earlier and earlier.state == state else now,
        packages=packages,
        up_to_date=presence is not None and wanted is not None and current and pod.revision == revision,
        running_tasks=presence.running if presence else 0,
        errors=(_node_error(pod.problem),) if pod.problem and state is NodeState.UNUSABLE else (),
    )


def deployed_package(package: Package) -> DeployedPackage:
    """A package as a status shows it."""
    return DeployedPackage(application_id=package.application_id, version=package.version, sha256=package.sha256)


def _node_error(problem: Problem) -> NodeError:
    details = tuple(ErrorDetail(name=detail.name, value=detail.value) for detail in problem.details)
    return NodeError(code=problem.code, message=problem.message, error_details=details)
