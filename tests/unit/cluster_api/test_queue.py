"""The work queue, in virtual time."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from packhorse.cluster.queue import FIRST_DELAY, LONGEST_DELAY, WorkQueue, backoff
from tests.unit.virtual_time import run

Handler = Callable[[str], Awaitable[float | None]]


def now() -> float:
    return asyncio.get_running_loop().time()


async def work(queue: WorkQueue[str], seconds: float) -> None:
    """Let the queue work for so long."""
    job = asyncio.create_task(queue.run())
    await asyncio.sleep(seconds)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


class Worker:
    """Handles keys, and notes when.

    Attributes:
        takes: Seconds that a key takes.
        fails: How many times each key fails before it succeeds.
        again: Seconds until a key wants to be looked at again.
    """

    def __init__(self, *, takes: float = 0.0, fails: int = 0, again: float | None = None) -> None:
        self.takes, self.fails, self.again = takes, fails, again
        self.begun: list[tuple[str, float]] = []
        self.busy: set[str] = set()
        self.most = 0

    async def __call__(self, key: str) -> float | None:
        assert key not in self.busy, "a key is worked on twice at a time"
        self.begun.append((key, now()))
        self.busy.add(key)
        self.most = max(self.most, len(self.busy))
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.busy.discard(key)
        if sum(done == key for done, _ in self.begun) <= self.fails:
            raise RuntimeError("no luck")
        return self.again

    @property
    def times(self) -> list[float]:
        return [when for _, when in self.begun]


def test_a_key_added_twice_is_worked_on_once() -> None:
    async def main() -> None:
        worker = Worker()
        queue = WorkQueue("test", worker)
        for key in ("a", "b", "a"):
            queue.add(key)
        await work(queue, 10)
        assert [key for key, _ in worker.begun] == ["a", "b"]

    run(main())


def test_a_key_added_while_it_is_worked_on_is_worked_on_again_afterwards() -> None:
    async def main() -> None:
        worker = Worker(takes=1.0)
        queue = WorkQueue("test", worker)
        queue.add("a")
        asyncio.get_running_loop().call_later(0.5, queue.add, "a")
        asyncio.get_running_loop().call_later(0.6, queue.add, "a")
        await work(queue, 10)
        assert worker.begun == [("a", 0.0), ("a", 1.0)]

    run(main())


@pytest.mark.parametrize(("workers", "seconds"), [(1, 6.0), (2, 3.0), (6, 1.0), (9, 1.0)])
def test_so_many_at_a_time(workers: int, seconds: float) -> None:
    async def main() -> None:
        worker = Worker(takes=1.0)
        queue = WorkQueue("test", worker, workers)
        for key in "abcdef":
            queue.add(key)
        await work(queue, 100)
        assert worker.most == min(workers, 6)
        assert max(worker.times) == seconds - 1.0

    run(main())


def test_keys_are_worked_on_in_the_order_they_were_added() -> None:
    async def main() -> None:
        worker = Worker(takes=1.0)
        queue = WorkQueue("test", worker, workers=1)
        for key in "cab":
            queue.add(key)
        await work(queue, 10)
        assert [key for key, _ in worker.begun] == ["c", "a", "b"]

    run(main())


@pytest.mark.parametrize(
    ("delays", "when"),
    [([5.0], 5.0), ([5.0, 2.0], 2.0), ([2.0, 5.0], 2.0), ([5.0, 0.0], 0.0), ([0.0, 5.0], 0.0), ([3.0, 3.0], 3.0)],
)
def test_the_earlier_of_two_wishes_wins(delays: list[float], when: float) -> None:
    async def main() -> None:
        worker = Worker()
        queue = WorkQueue("test", worker)
        for delay in delays:
            queue.add("a", delay)
        await work(queue, 100)
        assert worker.begun == [("a", when)]

    run(main())


def test_a_later_wish_counts_once_the_earlier_one_is_done() -> None:
    async def main() -> None:
        worker = Worker()
        queue = WorkQueue("test", worker)
        queue.add("a", 1.0)
        asyncio.get_running_loop().call_later(2.0, queue.add, "a", 1.0)
        await work(queue, 100)
        assert worker.times == [1.0, 3.0]

    run(main())


def test_looked_at_again_after_a_while() -> None:
    async def main() -> None:
        worker = Worker(again=10.0)
        queue = WorkQueue("test", worker)
        queue.add("a")
        await work(queue, 35)
        assert worker.times == [0.0, 10.0, 20.0, 30.0]

    run(main())


def test_failures_are_tried_again_later_and_later() -> None:
    async def main() -> None:
        worker = Worker(fails=5)
        queue = WorkQueue("test", worker)
        queue.add("a")
        await work(queue, 1000)
        pauses = [later - earlier for earlier, later in itertools.pairwise(worker.times)]
        assert len(pauses) == 5
        for number, pause in enumerate(pauses):
            assert 0.8 * FIRST_DELAY * 2**number <= pause <= 1.2 * FIRST_DELAY * 2**number

    run(main())


def test_a_success_forgets_the_failures() -> None:
    async def main() -> None:
        outcomes = [False, False, False, True, False, True]
        times = []

        async def handle(_: str) -> None:
            times.append(now())
            if not outcomes.pop(0):
                raise RuntimeError("no luck")

        queue = WorkQueue("test", handle)
        queue.add("a")
        asyncio.get_running_loop().call_later(500, queue.add, "a")
        await work(queue, 1000)
        assert outcomes == []
        assert times[-1] - times[-2] <= 1.2 * FIRST_DELAY

    run(main())


def test_a_key_that_fails_holds_up_no_other_and_the_queue_goes_on_for_days(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        worker = Worker(fails=10**9)
        queue = WorkQueue("Pool", worker, workers=1)
        queue.add("bad")
        asyncio.get_running_loop().call_later(3 * 86400, queue.add, "good")
        await work(queue, 3 * 86400 + 1)
        bad = [when for key, when in worker.begun if key == "bad"]
        assert len(bad) > 2000
        assert all(later - earlier <= 1.2 * LONGEST_DELAY for earlier, later in itertools.pairwise(bad))
        assert ("good", 3 * 86400.0) in worker.begun

    run(main())
    assert "Pool bad: try 1 failed" in caplog.text
    assert "no luck" in caplog.text


def test_an_event_during_a_pause_is_worked_on_at_once() -> None:
    async def main() -> None:
        worker = Worker(fails=8)
        queue = WorkQueue("test", worker)
        queue.add("a")
        asyncio.get_running_loop().call_later(10.0, queue.add, "a")
        await work(queue, 10.5)
        assert 10.0 in worker.times

    run(main())


def test_nothing_happens_after_the_end() -> None:
    async def main() -> None:
        worker = Worker(takes=5.0)
        queue = WorkQueue("test", worker)
        queue.add("a")
        queue.add("b", 7.0)
        await work(queue, 1)
        await asyncio.sleep(100)
        assert worker.begun == [("a", 0.0)]
        assert worker.busy == set()

    run(main())


@pytest.mark.parametrize("failures", [1, 2, 10, 100, 5000])
def test_backoff(failures: int) -> None:
    wanted = min(30.0, FIRST_DELAY * 2 ** min(failures - 1, 100))
    assert 0.8 * wanted <= backoff(failures, 30.0) <= 1.2 * wanted


def test_groups_take_turns() -> None:
    async def main() -> list[str]:
        worker = Worker(takes=1.0)
        queue = WorkQueue[str]("things", worker, workers=1, group=lambda key: key[0])
        for key in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
            queue.add(key)
        await work(queue, 10)
        return [key for key, _ in worker.begun]

    assert run(main()) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
