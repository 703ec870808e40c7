"""Asking a question once for all who want to know."""

import asyncio

import pytest

from packhorse.storage.flights import SharedQuestions
from tests.unit.virtual_time import run, settle


class Oracle:
    """Answers with how often it was asked, after a second."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        mine = self.asked
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        return mine


def test_who_asks_together_shares_and_who_asks_later_shares_the_next() -> None:
    async def main() -> None:
        questions, oracle = SharedQuestions[str, int](), Oracle()
        first = asyncio.create_task(questions.ask("a", oracle))
        await settle()
        later = [asyncio.create_task(questions.ask("a", oracle)) for _ in range(5)]
        await settle()
        assert oracle.asked == 1
        assert await first == 1
        await settle()
        # these ask while the second is out, so it may know less than they do
        latest = [asyncio.create_task(questions.ask("a", oracle)) for _ in range(5)]
        assert await asyncio.gather(*later) == [2] * 5
        assert await asyncio.gather(*latest) == [3] * 5
        assert await questions.ask("a", oracle) == 4

    run(main())


def test_other_keys_are_other_questions() -> None:
    async def main() -> None:
        questions, oracle = SharedQuestions[str, int](), Oracle()
        answers = await asyncio.gather(*(questions.ask(key, oracle) for key in "abc"))
        assert sorted(answers) == [1, 2, 3]

    run(main())


def test_a_failure_is_told_to_all_who_asked_and_to_nobody_after() -> None:
    async def main() -> None:
        questions, oracle = SharedQuestions[str, int](), Oracle()
        oracle.error = LookupError("no answer")
        first = asyncio.create_task(questions.ask("a", oracle))
        await settle()
        others = [asyncio.create_task(questions.ask("a", oracle)) for _ in range(2)]
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert [str(result) for result in results] == ["no answer"] * 3
        assert oracle.asked == 2
        oracle.error = None
        assert await questions.ask("a", oracle) == 3

    run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_who_goes_away_takes_the_answer_from_nobody(fails: bool) -> None:
    async def main() -> None:
        questions, oracle = SharedQuestions[str, int](), Oracle()
        oracle.error = LookupError("no answer") if fails else None
        tasks = [asyncio.create_task(questions.ask("a", oracle)) for _ in range(4)]
        await settle()
        tasks[0].cancel()
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert [str(result) for result in (results[1], results[3])] == (["no answer"] * 2 if fails else ["2"] * 2)

    run(main())
