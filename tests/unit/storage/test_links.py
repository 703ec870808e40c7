"""Which account is a namespace's, and what is said where there is none; in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from packhorse.archive import Limits
from packhorse.cluster.client import SECRET, ApiError, ApiUnavailableError
from packhorse.domain.packages import Missing, NotLinked, Unavailable
from packhorse.operator.links import KEEP_LINK, REFRESH
from packhorse.storage.errors import NotLinkedError, UnavailableError
from tests.unit.storage.world import KEYS, SETTINGS, World, live, message


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
        assert len(world.storage._links._links) < 120
        assert None in world.storage._links._links

    live(main)
