"""The node service over TLS: who is let in, what they are told, and how a conversation goes."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import msgspec
import pytest

from packhorse.archive import Limits
from packhorse.cluster.cache import Key
from packhorse.cluster.client import POD, STATEFUL_SET, ApiUnavailableError
from packhorse.domain.packages import NotLinked, Unavailable
from packhorse.model import Pool
from packhorse.operator.authority import issue, new_authority, server_context
from packhorse.operator.node_service import NodeService
from packhorse.operator.storage import LinkedStorage
from packhorse.protocol import (
    AUDIENCE,
    CONNECT_PATH,
    DOWNLOADS_PATH,
    PACKAGES_PATH,
    Download,
    FromNode,
    Hello,
    Package,
    PackagesRemoved,
    PoolPackages,
    Problem,
    RunTask,
    TaskEnded,
    TaskRecorded,
    TaskStarted,
    ToNode,
)
from tests.unit.objects import (
    LATER,
    NAMESPACE,
    NOW,
    deployed,
    raw_application,
    raw_package,
    raw_pod,
    raw_pool,
    raw_stateful_set,
    raw_task,
)
from tests.unit.operator.fake_api import FakeApi
from tests.unit.operator.fake_storage import FakeStorage
from tests.unit.operator.world import APPLICATION, PACKAGE, POOL, TASK, Operator

PATIENCE = 30.0
"""Seconds until something that does not happen fails a test."""
FFMPEG = deployed("ffmpeg", "7.1").package
BLENDER = deployed("blender", "2.7").package


def review(pod: str = "render-0", uid: str = "", audiences: tuple[str, ...] = (AUDIENCE,)) -> dict[str, Any]:
    """What the API server says of a token that is bound to a pod."""
    return {
        "authenticated": True,
        "audiences": list(audiences),
        "user": {
            "username": f"system:serviceaccount:{NAMESPACE}:default",
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [uid or f"uid-of-{pod}"],
            },
        },
    }


class Cluster:
    """A cluster with two pools and their nodes, and the operator's node service before it."""

    def __init__(self) -> None:
        self.api = FakeApi()
        for name, reference in (("render", "blender"), ("encode", "ffmpeg")):
            references = [{"applicationId": reference}]
            settings = [{"name": "OMP_NUM_THREADS", "value": "2"}]
            self.api.put(POOL, raw_pool(name, applicationPackageReferences=references, environmentSettings=settings))
            self.api.put(STATEFUL_SET, raw_stateful_set(name))
            self.api.put(POD, raw_pod(f"{name}-0", name))
            self.api.reviews[f"token of {name}-0"] = review(f"{name}-0")
        for application_id, version in (("blender", "2.7"), ("ffmpeg", "7.1")):
            self.api.put(APPLICATION, raw_application(application_id, version))
            self.api.put(PACKAGE, raw_package(application_id, version))
        self.operator = Operator(self.api)
        self.authority = new_authority()
        self.storage = FakeStorage()
        for blob in (f"{NAMESPACE}/blender.2.7.zip", f"{NAMESPACE}/ffmpeg.7.1.zip"):
            self.storage.blobs[blob], self.storage.sizes[blob] = ("content", "0x1"), 100
        self.changed: list[Key] = []
        self.service = NodeService(
            self.api,
            self.operator.caches,
            self.operator.dispatcher,
            limits=Limits(files=77),
            storage=cast("LinkedStorage", self.storage),
            package_changed=self.changed.append,
            packages_removed=self._packages_removed,
        )
        self.removed: list[tuple[Key, PackagesRemoved]] = []
        self.port = 0
        self.client = aiohttp.ClientSession()

    async def _packages_removed(self, node: Key, message: PackagesRemoved) -> None:
        self.removed.append((node, message))

    async def start(self) -> None:
        self.operator.start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        await self.service.start(self.port, server_context(issue(self.authority, "localhost")))

    async def stop(self) -> None:
        await self.client.close()
        await self.service.stop()
        await self.operator.kill()

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.certificate)

    def headers(self, token: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"} if token is not None else {}

    async def ask(
        self, path: str, shown: str | None = "token of render-0", body: bytes | None = None
    ) -> tuple[int, bytes]:
        method = "GET" if body is None else "POST"
        url = f"https://localhost:{self.port}{path}"
        headers = {**self.headers(shown), "Connection": "close"}
        async with self.client.request(method, url, data=body, headers=headers, ssl=self.trusting) as response:
            return response.status, await response.read()

    async def refusal(
        self, path: str, shown: str | None = "token of render-0", body: bytes | None = None
    ) -> tuple[int, Problem]:
        status, answer = await self.ask(path, shown, body)
        return status, msgspec.json.decode(answer, type=Problem)

    async def download(self, package: Package, shown: str = "token of render-0") -> tuple[int, bytes]:
        return await self.ask(DOWNLOADS_PATH, shown, msgspec.json.encode(package))

    async def connect(self, shown: str = "token of render-0") -> "Conversation":
        url = f"https://localhost:{self.port}{CONNECT_PATH}"
        return Conversation(await self.client.ws_connect(url, headers=self.headers(shown), ssl=self.trusting))

    def status(self, name: str = "frame") -> dict[str, Any]:
        found: dict[str, Any] = self.api.objects[TASK, NAMESPACE, name]["status"]
        return found


class Conversation:
    """The node's end of a connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, message: FromNode) -> None:
        await self.socket.send_str(msgspec.json.encode(message).decode())

    async def next(self) -> ToNode:
        text = await self.socket.receive_str(timeout=PATIENCE)
        message: ToNode = msgspec.json.decode(text, type=ToNode)
        return message

    async def closed(self) -> int | None:
        """Wait for its end; the code that was given."""
        await self.socket.receive(timeout=PATIENCE)
        return self.socket.close_code


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.mark.parametrize("path", [PACKAGES_PATH, CONNECT_PATH])
@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, 401),
        ("", 401),
        ("unknown", 401),
        ("for another audience", 401),
        ("of no pod", 403),
        ("of a person", 403),
        ("of a pod that is no node", 403),
        ("of a pod that was replaced", 403),
        ("of a pod that calls itself a node", 403),
        ("of a node of a stateful set that is no pool's", 403),
        ("of a pod that is gone", 403),
    ],
)
async def test_who_is_not_let_in(cluster: Cluster, path: str, token: str | None, status: int) -> None:
    reviews, api = cluster.api.reviews, cluster.api
    reviews["for another audience"] = review(audiences=("https://kubernetes.default.svc",))
    reviews["of no pod"] = review() | {"user": {"username": f"system:serviceaccount:{NAMESPACE}:default"}}
    reviews["of a person"] = review() | {"user": {"username": "jane", "extra": review()["user"]["extra"]}}
    lonely = raw_pod("lonely-0")
    lonely["metadata"]["labels"] = {}
    api.put(POD, lonely)
    reviews["of a pod that is no node"] = review("lonely-0")
    reviews["of a pod that was replaced"] = review("render-0", "uid-of-the-one-before")
    liar = raw_pod("liar-0")
    liar["metadata"]["ownerReferences"][0]["uid"] = "set-of-the-liar"
    api.put(POD, liar)
    reviews["of a pod that calls itself a node"] = review("liar-0")
    stranger = raw_stateful_set("strange")
    stranger["metadata"]["ownerReferences"][0]["uid"] = "uid-of-a-namesake"
    api.put(STATEFUL_SET, stranger)
    api.put(POOL, raw_pool("strange"))
    api.put(POD, raw_pod("strange-0", "strange"))
    reviews["of a node of a stateful set that is no pool's"] = review("strange-0")
    reviews["of a pod that is gone"] = review("gone-0")
    found, problem = await cluster.refusal(path, token)
    assert found == status
    assert problem.message


async def test_a_token_is_not_let_in_by_another_scheme(cluster: Cluster) -> None:
    url = f"https://localhost:{cluster.port}{PACKAGES_PATH}"
    headers = {"Authorization": "Basic token of render-0"}
    async with cluster.client.get(url, headers=headers, ssl=cluster.trusting) as response:
        assert response.status == 401


@pytest.mark.parametrize("path", [PACKAGES_PATH, CONNECT_PATH])
async def test_nobody_is_let_in_unchecked(cluster: Cluster, path: str) -> None:
    cluster.api.refuse = lambda method, path: ApiUnavailableError("away")
    status, problem = await cluster.refusal(path)
    assert (status, problem.code) == (503, "ServerBusy")


async def test_a_token_is_checked_once_in_a_while(cluster: Cluster) -> None:
    for _ in range(3):
        assert (await cluster.ask(PACKAGES_PATH))[0] == 200
    assert sum("tokenreviews" in path for _, path in cluster.api.requests) == 1


async def test_a_pod_that_is_deleted_is_not_let_in_by_a_token_that_was_checked(cluster: Cluster) -> None:
    assert (await cluster.ask(PACKAGES_PATH))[0] == 200
    cluster.api.remove(POD, NAMESPACE, "render-0")
    assert (await cluster.ask(PACKAGES_PATH))[0] == 403


async def test_a_node_that_the_watch_has_not_told_of(cluster: Cluster) -> None:
    """It is asked for, and what is older news then does no harm to it."""
    cluster.operator.delay = lambda: 3600.0
    cluster.api.remove(POD, NAMESPACE, "render-0")
    cluster.api.put(POD, raw_pod(uid="a-new-pod"))
    cluster.api.reviews["new token"] = review("render-0", "a-new-pod")
    assert (await cluster.ask(PACKAGES_PATH, "new token"))[0] == 200
    pod = cluster.operator.caches.pods.get((NAMESPACE, "render-0"))
    assert pod is not None
    assert pod.uid == "a-new-pod"


async def test_what_to_install(cluster: Cluster) -> None:
    status, body = await cluster.ask(PACKAGES_PATH)
    assert status == 200
    found = msgspec.json.decode(body, type=PoolPackages)
    assert [item.package for item in found.packages] == [BLENDER]
    assert found.environment["OMP_NUM_THREADS"] == "2"
    assert found.environment["AZ_BATCH_POOL_ID"] == "render"
    assert found.environment["AZ_BATCH_NODE_ID"] == "render-0"
    assert found.environment["AZ_BATCH_APP_PACKAGE_blender#2.7"].endswith(BLENDER.sha256)


async def test_what_cannot_be_installed(cluster: Cluster) -> None:
    cluster.api.remove(PACKAGE, NAMESPACE, "blender.2.7")
    status, problem = await cluster.refusal(PACKAGES_PATH)
    assert (status, problem.code) == (409, "ApplicationPackageError")
    assert problem.details[0].value == "blender:None"


async def test_leave_to_fetch_a_package_of_its_pool(cluster: Cluster) -> None:
    status, body = await cluster.download(BLENDER)
    assert status == 200
    found = msgspec.json.decode(body, type=Download)
    assert found.url.startswith("https://account.example/packhorse/team/blender.2.7.zip?")
    assert "sp=r&" in found.url + "&"
    assert (found.etag, found.size) == ("0x1", 100)
    assert found.limits is not None
    assert found.limits.files == 77


@pytest.mark.parametrize(
    "package",
    [
        FFMPEG,
        deployed("blender", "2.7", "an earlier content").package,
        deployed("blender", "3.0").package,
        Package("../other", "1", "0" * 64, 1),
    ],
)
async def test_no_leave_to_fetch_anything_else(cluster: Cluster, package: Package) -> None:
    status, body = await cluster.download(package)
    problem = msgspec.json.decode(body, type=Problem)
    assert (status, problem.code) == (403, "BlobAccessDenied")
    assert package.reference in problem.message


async def test_leave_to_fetch_a_package_of_a_task_while_it_runs_there(cluster: Cluster) -> None:
    conversation = await cluster.connect()
    await conversation.send(Hello((), ()))
    cluster.api.put(TASK, raw_task(applicationPackageReferences=[{"applicationId": "ffmpeg"}]))
    message = await conversation.next()
    assert isinstance(message, RunTask)
    assert message.packages == (FFMPEG,)
    assert (await cluster.download(FFMPEG))[0] == 200
    await conversation.send(TaskEnded(message.uid, 1, NOW, LATER, 0))
    assert await conversation.next() == TaskRecorded(message.uid, 1)
    assert (await cluster.download(FFMPEG))[0] == 403


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (NotLinked("no account is linked"), "NoLinkedStorageAccount"),
        (Unavailable("StorageThrottled", "it asks to be called less often"), "StorageThrottled"),
    ],
)
async def test_no_leave_without_an_account(cluster: Cluster, trouble: NotLinked | Unavailable, code: str) -> None:
    cluster.storage.trouble = trouble
    status, body = await cluster.download(BLENDER)
    problem = msgspec.json.decode(body, type=Problem)
    assert (status, problem.code) == (503, code)
    assert trouble.message in problem.message


@pytest.mark.parametrize(("text", "said"), [("other content", "was replaced"), (None, "is not in the storage account")])
async def test_a_blob_that_changed_is_noticed_before_a_node_gets_it(
    cluster: Cluster, text: str | None, said: str
) -> None:
    blob = f"{NAMESPACE}/blender.2.7.zip"
    if text is None:
        del cluster.storage.blobs[blob]
    else:
        cluster.storage.blobs[blob] = (text, "0x2")
    status, body = await cluster.download(BLENDER)
    problem = msgspec.json.decode(body, type=Problem)
    assert (status, problem.code) == (404, "BlobNotFound")
    assert said in problem.message
    assert cluster.changed == [(NAMESPACE, "blender.2.7")]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"applicationId": 1}'])
async def test_a_request_that_makes_no_sense(cluster: Cluster, body: bytes) -> None:
    status, problem = await cluster.refusal(DOWNLOADS_PATH, body=body)
    assert (status, problem.code) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    "first",
    ["", "hello", "{}", '{"type": "hello"}', msgspec.json.encode(TaskStarted("u", 1, NOW)).decode()],
)
async def test_hello_must_come_first(cluster: Cluster, first: str) -> None:
    conversation = await cluster.connect()
    await conversation.socket.send_str(first)
    assert await conversation.closed() == 1002
    assert cluster.operator.dispatcher.presence((NAMESPACE, "render")) == {}


async def until(happens: asyncio.Event) -> None:
    await asyncio.wait_for(happens.wait(), PATIENCE)


async def test_a_conversation(cluster: Cluster) -> None:
    conversation = await cluster.connect()
    await conversation.send(Hello((deployed("blender", "2.7"),), ()))
    raw = raw_task(commandLine="echo hello")
    cluster.api.put(TASK, raw)
    message = await conversation.next()
    assert isinstance(message, RunTask)
    assert (message.uid, message.command_line) == (raw["metadata"]["uid"], "echo hello")
    assert message.environment["AZ_BATCH_APP_PACKAGE_blender_2_7"].endswith(BLENDER.sha256)
    assert cluster.status()["state"] == "running"
    assert cluster.operator.dispatcher.presence((NAMESPACE, "render"))["render-0"].running == 1
    for nonsense in ("", "{}", '{"type": "somethingNew"}', json.dumps({"type": "hello", "packages": [], "tasks": []})):
        await conversation.socket.send_str(nonsense)
    await conversation.send(TaskEnded(message.uid, 1, NOW, LATER, 3, stdout="hello\n"))
    assert await conversation.next() == TaskRecorded(message.uid, 1)
    assert cluster.status()["executionInfo"]["exitCode"] == 3
    assert cluster.status()["output"]["stdout"] == "hello\n"


async def test_the_end_of_a_conversation(cluster: Cluster) -> None:
    gone = asyncio.Event()
    conversation = await cluster.connect()
    await conversation.send(Hello((), ()))
    cluster.api.put(TASK, raw_task())
    await conversation.next()
    original = cluster.operator.dispatcher.disconnected

    def disconnected(session: Any) -> None:
        original(session)
        gone.set()

    cluster.operator.dispatcher.disconnected = disconnected  # type: ignore[method-assign]
    await conversation.socket.close()
    await until(gone)
    assert cluster.operator.dispatcher.presence((NAMESPACE, "render")) == {}
    assert cluster.status()["state"] == "running"


async def test_of_two_connections_of_a_node_the_newer_counts(cluster: Cluster) -> None:
    first = await cluster.connect()
    await first.send(Hello((), ()))
    cluster.api.put(TASK, raw_task("one"))
    running = await first.next()
    assert isinstance(running, RunTask)
    second = await cluster.connect()
    await second.send(Hello((), ()))
    again = await second.next()
    assert again == running
    await second.send(TaskEnded(again.uid, 1, NOW, LATER, 0))
    assert await second.next() == TaskRecorded(again.uid, 1)
    await first.socket.close()
    cluster.api.put(TASK, raw_task("two"))
    message = await second.next()
    assert isinstance(message, RunTask)
    assert message.name == "two"


async def test_the_service_ends_and_says_so(cluster: Cluster) -> None:
    conversation = await cluster.connect()
    await conversation.send(Hello((), ()))
    cluster.api.put(TASK, raw_task())
    await conversation.next()
    closing = asyncio.create_task(conversation.closed())
    await cluster.service.stop()
    assert await closing == 1001


async def test_a_pool_of_the_same_name_is_another_pool(cluster: Cluster) -> None:
    """The nodes of the one before are no nodes of it."""
    raw = raw_pool(applicationPackageReferences=[{"applicationId": "ffmpeg"}])
    raw["metadata"]["uid"] = "uid-of-another"
    assert Pool.model_validate(raw).metadata.uid == "uid-of-another"
    cluster.api.put(POOL, raw)
    assert (await cluster.ask(PACKAGES_PATH))[0] == 403
