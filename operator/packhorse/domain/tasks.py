"""How a Task's status goes on: started, ended, put back, refused. Each function gives the whole next status."""

import re

from packhorse.domain import azure
from packhorse.domain.conditions import COMPLETE, FAILED, SCHEDULED, Observation, conditions
from packhorse.model import ExecutionInfo, Pool, Task, TaskState, TaskStatus
from packhorse.model.node import ErrorDetail, FailureInfo
from packhorse.model.task import TaskOutput
from packhorse.protocol import Problem, TaskEnded

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(duration: str) -> float:
    """Length of a duration such as ``1h30m``."""
    return float(sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", duration)))


def obstacle(task: Task, pool: Pool | None) -> tuple[str, str] | None:
    """Why a task cannot be given to any node of its pool, as reason and message; None where it can."""
    namespace, name = task.metadata.namespace, task.spec.pool
    if pool is None:
        return "PoolNotFound", f"there is no Pool '{name}' in the namespace '{namespace}'; the task waits for it"
    if task.spec.required_slots > pool.spec.task_slots_per_node:
        return "NotEnoughSlots", (
            f"the task needs {task.spec.required_slots} slots, and a node of Pool '{name}' has"
            f" {pool.spec.task_slots_per_node}; create it anew with fewer requiredSlots, or for another pool"
        )
    return None


def waiting(task: Task, reason: str, message: str, now: str) -> TaskStatus:
    """The task cannot be scheduled yet, and says why."""
    return _next(task, [Observation(SCHEDULED, False, reason, message)], now)


def started(task: Task, node: str, now: str, *, preparing: bool) -> TaskStatus:
    """A node is about to get the next attempt. Written before the node hears of it, so that no attempt is forgotten."""
    info = task.status.execution_info.model_copy(update={"start_time": now, "exit_code": None, "failure_info": None})
    return _next(
        task,
        [],
        now,
        state=TaskState.PREPARING if preparing else TaskState.RUNNING,
        node_name=node,
        attempt=task.status.attempt + 1,
        execution_info=info,
    )


def running(task: Task, now: str) -> TaskStatus:
    """Its packages are installed, the command line runs."""
    return _next(task, [], now, state=TaskState.RUNNING)


def ended(task: Task, end: TaskEnded, now: str) -> TaskStatus:
    """An attempt is over: the task is completed, or active again where a retry is left.

    As in Batch, only an exit code is retried; a package that cannot be installed is not.
    """
    info = task.status.execution_info
    output = TaskOutput(stdout=end.stdout, stderr=end.stderr) if end.stdout or end.stderr else None
    limit = task.spec.constraints.max_task_retry_count
    if end.exit_code not in {None, 0} and end.problem is None and (limit < 0 or info.retry_count < limit):
        retry = {"retry_count": info.retry_count + 1, "last_retry_time": now, "exit_code": end.exit_code}
        return _next(
            task,
            [],
            now,
            state=TaskState.ACTIVE,
            execution_info=info.model_copy(update=retry),
            output=output,
        )
    problem = end.problem
    if problem is None and end.exit_code != 0:
        problem = Problem(
            azure.FAILURE_EXIT_CODE,
            f"The task exited with an exit code representing a failure: {end.exit_code}",
            category="UserError",
        )
    done = {"start_time": end.start_time, "end_time": end.end_time, "exit_code": end.exit_code}
    return _completed(task, info.model_copy(update=done), problem, now, output)


def refused(task: Task, problem: Problem, now: str) -> TaskStatus:
    """The task failed before it could be given to a node."""
    info = task.status.execution_info.model_copy(update={"start_time": now, "end_time": now})
    return _completed(task, info, problem, now, None)


def requeued(task: Task, now: str) -> TaskStatus:
    """Its node is lost or was rebooted: active again, with no retry counted."""
    info = task.status.execution_info
    update = {"requeue_count": info.requeue_count + 1, "last_requeue_time": now}
    return _next(task, [], now, state=TaskState.ACTIVE, execution_info=info.model_copy(update=update))


def _completed(
    task: Task, info: ExecutionInfo, problem: Problem | None, now: str, output: TaskOutput | None
) -> TaskStatus:
    info = info.model_copy(
        update={
            "result": "success" if problem is None else "failure",
            "failure_info": failure_info(problem) if problem else None,
        }
    )
    observed = (
        Observation(COMPLETE, True, "Success")
        if problem is None
        else Observation(FAILED, True, problem.code, problem.cause)
    )
    return _next(task, [observed], now, state=TaskState.COMPLETED, execution_info=info, output=output)


def failure_info(problem: Problem) -> FailureInfo:
    """A problem as a status shows it."""
    return FailureInfo(
        category="UserError" if problem.category == "UserError" else "ServerError",
        code=problem.code,
        message=problem.message,
        details=tuple(ErrorDetail(name=detail.name, value=detail.value) for detail in problem.details),
    )


def _next(task: Task, observed: list[Observation], now: str, **changes: object) -> TaskStatus:
    generation = task.metadata.generation
    changes["observed_generation"] = generation
    changes["conditions"] = conditions(task.status.conditions, observed, generation=generation, now=now)
    return task.status.model_copy(update=changes)
