"""Packages and applications from their creation to their end: the operator's parts, in virtual time."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from packhorse.cluster.client import EVENT, SECRET
from packhorse.cluster.client import NAMESPACE as NAMESPACES
from packhorse.domain.packages import NotLinked, Unavailable
from packhorse.operator.caches import Caches
from packhorse.operator.settings import Settings
from packhorse.operator.storage import LinkedStorage
from packhorse.operator.uninstall import release
from packhorse.operator.wiring import Parts
from tests.unit.objects import NAMESPACE, digest, metadata
from tests.unit.operator.fake_api import Event, FakeApi
from tests.unit.operator.fake_storage import FakeStorage
from tests.unit.operator.world import APPLICATION, PACKAGE
from tests.unit.virtual_time import run

SETTINGS = Settings(
    "system", "operator-0", "image", "svc:8443", embedded_storage="azurite.system.svc:10000",
    packages_per_application=3, package_size=1 << 30,
)  # fmt: skip
UNREACHABLE = Unavailable("StorageUnreachable", "the storage account does not answer")


class World:
    """A namespace, a storage account, and the operator's controllers at work."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.storage = FakeStorage()
        self.caches = Caches()

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let the operator work."""
        by_kind = {kind: cache for kind, _, cache in self.caches.watched()}

        def watched(event: Event) -> None:
            kind_of_event, kind, raw = event
            if kind not in by_kind:
                return
            if kind_of_event == "DELETED":
                key = (raw["metadata"]["namespace"], raw["metadata"]["name"])
                by_kind[kind].remove(key, int(raw["metadata"]["resourceVersion"]))
            else:
                by_kind[kind].put(raw)

        for kind, cache in by_kind.items():
            for raw in self.api.all(kind):
                cache.put(raw)
        unwatch = self.api.watch(watched)
        parts = Parts(SETTINGS, self.api, self.caches, cast("LinkedStorage", self.storage), "authority")
        parts.subscribe()
        jobs = [asyncio.create_task(work) for work in parts.work()]
        try:
            yield
        finally:
            unwatch()
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)

    def add(self, version: str, *, application: str = "blender", blob: str | None = None, **spec: Any) -> None:
        """Apply a package, and write its blob first if a text for it is given."""
        name = f"{application}.{version}"
        if blob is not None:
            self.storage.put(f"{NAMESPACE}/{name}.zip", blob)
        body = {"applicationId": application, "version": version, **spec}
        self.api.put(PACKAGE, {"metadata": metadata(name), "spec": body})

    def package(self, version: str = "2.7", application: str = "blender") -> dict[str, Any]:
        return self.api.objects[PACKAGE, NAMESPACE, f"{application}.{version}"]

    def application(self, name: str = "blender") -> dict[str, Any]:
        return self.api.objects[APPLICATION, NAMESPACE, name]

    def state(self, version: str = "2.7") -> tuple[str, str]:
        status = self.package(version).get("status", {})
        return status.get("state", ""), next(
            (entry["reason"] for entry in status.get("conditions", ()) if entry["type"] == "Ready"), ""
        )

    def message(self, version: str = "2.7") -> str:
        conditions = self.package(version)["status"]["conditions"]
        return str(next(entry["message"] for entry in conditions if entry["type"] == "Ready"))

    def change(self, version: str = "2.7", **patch: Any) -> None:
        self.api.change(PACKAGE, NAMESPACE, f"blender.{version}", patch)

    def annotate(self, version: str = "2.7", **annotations: str | None) -> None:
        named = {f"packhorse.dev/{name}": value for name, value in annotations.items()}
        self.change(version, metadata={"annotations": named})

    def annotations(self, version: str = "2.7") -> dict[str, str]:
        return dict(self.package(version)["metadata"].get("annotations", {}))

    def secret(self, name: str) -> dict[str, str] | None:
        raw = self.api.objects.get((SECRET, NAMESPACE, name))
        return {key: base64.b64decode(text).decode() for key, text in raw["data"].items()} if raw else None

    def delete(self, version: str = "2.7", **how: str) -> None:
        self.api.delete_softly(PACKAGE, NAMESPACE, f"blender.{version}", **how)

    def there(self, version: str = "2.7") -> bool:
        return (PACKAGE, NAMESPACE, f"blender.{version}") in self.api.objects

    def events(self) -> list[tuple[str, str]]:
        return [(raw["regarding"]["name"], raw["reason"]) for raw in self.api.all(EVENT)]


async def passes(seconds: float = 3.0) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


def story(tell: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """A test in virtual time, told about a world of its own in which the operator works."""

    async def whole() -> None:
        world = World()
        async with world.at_work():
            await tell(world)

    def test() -> None:
        run(whole())

    test.__name__, test.__doc__ = tell.__name__, tell.__doc__
    return test


@story
async def test_the_first_package_of_an_application_creates_it_and_becomes_active(world: World) -> None:
    world.add("2.7", application="blender", blob="content")
    await passes()
    status = world.package()["status"]
    assert world.state() == ("Active", "Activated")
    assert (status["sha256"], status["size"], status["files"]) == (digest("content"), 7, 1)
    assert status["lastVerificationTime"] <= status["lastActivationTime"]
    assert world.package()["metadata"]["finalizers"] == ["packhorse.dev/blob"]
    application = world.application()
    assert application["metadata"]["finalizers"] == ["packhorse.dev/packages"]
    assert [entry["version"] for entry in application["status"]["versions"]] == ["2.7"]
    assert ("blender.2.7", "Activated") in world.events()


@story
async def test_a_blob_that_comes_later_is_found(world: World) -> None:
    world.add("2.7")
    await passes()
    assert world.state() == ("Pending", "ApplicationPackageBlobNotFound")
    world.storage.put(f"{NAMESPACE}/blender.2.7.zip", "content")
    await passes(20)
    assert world.state() == ("Active", "Activated")


@story
async def test_an_active_package_costs_nothing_but_a_look_now_and_then(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    before = len(world.api.requests)
    await passes(3600)
    assert world.api.requests[before:] == []
    path = f"{NAMESPACE}/blender.2.7.zip"
    assert world.storage.asked["verify", path] == 1
    assert 8 <= world.storage.asked["look", path] <= 20


@story
async def test_a_failed_package_is_not_read_again_and_again(world: World) -> None:
    world.add("2.7", blob="!no ZIP file")
    await passes(600)
    assert world.state() == ("Failed", "InvalidPackage")
    assert world.storage.asked["verify", f"{NAMESPACE}/blender.2.7.zip"] == 1
    world.storage.put(f"{NAMESPACE}/blender.2.7.zip", "content")
    await passes(20)
    assert world.state() == ("Active", "Activated")


@story
async def test_a_blob_that_is_replaced_behind_our_back_is_noticed_and_can_be_accepted(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.storage.put(f"{NAMESPACE}/blender.2.7.zip", "other")
    await passes(400)
    assert world.state() == ("Failed", "BlobReplaced")
    assert digest("other") in world.message()
    assert world.package()["status"]["sha256"] == digest("content")
    world.annotate(upload="2026-05-01T12:00:00Z")
    await passes()
    assert world.state() == ("Active", "Activated")
    assert world.package()["status"]["sha256"] == digest("other")
    assert world.annotations() == {}


@story
async def test_a_blob_that_is_removed_behind_our_back_is_noticed(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.storage.blobs.clear()
    await passes(400)
    assert world.state() == ("Pending", "ApplicationPackageBlobNotFound")
    assert world.application()["status"].get("versions", []) == []


@story
async def test_leave_to_upload_is_given_and_taken_back(world: World) -> None:
    world.add("2.7")
    world.annotate(upload="requested")
    await passes()
    secret = world.secret("blender.2.7.upload")
    assert secret is not None
    assert secret["url"].startswith(f"https://account.example/packhorse/{NAMESPACE}/blender.2.7.zip?sp=rcw")
    assert "proxyPath" not in secret, "this account is none of the cluster's"
    assert '"packageSize": 1073741824' in secret["limits"]
    world.storage.put(f"{NAMESPACE}/blender.2.7.zip", "content")
    await passes(60)
    assert world.state()[0] == "Pending", "an upload that is not said to be over counts for nothing"
    world.annotate(upload="2026-05-01T12:00:00Z")
    await passes()
    assert world.state() == ("Active", "Activated")
    assert world.secret("blender.2.7.upload") is None
    assert world.annotations() == {}


@story
async def test_a_large_file_is_accepted_when_it_was_read_and_not_before(world: World) -> None:
    path = f"{NAMESPACE}/blender.2.7.zip"
    world.storage.sizes[path] = 100 << 20
    world.add("2.7", blob="content")
    await passes()
    world.storage.put(path, "other")
    world.storage.held[path] = asyncio.Event()
    world.annotate(upload="2026-05-01T12:00:00Z")
    await passes(30)
    assert world.state() == ("Active", "Verifying")
    world.storage.held[path].set()
    await passes()
    assert (world.state(), world.annotations()) == (("Active", "Activated"), {})
    assert world.package()["status"]["sha256"] == digest("other")


@story
async def test_leave_is_given_anew_when_the_account_changed(world: World) -> None:
    world.add("2.7")
    world.annotate(upload="requested")
    await passes()
    world.api.remove(SECRET, NAMESPACE, "blender.2.7.upload")
    await passes(60)
    assert world.secret("blender.2.7.upload") is None
    world.storage.heal()
    await passes(20)
    assert world.secret("blender.2.7.upload") is not None


@story
async def test_the_embedded_storage_is_reached_through_the_api_server(world: World) -> None:
    world.storage.host = "azurite.system.svc:10000"
    world.add("2.7")
    world.annotate(upload="requested")
    await passes()
    secret = world.secret("blender.2.7.upload")
    assert secret is not None
    assert secret["proxyPath"] == "/api/v1/namespaces/system/services/https:azurite:10000/proxy"


@story
async def test_leave_to_download_is_given_and_taken_back(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.annotate(download="requested")
    await passes()
    secret = world.secret("blender.2.7.download")
    assert secret is not None
    assert "sp=r&" in secret["url"]
    world.annotate(download=None)
    await passes()
    assert world.secret("blender.2.7.download") is None


@story
async def test_a_package_is_verified_again_on_demand(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    path = f"{NAMESPACE}/blender.2.7.zip"
    before = world.package()["status"]["lastVerificationTime"]
    world.annotate(verify="2026-05-01T12:00:00Z")
    await passes()
    assert world.annotations() == {}
    assert world.package()["status"]["lastVerificationTime"] > before
    assert world.storage.asked["verify", path] == 2
    text, mark = world.storage.blobs[path]
    world.storage.blobs[path] = (f"!rotten {text}", mark)
    world.annotate(verify="2026-05-01T13:00:00Z")
    await passes()
    assert (world.state(), world.annotations()) == (("Failed", "InvalidPackage"), {})


@story
async def test_a_large_package_holds_up_no_other_and_shows_how_far_it_is(world: World) -> None:
    slow = [f"{NAMESPACE}/huge.{number}.zip" for number in range(3)]
    for number, path in enumerate(slow):
        world.storage.held[path] = asyncio.Event()
        world.storage.sizes[path] = 100 << 20
        world.add(str(number), application="huge", blob="huge content")
    for number in range(3):
        world.add(f"1.{number}", blob=f"content {number}")
    await passes(30)
    assert [world.state(f"1.{number}")[0] for number in range(3)] == ["Active"] * 3
    huge = [world.package(str(number), "huge").get("status", {}) for number in range(3)]
    assert {status.get("state", "Pending") for status in huge} == {"Pending"}
    messages = [entry["message"] for status in huge for entry in status.get("conditions", ())]
    assert sum("(25 %)" in message for message in messages) == 2, "two large ones at a time"
    for path in slow:
        world.storage.held[path].set()
    await passes()
    assert [world.package(str(number), "huge")["status"]["state"] for number in range(3)] == ["Active"] * 3


@story
async def test_a_package_beyond_the_quota_is_refused_until_there_is_room(world: World) -> None:
    for number in range(4):
        world.add(f"1.{number}", blob=f"content {number}")
    await passes()
    assert [world.state(f"1.{number}")[0] for number in range(3)] == ["Active"] * 3
    assert world.state("1.3") == ("Failed", "ApplicationPackageQuotaReached")
    world.annotate("1.3", upload="requested")
    await passes()
    assert world.secret("blender.1.3.upload") is None
    world.annotate("1.3", upload=None)
    world.delete("1.0")
    await passes(20)
    assert world.state("1.3") == ("Active", "Activated")


@story
async def test_a_file_beyond_the_quota_is_refused_unread(world: World) -> None:
    path = f"{NAMESPACE}/blender.2.7.zip"
    world.storage.sizes[path] = (1 << 30) + 1
    world.add("2.7", blob="content")
    await passes()
    assert world.state() == ("Failed", "PackageTooLarge")
    assert world.storage.asked["verify", path] == 0


@story
async def test_trouble_with_the_account_is_told_once_and_heals_at_once(world: World) -> None:
    world.storage.trouble = NotLinked("no storage account is linked")
    for application in ("one", "two", "three"):
        for number in range(3):
            world.add(f"1.{number}", application=application, blob="content")
    await passes()
    states = {raw["status"]["conditions"][1]["status"] for raw in world.api.all(PACKAGE)}
    assert states == {"False"}
    assert [reason for _, reason in world.events()].count("NoLinkedStorageAccount") == 1
    world.storage.heal()
    await passes(1)
    assert {raw["status"]["state"] for raw in world.api.all(PACKAGE)} == {"Active"}


@story
async def test_an_active_package_outlasts_an_account_that_is_away(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.storage.trouble = UNREACHABLE
    await passes(400)
    assert world.state() == ("Active", "StorageUnreachable")
    world.storage.heal()
    await passes(1)
    assert world.state() == ("Active", "Activated")


@story
async def test_with_a_package_go_its_blob_and_the_default_setting(world: World) -> None:
    world.add("2.7", blob="content")
    world.add("2.8", blob="other")
    await passes()
    world.api.change(APPLICATION, NAMESPACE, "blender", {"spec": {"defaultVersion": "2.7"}})
    await passes()
    world.delete("2.8")
    await passes()
    assert world.application()["spec"]["defaultVersion"] == "2.7"
    world.delete("2.7")
    await passes()
    assert not world.there("2.7")
    assert world.storage.blobs == {}
    assert "defaultVersion" not in world.application()["spec"]
    assert ("blender", "DefaultVersionCleared") in world.events()


@story
async def test_the_default_setting_goes_however_it_is_spelled(world: World) -> None:
    world.add("2.7-rc", blob="content")
    await passes()
    world.api.change(APPLICATION, NAMESPACE, "blender", {"spec": {"defaultVersion": "2.7_RC"}})
    await passes()
    assert world.application()["status"]["conditions"][0]["status"] == "True"
    world.delete("2.7-rc")
    await passes()
    assert "defaultVersion" not in world.application()["spec"]


@story
async def test_a_blob_that_another_package_is_made_of_stays(world: World) -> None:
    world.add("2.7", blob="content")
    world.add("2.8", blob=None, sha256=digest("content"))
    world.change("2.8", spec={"blob": "blender.2.7.zip"})
    await passes(20)
    assert world.state("2.8") == ("Active", "Activated")
    world.delete("2.7")
    await passes()
    assert not world.there("2.7")
    assert f"{NAMESPACE}/blender.2.7.zip" in world.storage.blobs
    world.delete("2.8")
    await passes()
    assert world.storage.blobs == {}


@story
async def test_a_deleted_application_waits_for_its_packages_and_goes_by_itself(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.api.delete_softly(APPLICATION, NAMESPACE, "blender")
    await passes()
    ready = world.application()["status"]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "ApplicationPackagesNotEmpty")
    assert "blender.2.7" in ready["message"]
    world.delete("2.7")
    await passes()
    assert world.api.all(APPLICATION) == []
    assert world.api.all(PACKAGE) == []


@story
async def test_the_blob_of_a_locked_package_is_kept_whoever_deletes_it(world: World) -> None:
    """Admission refuses the deletion; its news of the application may be old, and some are exempt."""
    world.add("2.7", blob="content")
    await passes()
    world.api.put(NAMESPACES, {"metadata": {"name": NAMESPACE, "namespace": ""}})
    world.api.change(APPLICATION, NAMESPACE, "blender", {"spec": {"allowUpdates": False}})
    await passes()
    world.delete("2.7")
    await passes()
    assert not world.there("2.7")
    assert len(world.storage.blobs) == 1
    assert ("blender.2.7", "BlobRetained") in world.events()


@story
async def test_with_a_namespace_go_locked_packages_and_their_blobs(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.api.change(APPLICATION, NAMESPACE, "blender", {"spec": {"allowUpdates": False}})
    gone = {"name": NAMESPACE, "namespace": "", "deletionTimestamp": "2026-05-01T12:00:00Z"}
    world.api.put(NAMESPACES, {"metadata": gone})
    world.delete("2.7")
    await passes()
    assert (world.there("2.7"), world.storage.blobs) == (False, {})


@story
async def test_a_deletion_waits_for_the_account(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.storage.trouble = UNREACHABLE
    world.delete("2.7", since="2999-01-01T00:00:00Z")
    await passes(60)
    assert world.there("2.7")
    assert world.state("2.7") == ("Pending", "Deleting")
    world.storage.heal()
    await passes(20)
    assert (world.there("2.7"), world.storage.blobs) == (False, {})


@pytest.mark.parametrize(
    ("trouble", "since"),
    [(UNREACHABLE, "2026-05-01T12:00:00Z"), (NotLinked("no storage account is linked"), "2999-01-01T00:00:00Z")],
)
def test_a_deletion_cannot_wedge(trouble: NotLinked | Unavailable, since: str) -> None:
    """Neither where the account is away for long, nor where there is none any more."""

    @story
    async def ends(world: World) -> None:
        world.add("2.7", blob="content")
        await passes()
        world.storage.trouble = trouble
        world.delete("2.7", since=since)
        await passes(20)
        assert not world.there("2.7")
        assert ("blender.2.7", "BlobRetained") in world.events()

    ends()


@story
async def test_a_namesake_of_a_deleted_package_keeps_its_blob(world: World) -> None:
    world.add("2.7", blob="content")
    await passes()
    world.delete("2.7")
    await passes()
    world.add("2.7", blob="new content")
    await passes(400)
    assert world.state() == ("Active", "Activated")
    assert len(world.storage.blobs) == 1


def test_everything_is_let_go_at_the_end() -> None:
    async def ends() -> None:
        world = World()
        async with world.at_work():
            for version in ("2.7", "2.8"):
                world.add(version, blob=version)
            await passes()
        world.change("2.7", metadata={"finalizers": ["packhorse.dev/blob", "example.com/other"]})
        assert await release(world.api, (NAMESPACE, "another")) == 3
        finalizers = [raw["metadata"].get("finalizers") for raw in world.api.all(PACKAGE) + world.api.all(APPLICATION)]
        assert finalizers == [["example.com/other"], None, None]
        assert await release(world.api, ()) == 0

    run(ends())
