"""Status is written where it differs, and over what was seen alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.cluster.client import ApiError, ApiUnavailableError, kind_of
from packhorse.cluster.status import merge_patch, write_status
from packhorse.domain import tasks
from packhorse.model import Task, TaskStatus
from tests.unit.objects import NAMESPACE, NOW, raw_task
from tests.unit.operator.fake_api import FakeApi, merged
from tests.unit.virtual_time import run

# JSON as our resources have it: null stands for nothing, so there is none inside.
SCALARS = st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@given(old=OBJECTS, new=OBJECTS)
def test_the_patch_makes_the_old_into_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, merge_patch(old, new)) == new


@given(OBJECTS)
def test_equal_gives_nothing(value: dict[str, Any]) -> None:
    assert merge_patch(value, value) == {}


@given(old=OBJECTS, new=OBJECTS)
def test_only_what_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert set(merge_patch(old, new)) == {
        key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...)
    }


def test_lists_are_replaced_whole() -> None:
    assert merge_patch({"a": [1, 2], "b": {"c": 1, "d": 2}}, {"a": [1], "b": {"c": 1}}) == {"a": [1], "b": {"d": None}}


TASK = kind_of(Task)


def stored(api: FakeApi) -> Task:
    return Task.model_validate(api.objects[TASK, NAMESPACE, "frame"])


def api_with_a_task() -> FakeApi:
    api = FakeApi()
    api.put(TASK, raw_task())
    return api


def started(task: Task) -> TaskStatus:
    return tasks.started(task, "render-0", NOW, preparing=False)


def test_what_is_written_is_what_the_server_has() -> None:
    api = api_with_a_task()
    task = stored(api)
    raw = run(write_status(api, task, started(task)))
    assert raw == api.objects[TASK, NAMESPACE, "frame"]
    assert stored(api).status == started(task)


def test_nothing_is_sent_where_nothing_differs() -> None:
    api = api_with_a_task()
    task = stored(api)
    run(write_status(api, task, started(task)))
    again = stored(api)
    api.requests.clear()
    assert run(write_status(api, again, again.status)) is None
    assert api.requests == []


def test_a_status_that_was_never_written_shows_its_zeros() -> None:
    api = api_with_a_task()
    task = stored(api)
    run(write_status(api, task, task.status.model_copy(update={"observed_generation": 1})))
    assert api.objects[TASK, NAMESPACE, "frame"]["status"]["attempt"] == 0


def test_an_object_that_is_gone() -> None:
    api = api_with_a_task()
    task = stored(api)
    api.remove(TASK, NAMESPACE, "frame")
    assert run(write_status(api, task, started(task))) is None


def test_a_namesake_is_not_touched() -> None:
    api = api_with_a_task()
    task = stored(api)
    api.remove(TASK, NAMESPACE, "frame")
    other = api.put(TASK, raw_task())
    with pytest.raises(ApiError) as caught:
        run(write_status(api, task, started(task)))
    assert caught.value.reason == "Conflict"
    assert api.objects[TASK, NAMESPACE, "frame"] == other


def test_what_somebody_else_wrote_is_not_overwritten() -> None:
    api = api_with_a_task()
    task = stored(api)
    run(write_status(api, task, started(task)))
    with pytest.raises(ApiError, match="modified"):
        run(write_status(api, task, tasks.requeued(task, NOW)))
    assert stored(api).status.state == "running"


@pytest.mark.parametrize("error", [ApiError(500, "InternalError", "etcd"), ApiUnavailableError("away")])
def test_other_errors_are_passed_on(error: Exception) -> None:
    api = api_with_a_task()
    api.refuse = lambda method, path: error
    with pytest.raises(type(error)):
        run(write_status(api, stored(api), started(stored(api))))
