"""Which account is a namespace's, how often it is asked, and what happens while it is in trouble; in virtual time."""

import asyncio
import base64
import logging
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from packhorse.archive import Limits
from packhorse.cluster.client import SECRET, ApiError, ApiUnavailableError
from packhorse.domain.packages import Blob, Content, Missing, NotLinked, Unavailable
from packhorse.operator import storage as module
from packhorse.operator.settings import Settings
from packhorse.operator.storage import KEEP_LINK, KEEP_LISTING, REFRESH, LinkedStorage
from packhorse.storage.credentials import AccountConfiguration
from packhorse.storage.errors import NotLinkedError, UnavailableError
from tests.unit.operator.fake_api import FakeApi
from tests.unit.virtual_time import run, settle

T = TypeVar("T")

SETTINGS = Settings("system", "pod", "image", "svc:8443", storage_secret="account", namespace_storage=True)
KEYS = {name: base64.b64encode(name.encode()).decode() for name in ("first", "second", "third")}
LATENCY = 0.1


@dataclass
class FakeAccount:
    """An account in memory.

    Attributes:
        trouble: Raised by everything that asks the account.
        asked: How often each method was called.
        signs: Whether it can sign without being asked.
    """

    configuration: AccountConfiguration
    blobs: dict[str, Blob] = field(default_factory=dict)
    trouble: UnavailableError | None = None
    asked: Counter[str] = field(default_factory=Counter)
    signs: bool = True
    closed: bool = False
    reading: Callable[[Callable[[int, int], None], threading.Event], None] = lambda _progress, _stopped: None

    @property
    def url(self) -> str:
        return f"{self.configuration.endpoint}/"

    @property
    def container_url(self) -> str:
        return f"{self.configuration.endpoint}/{self.configuration.container}"

    def find(self, blob: str) -> Blob | Missing:
        self._count("find")
        return self.blobs.get(blob, Missing())

    def list(self, folder: str, most: int) -> dict[str, Blob] | None:
        self._count("list")
        found = {path: blob for path, blob in self.blobs.items() if path.startswith(folder)}
        return found if len(found) <= most else None

    def delete(self, blob: str) -> None:
        self._count("delete")
        self.blobs.pop(blob, None)

    def verify(
        self, blob: str, _limits: Limits, progress: Callable[[int, int], None], stopped: threading.Event
    ) -> Content:
        self._count("verify")
        self.reading(progress, stopped)
        return Content(self.blobs[blob], "digest", 1, 2)

    def can_sign(self) -> bool:
        return self.signs

    def readable(self, blob: str, lifetime: Any) -> str:
        if not self.signs:
            self._count("readable")
        return f"{self.container_url}/{blob}?read&{lifetime.total_seconds():.0f}"

    def writable(self, blob: str) -> str:
        self._count("writable")
        return f"{self.container_url}/{blob}?write"

    def close(self) -> None:
        self.closed = True

    def _count(self, method: str) -> None:
        self.asked[method] += 1
        if self.trouble is not None:
            raise self.trouble


class World:
    """A cluster with Secrets, and the accounts that they link.

    Attributes:
        accounts: All accounts that were opened, by their key; by their name where there is none.
        changed: What ``on_change`` was told.
        refuse: Accounts that cannot be opened.
    """

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.api = FakeApi()
        self.accounts: dict[str, FakeAccount] = {}
        self.opened = 0
        self.refuse: NotLinkedError | None = None
        self.changed: list[str | None] = []
        self.storage = LinkedStorage(
            self.api,
            settings,
            "authority",
            open_account=self._open,  # type: ignore[arg-type]
            run=self._run,
        )
        self.storage.on_change(self.changed.append)

    def link(self, key: str, namespace: str = "system", name: str = "account", **more: str) -> None:
        """Put a Secret with an account of this key."""
        data = {"accountName": "account", "accountKey": KEYS[key], **more}
        self.put(namespace, name, {name: value for name, value in data.items() if value})

    def put(self, namespace: str, name: str, data: dict[str, str]) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.api.put(SECRET, {"metadata": {"namespace": namespace, "name": name}, "data": encoded})

    def account(self, key: str = "first") -> FakeAccount:
        return self.accounts[KEYS[key]]

    async def look(self, namespace: str = "ns", blob: str = "ns/a.zip", max_age: float = 0) -> Any:
        return await self.storage.look(namespace, blob, max_age)

    def secret_reads(self) -> int:
        return len(self.api.requests)

    def _open(self, configuration: AccountConfiguration) -> FakeAccount:
        if self.refuse is not None:
            raise self.refuse
        self.opened += 1
        account = FakeAccount(configuration)
        self.accounts[configuration.key or configuration.name] = account
        return account

    async def _run(self, question: Callable[[], T]) -> T:
        await asyncio.sleep(LATENCY)
        return question()


def live(main: Callable[[World], Coroutine[Any, Any, None]], settings: Settings = SETTINGS) -> None:
    async def all_of_it() -> None:
        world = World(settings)
        await main(world)
        world.storage.close()

    run(all_of_it())


def message(seen: object) -> str:
    assert isinstance(seen, NotLinked | Unavailable)
    return seen.message


# --- which account ---------------------------------------------------------------------------------------------------


def test_a_namespace_has_its_own_account_or_the_installation_s() -> None:
    async def main(world: World) -> None:
        world.link("first")
        world.link("second", "theirs", "packhorse-storage", container="own")
        assert await world.look() == Missing()
        assert await world.storage.folder_url("ns") == "https://account.blob.core.windows.net/packhorse/ns/"
        assert await world.storage.folder_url("theirs") == "https://account.blob.core.windows.net/own/theirs/"
        assert (await world.storage.readable("theirs", "theirs/a")).endswith("/own/theirs/a?read&900")
        assert (await world.storage.downloadable("theirs", "theirs/a")).endswith("/own/theirs/a?read&14400")
        assert (await world.storage.writable("ns", "ns/a")).endswith("/packhorse/ns/a?write")
        assert world.account("first").asked == {"find": 1, "writable": 1}

    live(main)


def test_namespaces_have_none_where_the_installation_does_not_let_them() -> None:
    async def main(world: World) -> None:
        world.link("first")
        world.link("second", "theirs", "packhorse-storage")
        await world.look("theirs", "theirs/a")
        assert set(world.accounts) == {KEYS["first"]}
        assert [path for _, path in world.api.requests] == ["/api/v1/namespaces/system/secrets/account"]

    live(main, replace(SETTINGS, namespace_storage=False))


def test_no_account_at_all() -> None:
    async def main(world: World) -> None:
        seen = await world.look()
        assert isinstance(seen, NotLinked)
        assert "no storage account is linked to this installation; put its connection string" in seen.message
        assert await world.storage.verify("ns", "ns/a", Limits(), lambda *_: None) == seen
        assert await world.storage.delete("ns", "ns/a") == seen
        assert await world.storage.folder_url("ns") is None
        for ask in (world.storage.readable, world.storage.writable, world.storage.downloadable):
            with pytest.raises(NotLinkedError, match="no storage account is linked"):
                await ask("ns", "ns/a")

    live(main, replace(SETTINGS, storage_secret="", namespace_storage=False))


def test_a_secret_that_is_missing_useless_or_forbidden_is_told() -> None:
    async def main(world: World) -> None:
        assert message(await world.look()).startswith("there is no Secret system/account, which links the storage")
        await asyncio.sleep(REFRESH)
        world.put("system", "account", {"connectionString": "nonsense"})
        assert "the connection string in the Secret system/account is damaged" in message(await world.look())
        await asyncio.sleep(REFRESH)
        world.api.objects[SECRET, "system", "account"]["data"] = {"accountName": "/w=="}
        assert "the key accountName of the Secret system/account is no text" in message(await world.look())
        await asyncio.sleep(REFRESH)
        world.api.refuse = lambda _, path: ApiError(403, "Forbidden", "no") if "system" in path else None
        assert "may not read the Secret system/account; give its service account leave" in message(await world.look())
        await asyncio.sleep(REFRESH)
        world.api.refuse = lambda _, path: None
        world.refuse = NotLinkedError("the operator's pod has no identity")
        world.link("first")
        assert message(await world.look()) == "the operator's pod has no identity"
        assert world.changed == [None] * 4

    live(main)


def test_a_useless_secret_of_a_namespace_hides_the_installation_s_account() -> None:
    async def main(world: World) -> None:
        world.link("first")
        world.put("theirs", "packhorse-storage", {"accountKey": KEYS["second"]})
        assert "the Secret theirs/packhorse-storage has no key accountName" in message(await world.look("theirs"))
        assert await world.look("ns") == Missing()

    live(main)


def test_the_installation_s_identity() -> None:
    async def main(world: World) -> None:
        world.put("theirs", "packhorse-storage", {"accountName": "theirs"})
        world.put("evil", "packhorse-storage", {"accountName": "theirs", "blobEndpoint": "https://evil.example"})
        assert await world.storage.folder_url("ns") == "https://ours.blob.core.chinacloudapi.cn/packhorse/ns/"
        theirs = await world.storage.folder_url("theirs")
        assert theirs == "https://theirs.blob.core.chinacloudapi.cn/packhorse/theirs/"
        assert "does not show its identity" in message(await world.look("evil"))
        assert world.accounts["theirs"].configuration.key is None

    account = "https://ours.blob.core.chinacloudapi.cn"
    live(main, replace(SETTINGS, storage_secret="", storage_account=account))


def test_a_namespace_s_account_name_alone_is_nothing_where_the_installation_has_a_key() -> None:
    async def main(world: World) -> None:
        world.link("first")
        world.put("theirs", "packhorse-storage", {"accountName": "theirs"})
        assert "has no key accountKey beside accountName" in message(await world.look("theirs"))

    live(main)


def test_the_embedded_account_is_trusted_by_the_operator_s_authority() -> None:
    async def main(world: World) -> None:
        world.link("first")
        world.link("second", "theirs", "packhorse-storage")
        await world.look()
        await world.look("theirs")
        assert world.account("first").configuration.authority == "authority"
        assert world.account("second").configuration.authority == ""

    live(main, replace(SETTINGS, embedded_storage="azurite:10000"))


def test_a_changed_secret_counts_within_half_a_minute() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        world.link("second")
        await world.look()
        await asyncio.sleep(REFRESH)
        assert world.changed == []
        await asyncio.gather(*(world.look(blob=f"ns/{number}") for number in range(20)))
        assert world.account("second").asked["find"] == 20
        assert world.changed == [None]
        reads = world.secret_reads()
        await asyncio.sleep(REFRESH)
        await asyncio.gather(*(world.look(blob=f"ns/{number}") for number in range(20)))
        assert world.secret_reads() == reads + 2
        assert world.changed == [None]
        assert world.account("first").closed

    live(main)


def test_a_namespace_links_its_own_later_and_gives_it_up() -> None:
    async def main(world: World) -> None:
        world.link("first")
        await world.look()
        await asyncio.sleep(REFRESH)
        world.link("second", "ns", "packhorse-storage")
        await world.look()
        assert world.changed == ["ns"]
        await asyncio.sleep(REFRESH)
        world.api.remove(SECRET, "ns", "packhorse-storage")
        await world.look()
        assert world.changed == ["ns", "ns"]
        assert (world.account("first").asked["find"], world.account("second").asked["find"]) == (2, 1)

    live(main)


def test_while_the_api_server_is_silent_what_is_known_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World) -> None:
        world.link("first")
        world.api.refuse = lambda *_: ApiUnavailableError("no answer")
        with pytest.raises(ApiUnavailableError):
            await world.look()
        world.api.refuse = lambda *_: None
        await world.look()
        world.api.refuse = lambda *_: ApiUnavailableError("no answer")
        await asyncio.sleep(REFRESH)
        assert await world.look() == Missing()
        assert "was not read anew: no answer" in caplog.text
        assert world.changed == []

    live(main)


def test_equal_secrets_share_an_account_and_its_troubles() -> None:
    async def main(world: World) -> None:
        for namespace in ("one", "two"):
            world.link("second", namespace, "packhorse-storage")
            await world.look(namespace, f"{namespace}/a")
        assert world.opened == 1
        world.account("second").trouble = UnavailableError("StorageThrottled", "too often")
        assert isinstance(await world.look("one"), Unavailable)
        assert isinstance(await world.look("two"), Unavailable)
        assert world.account("second").asked["find"] == 3
        world.account("second").trouble = None
        await asyncio.sleep(3)
        await world.look("two")
        assert world.changed == ["one", "two"]

    live(main)


def test_namespaces_that_are_gone_are_forgotten() -> None:
    async def main(world: World) -> None:
        world.link("first")
        for number in range(300):
            await world.look(f"ns-{number}")
            await asyncio.sleep(KEEP_LINK / 100)
        assert len(world.storage._links) < 120
        assert None in world.storage._links

    live(main)


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
        [opened] = world.storage._opened.values()
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
