"""How a task's status goes on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.domain import tasks
from packhorse.model import Task, TaskState, TaskStatus
from packhorse.protocol import Detail, Problem, TaskEnded
from tests.unit.objects import LATER, NOW, raw_task, task

PROBLEM = Problem("ApplicationPackageError", "One or more are invalid", (Detail("Message", "Resource Unzip failed"),))


def after(before: Task, status: TaskStatus) -> Task:
    """The task as the API server has it then."""
    return Task.model_validate(before.dump() | {"status": status.dump()})


def running(**spec: Any) -> Task:
    new = task(**spec)
    return after(new, tasks.started(new, "render-0", NOW, preparing=False))


def end(exit_code: int | None = 0, problem: Problem | None = None, stdout: str = "", *, attempt: int = 1) -> TaskEnded:
    return TaskEnded("uid-of-frame", attempt, NOW, LATER, exit_code, problem, stdout)


@pytest.mark.parametrize(
    ("text", "length"),
    [("90s", 90), ("1h", 3600), ("1h30m", 5400), ("7d", 604800), ("1d1h1m1s", 90061), ("0s", 0)],
)
def test_durations(text: str, length: float) -> None:
    assert tasks.seconds(text) == length


@pytest.mark.parametrize(("preparing", "state"), [(True, TaskState.PREPARING), (False, TaskState.RUNNING)])
def test_started(preparing: bool, state: TaskState) -> None:
    waiting = after(task(), tasks.waiting(task(), "PoolNotFound", "there is none", NOW))
    status = tasks.started(waiting, "render-0", LATER, preparing=preparing)
    assert (status.state, status.node_name, status.attempt) == (state, "render-0", 1)
    assert status.execution_info.start_time == LATER
    assert status.conditions == ()


def test_running() -> None:
    prepared = after(task(), tasks.started(task(), "render-0", NOW, preparing=True))
    status = tasks.running(prepared, LATER)
    assert (status.state, status.node_name, status.attempt) == (TaskState.RUNNING, "render-0", 1)
    assert status.execution_info.start_time == NOW


def test_waiting_says_why_and_changes_nothing_else() -> None:
    status = tasks.waiting(task(), "PoolNotFound", "there is no Pool 'render'", NOW)
    scheduled = status.condition("Scheduled")
    assert scheduled is not None
    assert (scheduled.status, scheduled.reason, scheduled.message) == (
        "False",
        "PoolNotFound",
        "there is no Pool 'render'",
    )
    assert status.model_copy(update={"conditions": (), "observed_generation": -1}) == task().status


def test_success() -> None:
    status = tasks.ended(running(), end(stdout="done\n"), LATER)
    info = status.execution_info
    assert status.state is TaskState.COMPLETED
    assert (info.exit_code, info.result, info.failure_info) == (0, "success", None)
    assert (info.start_time, info.end_time, info.retry_count) == (NOW, LATER, 0)
    assert status.output is not None
    assert status.output.stdout == "done\n"
    assert [condition.type for condition in status.conditions] == ["Complete"]


def test_failure_by_exit_code() -> None:
    status = tasks.ended(running(), end(3), LATER)
    failure = status.execution_info.failure_info
    assert (status.state, status.execution_info.result) == (TaskState.COMPLETED, "failure")
    assert failure is not None
    assert (failure.category, failure.code) == ("UserError", "FailureExitCode")
    assert failure.message.endswith(": 3")
    failed = status.condition("Failed")
    assert failed is not None
    assert (failed.status, failed.reason) == ("True", "FailureExitCode")
    assert status.condition("Complete") is None


def test_a_problem_is_told_whole_and_not_retried() -> None:
    status = tasks.ended(running(constraints={"maxTaskRetryCount": 3}), end(None, PROBLEM), LATER)
    failure = status.execution_info.failure_info
    assert status.state is TaskState.COMPLETED
    assert failure is not None
    assert (failure.category, failure.code, failure.message) == ("ServerError", PROBLEM.code, PROBLEM.message)
    assert [(detail.name, detail.value) for detail in failure.details] == [("Message", "Resource Unzip failed")]
    failed = status.condition("Failed")
    assert failed is not None
    assert failed.message == "One or more are invalid; Message: Resource Unzip failed"


def test_a_task_that_was_ended_is_not_retried_whatever_its_exit_code() -> None:
    limit = Problem("TaskEnded", "it took too long")
    status = tasks.ended(running(constraints={"maxTaskRetryCount": 3}), end(143, limit), LATER)
    assert (status.state, status.execution_info.exit_code) == (TaskState.COMPLETED, 143)


@given(limit=st.integers(-1, 5), codes=st.lists(st.integers(0, 255), min_size=1, max_size=8))
def test_retries(limit: int, codes: list[int]) -> None:
    """Run again after each exit code other than 0, as often as allowed; nothing follows a completion."""
    current = task(constraints={"maxTaskRetryCount": limit})
    for count, code in enumerate(codes):
        current = after(current, tasks.started(current, "render-0", NOW, preparing=False))
        assert current.status.attempt == count + 1
        current = after(current, tasks.ended(current, end(code, attempt=count + 1), LATER))
        info = current.status.execution_info
        if code == 0 or 0 <= limit <= count:
            assert current.status.state is TaskState.COMPLETED
            assert (info.retry_count, info.exit_code) == (count, code)
            assert info.result == ("success" if code == 0 else "failure")
            return
        assert current.status.state is TaskState.ACTIVE
        assert (info.retry_count, info.exit_code, info.last_retry_time) == (count + 1, code, LATER)
        assert (info.result, info.end_time) == (None, None)


def test_a_retry_forgets_the_exit_code_of_the_attempt_before() -> None:
    again = after(running(), tasks.ended(running(constraints={"maxTaskRetryCount": 1}), end(3), LATER))
    status = tasks.started(again, "render-1", LATER, preparing=False)
    assert (status.attempt, status.node_name, status.execution_info.exit_code) == (2, "render-1", None)


def test_requeued_counts_no_retry() -> None:
    status = tasks.requeued(running(constraints={"maxTaskRetryCount": 0}), LATER)
    info = status.execution_info
    assert (status.state, status.attempt) == (TaskState.ACTIVE, 1)
    assert (info.requeue_count, info.last_requeue_time, info.retry_count) == (1, LATER, 0)


def test_refused() -> None:
    status = tasks.refused(task(), PROBLEM, NOW)
    info = status.execution_info
    assert (status.state, info.result, info.exit_code) == (TaskState.COMPLETED, "failure", None)
    assert (info.start_time, info.end_time) == (NOW, NOW)
    assert info.failure_info is not None
    assert info.failure_info.code == "ApplicationPackageError"


def test_every_status_says_what_it_was_made_of() -> None:
    raw = raw_task()
    raw["metadata"]["generation"] = 7
    new = Task.model_validate(raw)
    for status in (
        tasks.waiting(new, "a", "b", NOW),
        tasks.started(new, "n", NOW, preparing=False),
        tasks.running(new, NOW),
        tasks.ended(new, end(), NOW),
        tasks.requeued(new, NOW),
        tasks.refused(new, PROBLEM, NOW),
    ):
        assert status.observed_generation == 7
