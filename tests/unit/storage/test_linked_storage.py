"""How often an account is asked, and what happens while it is in trouble; in virtual time."""

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest

from packhorse.archive import Limits
from packhorse.domain.packages import Blob, Content, Missing, Unavailable
from packhorse.operator import storage as module
from packhorse.operator.links import REFRESH
from packhorse.operator.storage import KEEP_LISTING, LinkedStorage
from packhorse.storage.errors import UnavailableError
from tests.unit.storage.world import KEYS, LATENCY, SETTINGS, World, live, message
from tests.unit.virtual_time import settle

# --- how often it is asked -------------------------------------------------------------------------------------------


def test_thousands_of_packages_cost_two_requests() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look(blob="ns/none")
        account = world.account()
        account.blobs = {f"ns/{number}": Blob(f'"{number}"', number) for number in range(8000)}
        account.asked.clear()
        seen = await asyncio.gather(*(world.look(blob=f"ns/{number}", max_age=10) for number in range(8001)))
        assert seen == [*account.blobs.values(), Missing()]
        assert account.asked == {"list": 1}
        await asyncio.sleep(9)
        await world.look(max_age=10)
        assert account.asked == {"list": 1}
        await world.look(max_age=5)
        assert account.asked == {"list": 2}
        await asyncio.sleep(11)
        await asyncio.gather(*(world.look(max_age=10) for _ in range(100)))
        assert account.asked == {"list": 3}

    live(main)


def test_a_listing_that_is_under_way_is_joined_only_if_it_is_young_enough() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        account = world.account()
        first = asyncio.create_task(world.look(max_age=1))
        await asyncio.sleep(LATENCY / 2)
        account.blobs["ns/a.zip"] = Blob('"1"', 1)
        young = asyncio.create_task(world.look(max_age=LATENCY / 4))
        same = asyncio.create_task(world.look(max_age=LATENCY))
        await asyncio.gather(first, young, same)
        assert account.asked["list"] == 2

    live(main)


def test_a_blob_of_another_folder_is_never_looked_for_in_a_listing() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.account().blobs["shared/a.zip"] = Blob('"1"', 1)
        assert await world.look(blob="shared/a.zip", max_age=60) == Blob('"1"', 1)
        assert world.account().asked["list"] == 0

    live(main)


def test_a_folder_that_is_too_long_is_asked_blob_by_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_LISTING", 2)

    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        account = world.account()
        account.blobs = {f"ns/{number}": Blob('"1"', number) for number in range(3)}
        for _ in range(5):
            assert await world.look(blob="ns/2", max_age=10) == Blob('"1"', 2)
            await asyncio.sleep(20)
        assert account.asked == {"find": 6, "list": 1}
        await asyncio.sleep(KEEP_LISTING)
        del account.blobs["ns/0"]
        assert await world.look(blob="ns/2", max_age=10) == Blob('"1"', 2)
        assert account.asked == {"find": 6, "list": 2}

    live(main)


def test_what_is_known_better_than_the_listing_counts() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        account = world.account()
        account.blobs = {"ns/old": Blob('"1"', 1), "ns/gone": Blob('"1"', 1), "ns/deleted": Blob('"1"', 1)}
        await world.look(max_age=60)
        account.blobs |= {"ns/old": Blob('"2"', 1), "ns/new": Blob('"1"', 1)}
        del account.blobs["ns/gone"]
        for blob in ("ns/old", "ns/gone", "ns/new"):
            await world.look(blob=blob)
        assert await world.storage.delete("ns", "ns/deleted") == Missing()
        for blob in ("ns/old", "ns/gone", "ns/new", "ns/deleted"):
            assert await world.look(blob=blob, max_age=60) == account.blobs.get(blob, Missing())
        assert account.asked["list"] == 1

    live(main)


def test_who_looks_at_one_blob_at_the_same_time_shares_the_answer() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        first = asyncio.create_task(world.look())
        await settle()
        world.account().blobs["ns/a.zip"] = Blob('"1"', 1)
        others = [asyncio.create_task(world.look()) for _ in range(50)]
        await asyncio.gather(first, *others)
        assert {task.result() for task in others} == {Blob('"1"', 1)}
        assert world.account().asked["find"] == 3

    live(main)


def test_listings_that_nobody_wants_are_dropped() -> None:
    async def main(world: World) -> None:
        world.link("first")
        for number in range(50):
            await world.look(f"ns-{number}", f"ns-{number}/a", max_age=1)
            await asyncio.sleep(KEEP_LISTING / 10)
        [opened] = world.storage._links._opened.values()
        assert len(opened.listings) < 12

    live(main)


# --- trouble ---------------------------------------------------------------------------------------------------------


def throttled(retry_after: float = 0.0) -> UnavailableError:
    return UnavailableError("StorageThrottled", "it asks to be called less often", retry_after=retry_after)


def test_an_account_in_trouble_is_asked_once_in_a_while_and_its_healing_is_told() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        account = world.account()
        account.trouble = throttled(20)
        account.asked.clear()
        seen = await asyncio.gather(*(world.look(blob=f"ns/{number}", max_age=10) for number in range(1000)))
        assert account.asked == {"list": 1}
        assert {(one.reason, one.message) for one in seen} == {("StorageThrottled", str(account.trouble))}
        assert all(0 < one.retry_after <= 20 for one in seen)
        for _ in range(600):
            await asyncio.sleep(1)
            await asyncio.gather(world.look(), world.look(max_age=5), world.storage.delete("ns", "ns/a"))
        assert 12 <= account.asked.total() <= 32  # in ten minutes, none of them within 20 s of another
        assert world.changed == []
        account.trouble = None
        while not world.changed:
            await asyncio.sleep(1)
            await world.look()
        assert world.changed == [None]
        assert await world.look() == Missing()

    live(main)


def test_a_new_key_ends_the_pause_at_once() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.account().trouble = UnavailableError("StorageAccessDenied", "wrong key", retry_after=600)
        assert message(await world.look()) == "wrong key"
        world.link("second")
        await asyncio.sleep(REFRESH)
        assert await world.look() == Missing()
        assert world.changed == [None]

    live(main)


def test_the_trouble_of_one_blob_stops_nobody_else() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.account().trouble = UnavailableError("StorageError", "it is leased", account_wide=False)
        seen = await world.storage.delete("ns", "ns/a")
        assert seen == Unavailable("StorageError", "it is leased", 0.0)
        world.account().trouble = None
        assert await world.look() == Missing()
        assert world.changed == []

    live(main)


@pytest.mark.parametrize(
    ("reason", "given_out"),
    [
        ("StorageUnreachable", True),
        ("StorageThrottled", True),
        ("StorageError", True),
        ("StorageAccessDenied", False),
        ("StorageContainerNotFound", False),
        ("StorageHierarchicalNamespace", False),
    ],
)
def test_nodes_get_urls_while_the_operator_cannot_reach_the_account(reason: str, given_out: bool) -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.account().trouble = UnavailableError(reason, "trouble")
        await world.look()
        if given_out:
            assert "?read" in await world.storage.readable("ns", "ns/a")
        else:
            with pytest.raises(UnavailableError, match="trouble"):
                await world.storage.readable("ns", "ns/a")
        with pytest.raises(UnavailableError, match="trouble"):
            await world.storage.writable("ns", "ns/a")
        world.account().signs = False
        with pytest.raises(UnavailableError, match="trouble") as caught:
            await world.storage.readable("ns", "ns/a")
        assert caught.value.reason == reason
        assert caught.value.retry_after > 0
        assert world.account().asked == {"find": 2}

    live(main)


def test_a_probe_that_is_cancelled_leaves_it_to_the_next() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.account().trouble = throttled()
        await world.look()
        world.account().trouble = None
        await asyncio.sleep(3)
        gone = asyncio.create_task(world.storage.delete("ns", "ns/a"))
        await asyncio.sleep(LATENCY / 2)
        assert isinstance(await world.look(), Unavailable)
        gone.cancel()
        await asyncio.wait([gone])
        assert await world.look() == Missing()
        assert world.changed == [None]

    live(main)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_blob_is_read_with_its_progress_told_in_the_loop() -> None:
    async def main(world: World) -> None:
        world.link("first")
        told: list[tuple[int, int]] = []
        threads = set()

        def note(*progress: int) -> None:
            threads.add(threading.current_thread())
            told.append(progress)  # type: ignore[arg-type]

        assert await world.storage.verify("ns", "ns/a", Limits(), note) == Missing()
        account = world.account()
        account.blobs["ns/a"] = Blob('"1"', 10)

        def read(progress: Callable[[int, int], None], _stopped: threading.Event) -> None:
            for done in (5, 10):
                progress(done, 10)

        account.reading = read
        assert await world.storage.verify("ns", "ns/a", Limits(), note) == Content(Blob('"1"', 10), "digest", 1, 2)
        await settle()
        assert told == [(5, 10), (10, 10)]
        assert threads == {threading.current_thread()}
        account.trouble = throttled()
        seen = await world.storage.verify("ns", "ns/a", Limits(), note)
        assert isinstance(seen, Unavailable)
        assert account.asked == {"find": 3, "verify": 1}

    live(main)


def test_a_long_reading_is_never_the_probe() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        account = world.account()
        account.blobs["ns/a"] = Blob('"1"', 10)
        account.trouble = throttled()
        await world.look()
        account.trouble = None
        await asyncio.sleep(3)
        reading = asyncio.create_task(world.storage.verify("ns", "ns/a", Limits(), lambda *_: None))
        await asyncio.sleep(LATENCY * 1.5)
        assert world.changed == [None]
        assert await world.look() == Missing()
        assert isinstance(await reading, Content)

    live(main)


async def test_reading_stops_when_it_is_cancelled() -> None:
    """In real threads."""
    started, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    world = World()
    world.storage = LinkedStorage(world.api, SETTINGS, "", open_account=world._open)  # type: ignore[arg-type]
    world.link("first")
    assert await world.look() == Missing()
    world.account().blobs["ns/a"] = Blob('"1"', 10)

    def read(_progress: object, stopped: threading.Event) -> None:
        loop.call_soon_threadsafe(started.set)
        assert stopped.wait(30)
        loop.call_soon_threadsafe(ended.set)

    world.account().reading = read
    reading = asyncio.create_task(world.storage.verify("ns", "ns/a", Limits(), lambda *_: None))
    async with asyncio.timeout(30):
        await started.wait()
        reading.cancel()
        await ended.wait()
    world.storage.close()
    assert world.account().closed


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.account().trouble = throttled()
        await world.look()
        world.account().trouble = None
        await asyncio.sleep(3)
        await world.look()
        world.link("second")
        await asyncio.sleep(REFRESH)
        await world.look()
        await world.storage.readable("ns", "ns/a")

    live(main)
    assert "answers again" in caplog.text
    assert "linked anew" in caplog.text
    assert not any(key in caplog.text for key in KEYS.values())
