"""Sparing an account that is in trouble."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.storage.breaker import LONGEST, SHORTEST, Breaker
from packhorse.storage.errors import UnavailableError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def trouble(retry_after: float = 0.0) -> UnavailableError:
    return UnavailableError("StorageThrottled", "too often", retry_after=retry_after)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, jitter=lambda: 1.0)


def refusal(breaker: Breaker, *, probe: bool = True) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        breaker.enter(probe=probe)
    return caught.value


def test_everybody_asks_an_account_that_is_well(breaker: Breaker) -> None:
    tickets = [breaker.enter() for _ in range(3)]
    assert [breaker.succeeded(ticket) for ticket in tickets] == [False] * 3
    assert breaker.trouble is None


def test_in_trouble_everybody_is_told_the_same_and_one_finds_out(breaker: Breaker, clock: Clock) -> None:
    told = breaker.failed(breaker.enter(), trouble())
    for refused in (told, refusal(breaker), refusal(breaker, probe=False), breaker.trouble):
        assert refused is not None
        assert (refused.reason, str(refused), refused.retry_after) == ("StorageThrottled", "too often", 2.0)
    clock.now += 1.5
    assert refusal(breaker).retry_after == SHORTEST
    clock.now += 0.5
    refusal(breaker, probe=False)
    probe = breaker.enter()
    assert refusal(breaker).retry_after == SHORTEST
    assert breaker.succeeded(probe)
    assert breaker.trouble is None
    breaker.enter(probe=False)


def test_of_many_that_fail_together_one_counts(breaker: Breaker, clock: Clock) -> None:
    tickets = [breaker.enter() for _ in range(10)]
    assert {breaker.failed(ticket, trouble()).retry_after for ticket in tickets} == {2.0}
    clock.now += 2
    assert breaker.failed(breaker.enter(), trouble()).retry_after == 4.0


def test_an_answer_to_an_old_question_says_nothing_of_now(breaker: Breaker, clock: Clock) -> None:
    slow, other, late = breaker.enter(), breaker.enter(), breaker.enter()
    breaker.failed(other, trouble())
    assert not breaker.succeeded(slow)
    assert breaker.trouble is not None
    clock.now += 2
    assert breaker.succeeded(breaker.enter())
    assert breaker.failed(late, trouble(5)).retry_after == 5
    assert breaker.trouble is None


def test_who_finds_out_may_go_away(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(breaker.enter(), trouble())
    clock.now += 2
    breaker.abandoned(breaker.enter())
    assert breaker.succeeded(breaker.enter())


def test_pauses_grow_and_end_with_lasting_health(breaker: Breaker, clock: Clock) -> None:
    pauses = []
    for _ in range(9):
        pauses.append(breaker.failed(breaker.enter(), trouble()).retry_after)
        clock.now += pauses[-1]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    breaker.succeeded(breaker.enter())
    assert breaker.failed(breaker.enter(), trouble()).retry_after == 60  # healed for a moment only
    clock.now += 60
    breaker.succeeded(breaker.enter())
    clock.now += 121
    assert breaker.failed(breaker.enter(), trouble()).retry_after == 2


@given(
    jitters=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    wish=st.floats(0, 600),
    started=st.floats(0, 1e9),
)
def test_pauses_keep_their_bounds_and_honour_what_is_asked_for(
    jitters: list[float], wish: float, started: float
) -> None:
    clock = Clock()
    clock.now = started
    left = iter(jitters)
    breaker = Breaker(clock, jitter=lambda: next(left))
    last = 0.0
    for _ in jitters:
        pause = breaker.failed(breaker.enter(), trouble(wish)).retry_after
        assert max(wish, SHORTEST) * 0.999 <= pause <= max(wish, LONGEST) * 1.001 + 1e-6
        assert pause >= min(last, LONGEST / 2) * 0.999 or pause >= wish * 0.999
        last = pause
        clock.now += pause * 1.001 + 1e-6
