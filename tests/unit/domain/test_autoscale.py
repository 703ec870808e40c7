"""How many nodes tasks need, and when a pool grows and shrinks."""

import datetime
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.domain.autoscale import decide, nodes_for
from packhorse.model.pool import AutoScale, AutoScaleRun

START = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
SPEC = AutoScale(min_nodes=1, max_nodes=10, scale_down_delay="5m")


def at(seconds: float) -> str:
    return (START + datetime.timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("demand", "slots", "nodes"),
    [
        ({}, 4, 0),
        ({1: 1}, 4, 1),
        ({1: 4}, 4, 1),
        ({1: 5}, 4, 2),
        ({3: 2}, 4, 2),
        ({3: 2, 1: 2}, 4, 2),
        ({3: 2, 1: 3}, 4, 3),
        ({2: 3, 1: 1}, 4, 2),
        ({5: 7}, 4, 0),
        ({4: 2, 5: 1, 1: 1}, 4, 3),
        ({1: 100_000}, 8, 12_500),
    ],
)
def test_nodes_for_tasks(demand: dict[int, int], slots: int, nodes: int) -> None:
    assert nodes_for(demand, slots) == nodes


def pack_one_by_one(demand: Counter[int], slots: int) -> int:
    """First fit, largest task first, as anybody would write it down."""
    free: list[int] = []
    for size in sorted(demand.elements(), reverse=True):
        if size > slots:
            continue
        fitting = [index for index, left in enumerate(free) if left >= size]
        if fitting:
            free[max(fitting, key=lambda index: free[index])] -= size
        else:
            free.append(slots - size)
    return len(free)


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 30), max_size=6), st.integers(1, 8))
def test_no_node_too_few_and_hardly_one_too_many(demand: dict[int, int], slots: int) -> None:
    fitting = {size: count for size, count in demand.items() if size <= slots}
    least = -(-sum(size * count for size, count in fitting.items()) // slots)
    found = nodes_for(demand, slots)
    assert found >= least
    # Largest first never takes more than 11/9 of the best and a bit (Johnson, 1973); one by one it is that too.
    assert found <= pack_one_by_one(Counter(demand), slots) * 11 / 9 + 1


def test_it_grows_at_once_and_within_bounds() -> None:
    assert decide(SPEC, 1, 4, None, at(0)) == (4, AutoScaleRun(needed_nodes=4), None)
    assert decide(SPEC, 4, 400, None, at(0))[0] == 10
    assert decide(SPEC, 0, 0, None, at(0))[0] == 1
    assert decide(SPEC, 50, 20, None, at(0))[0] == 10


def test_it_shrinks_after_a_while_to_the_most_that_was_needed() -> None:
    target, run, again = decide(SPEC, 8, 2, None, at(0))
    assert (target, again) == (8, 300)
    target, run, again = decide(SPEC, target, 5, run, at(100))
    assert (target, again) == (8, 200)
    target, run, again = decide(SPEC, target, 1, run, at(200))
    assert (target, again) == (8, 100)
    target, run, again = decide(SPEC, target, 1, run, at(300))
    assert (target, again) == (5, 300)
    target, run, again = decide(SPEC, target, 1, run, at(600))
    assert (target, run, again) == (1, AutoScaleRun(needed_nodes=1, peak_nodes=1), None)


def test_a_wave_in_between_starts_the_wait_anew() -> None:
    target, run, _ = decide(SPEC, 8, 2, None, at(0))
    target, run, again = decide(SPEC, target, 8, run, at(299))
    assert (target, run, again) == (8, AutoScaleRun(needed_nodes=8), None)
    target, run, again = decide(SPEC, target, 2, run, at(301))
    assert (target, again) == (8, 300)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 400)), max_size=40))
def test_it_never_takes_away_what_was_needed_within_the_delay(history: list[tuple[int, int]]) -> None:
    target, run, clock = 1, None, 0.0
    seen: list[tuple[float, int]] = []
    for needed, pause in history:
        clock += pause
        seen.append((clock, min(max(needed, 1), 10)))
        before = target
        target, run, _ = decide(SPEC, target, needed, run, at(clock))
        assert 1 <= target <= 10
        assert target >= seen[-1][1]
        if target < before:
            assert target >= max(count for when, count in seen if when > clock - 300)
