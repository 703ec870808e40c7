"""The state of a pool's nodes, out of what their pods and their connections show."""

from collections.abc import Sequence
from dataclasses import dataclass

from packhorse.domain.podstate import Install, Pod
from packhorse.domain.tasks import failure_info
from packhorse.model import NodeState, NodeStatus
from packhorse.model.node import DeployedPackage, ErrorDetail, NodeError, StartTaskInfo
from packhorse.protocol import Detail, Package, Problem, StartTaskState, VisiblePackage


@dataclass(frozen=True, slots=True)
class Presence:
    """What a node's connection shows.

    Attributes:
        packages: The pool's packages that it installed at its start.
        running: How many tasks it holds.
        fingerprint: Of the variables and the start task that it started with.
        start_task: How its start task goes; None where it has none.
        problem: Why it can run no tasks now.
    """

    packages: tuple[VisiblePackage, ...]
    running: int
    fingerprint: str = ""
    start_task: StartTaskState | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node of a pool would be if it were made now.

    Attributes:
        packages: What it would install; None where that cannot be told.
        revision: The template of its pod.
        fingerprint: Of its variables and its start task.
    """

    packages: Sequence[Package] | None
    revision: str
    fingerprint: str


_CONNECTED = {NodeState.IDLE, NodeState.RUNNING, NodeState.OFFLINE, NodeState.UNKNOWN}


def ready_for_tasks(start_task: StartTaskState | None) -> bool:
    """Whether a node's start task, if it has one, lets tasks run."""
    if start_task is None or not start_task.wait_for_success:
        return True
    return start_task.state == "completed" and start_task.problem is None


def node_state(
    pod: Pod,
    presence: Presence | None,
    target: int,
    earlier: NodeState | None = None,
    *,
    reimaging: bool = False,
) -> NodeState:
    """The state of a node, in Batch's words.

    Args:
        pod: The node's pod.
        presence: What its connection shows, None where it has none.
        target: How many nodes the pool should have.
        earlier: Its state until now: contact is lost only with a node that there was contact with.
        reimaging: Whether it goes since it is reimaged.
    """
    if pod.ordinal >= target:
        return NodeState.LEAVING_POOL
    if pod.deleting:
        return NodeState.REIMAGING if reimaging else NodeState.REBOOTING
    if pod.problem is not None:
        return NodeState.UNUSABLE
    if pod.install is Install.WAITING:
        return NodeState.CREATING
    if pod.install is not Install.DONE:
        return NodeState.UNKNOWN if presence else NodeState.STARTING
    if presence is not None and pod.ready:
        return _connected_state(pod, presence)
    met = presence is not None or earlier in _CONNECTED
    return NodeState.UNKNOWN if met else NodeState.STARTING


def _connected_state(pod: Pod, presence: Presence) -> NodeState:
    if presence.problem is not None:
        return NodeState.UNUSABLE
    if not ready_for_tasks(presence.start_task):
        failed = presence.start_task is not None and presence.start_task.problem is not None
        return NodeState.START_TASK_FAILED if failed else NodeState.WAITING_FOR_START_TASK
    if presence.running:
        return NodeState.RUNNING
    return NodeState.OFFLINE if pod.disable else NodeState.IDLE


def node_status(
    pod: Pod,
    presence: Presence | None,
    earlier: NodeStatus | None,
    *,
    target: int,
    wanted: Wanted,
    now: str,
    reimaging: bool = False,
) -> NodeStatus:
    """The entry of a node in its pool's status.

    Args:
        pod: The node's pod.
        presence: What its connection shows, None where it has none.
        earlier: The entry until now.
        target: How many nodes the pool should have.
        wanted: What a node would be if it were made now.
        now: RFC 3339.
        reimaging: Whether it goes since it is reimaged.
    """
    state = node_state(pod, presence, target, earlier.state if earlier else None, reimaging=reimaging)
    packages = tuple(deployed_package(item.package) for item in presence.packages) if presence else ()
    if presence is None and earlier is not None and state is not NodeState.CREATING:
        packages = earlier.packages
    start_task = presence.start_task if presence else None
    return NodeStatus(
        name=pod.name,
        state=state,
        state_transition_time=earlier.state_transition_time if earlier and earlier.state == state else now,
        worker=pod.worker or None,
        scheduling_state="disabled" if pod.disable else "enabled",
        packages=packages,
        up_to_date=presence is not None and _is_current(pod, presence, wanted),
        running_tasks=presence.running if presence else 0,
        start_task_info=_start_task_info(start_task) if start_task else None,
        errors=tuple(_node_error(problem) for problem in _problems(pod, presence, state)),
    )


def _is_current(pod: Pod, presence: Presence, wanted: Wanted) -> bool:
    if wanted.packages is None:
        return False
    deployed = {item.package.directory for item in presence.packages}
    return (
        deployed == {package.directory for package in wanted.packages}
        and pod.revision == wanted.revision
        and presence.fingerprint == wanted.fingerprint
    )


def _problems(pod: Pod, presence: Presence | None, state: NodeState) -> list[Problem]:
    if state is NodeState.START_TASK_FAILED and presence and presence.start_task and presence.start_task.problem:
        problem = presence.start_task.problem
        see = Detail("Output", f"packhorse node logs {pod.name}")
        return [Problem(problem.code, problem.message, (*problem.details, see), problem.category)]
    if state is not NodeState.UNUSABLE:
        return []
    return [problem for problem in (pod.problem, presence.problem if presence else None) if problem]


def _start_task_info(state: StartTaskState) -> StartTaskInfo:
    result = None if state.state == "running" else "failure" if state.problem else "success"
    return StartTaskInfo(
        state=state.state,
        start_time=state.start_time,
        end_time=state.end_time,
        exit_code=state.exit_code,
        result=result,
        retry_count=state.retry_count,
        failure_info=failure_info(state.problem) if state.problem else None,
    )


def deployed_package(package: Package) -> DeployedPackage:
    """A package as a status shows it."""
    return DeployedPackage(application_id=package.application_id, version=package.version, sha256=package.sha256)


def _node_error(problem: Problem) -> NodeError:
    details = tuple(ErrorDetail(name=detail.name, value=detail.value) for detail in problem.details)
    return NodeError(code=problem.code, message=problem.message, error_details=details)
