"""The client against a server that answers as an API server does."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from kubernetes.aio.client import ApiClient, Configuration

from packhorse.cluster.client import (
    CONFIG_MAP,
    POD,
    STATEFUL_SET,
    TOKEN_REVIEW,
    ApiError,
    ApiUnavailableError,
    Client,
    Kind,
    as_yaml,
    kind_of,
)
from packhorse.model import Task

TASK = kind_of(Task)
BODY = {"metadata": {"namespace": "team", "name": "frame"}, "spec": {}}


@dataclass
class Request:
    """What the server was asked."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    authorization: str
    body: Any


@dataclass
class Server:
    """An API server that gives the answers it is told.

    Attributes:
        answer: Makes the answer to a request: status and body.
        delay: Set when the server shall never answer.
    """

    answer: Callable[[Request], tuple[int, Any]] = lambda request: (200, {})
    silent: bool = False
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        found = Request(
            request.method,
            request.path,
            dict(request.query),
            request.headers.get("Content-Type", ""),
            request.headers.get("Authorization", ""),
            json.loads(text) if text else None,
        )
        self.requests.append(found)
        if self.silent:
            await self.ended.wait()
        status, body = self.answer(found)
        return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    server.ended.set()
    await runner.cleanup()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    configuration = Configuration(host=f"http://127.0.0.1:{server.port}")
    configuration.api_key["BearerToken"] = "Bearer secret"
    client = Client(ApiClient(configuration), timeout=5.0)
    yield client
    await client.close()


def only(server: Server) -> Request:
    (request,) = server.requests
    return request


@pytest.mark.parametrize(
    ("kind", "arguments", "path"),
    [
        (POD, ("team", "a"), "/api/v1/namespaces/team/pods/a"),
        (POD, (), "/api/v1/pods"),
        (TASK, ("team",), "/apis/packhorse.dev/v1alpha1/namespaces/team/tasks"),
        (TASK, ("team", "a", "status"), "/apis/packhorse.dev/v1alpha1/namespaces/team/tasks/a/status"),
        (STATEFUL_SET, ("team", "a"), "/apis/apps/v1/namespaces/team/statefulsets/a"),
        (TOKEN_REVIEW, (None,), "/apis/authentication.k8s.io/v1/tokenreviews"),
    ],
)
def test_paths(kind: Kind, arguments: tuple[str, ...], path: str) -> None:
    assert kind.path(*arguments) == path


async def test_get(server: Server, client: Client) -> None:
    server.answer = lambda request: (200, {"kind": "Task", "name": "\N{SNOWMAN}"})
    assert await client.get(TASK, "team", "frame") == {"kind": "Task", "name": "\N{SNOWMAN}"}
    assert (only(server).method, only(server).path) == ("GET", TASK.path("team", "frame"))
    assert only(server).authorization == "Bearer secret"


async def test_find(server: Server, client: Client) -> None:
    server.answer = lambda request: (404, {"reason": "NotFound", "message": "not found"})
    assert await client.find(TASK, "team", "frame") is None
    server.answer = lambda request: (403, {"reason": "Forbidden", "message": "no"})
    with pytest.raises(ApiError):
        await client.find(TASK, "team", "frame")


async def test_list_page_by_page(server: Server, client: Client) -> None:
    pages = {
        None: ([{"n": 1}, {"n": 2}], "t1"),
        "t1": ([], "t2"),
        "t2": ([{"n": 3}], ""),
    }

    def answer(request: Request) -> tuple[int, Any]:
        items, token = pages[request.query.get("continue")]
        return 200, {"items": items, "metadata": {"continue": token} if token else {}}

    server.answer = answer
    assert [item["n"] async for item in client.list(POD, "team", "packhorse.dev/pool")] == [1, 2, 3]
    assert len(server.requests) == 3
    for request in server.requests:
        assert request.path == "/api/v1/namespaces/team/pods"
        assert request.query["labelSelector"] == "packhorse.dev/pool"
        assert int(request.query["limit"]) > 0


async def test_a_list_that_breaks_off_is_no_short_list(server: Server, client: Client) -> None:
    def answer(request: Request) -> tuple[int, Any]:
        if "continue" in request.query:
            return 410, {"reason": "Expired", "message": "too old"}
        return 200, {"items": [{"n": 1}], "metadata": {"continue": "t1"}}

    server.answer = answer
    items = client.list(POD)
    assert await anext(items) == {"n": 1}
    with pytest.raises(ApiError, match="too old"):
        await anext(items)


async def test_create(server: Server, client: Client) -> None:
    await client.create(TASK, "team", BODY)
    request = only(server)
    assert (request.method, request.path, request.body) == ("POST", TASK.path("team"), BODY)
    assert (request.query, request.content_type) == ({"fieldManager": "packhorse"}, "application/json")


async def test_apply(server: Server, client: Client) -> None:
    await client.apply(CONFIG_MAP, BODY)
    request = only(server)
    assert (request.method, request.path, request.body) == ("PATCH", CONFIG_MAP.path("team", "frame"), BODY)
    assert request.query == {"fieldManager": "packhorse", "force": "true"}
    assert request.content_type == "application/apply-patch+yaml; charset=utf-8"


@given(
    st.dictionaries(
        st.text(max_size=20), st.text() | st.lists(st.sampled_from(["\\", "\\ud83d", "\U0001f600", '"', "\\\\"]))
    )
)
@example({"note": "\U0001f600 \\ud83d\\ude00 \\"})
def test_what_is_applied_is_yaml(body: dict[str, Any]) -> None:
    """JSON's escapes for characters beyond 16 bits are none in YAML."""
    assert yaml.safe_load(as_yaml(body)) == body


async def test_patch(server: Server, client: Client) -> None:
    await client.patch(TASK, "team", "frame", {"status": {"a": None}}, subresource="status")
    request = only(server)
    assert (request.method, request.path) == ("PATCH", TASK.path("team", "frame", "status"))
    assert (request.body, request.content_type) == ({"status": {"a": None}}, "application/merge-patch+json")


@pytest.mark.parametrize(
    ("uid", "answer", "passes"),
    [
        (None, (200, {}), True),
        (None, (404, {"reason": "NotFound"}), True),
        ("u", (409, {"reason": "Conflict"}), True),
        (None, (409, {"reason": "Conflict"}), False),
        (None, (403, {"reason": "Forbidden"}), False),
    ],
)
async def test_delete(server: Server, client: Client, uid: str | None, answer: tuple[int, Any], passes: bool) -> None:
    server.answer = lambda request: answer
    if passes:
        await client.delete(TASK, "team", "frame", uid=uid)
    else:
        with pytest.raises(ApiError):
            await client.delete(TASK, "team", "frame", uid=uid)
    assert only(server).method == "DELETE"
    assert only(server).body.get("preconditions") == ({"uid": uid} if uid else None)


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),  # of the answer; then of the error
    [
        (409, {"reason": "AlreadyExists", "message": 'tasks "a" already exists'}, "AlreadyExists", "already exists"),
        (422, {"reason": "Invalid", "message": "spec: wrong", "details": {}}, "Invalid", "spec: wrong"),
        (500, b"<html>oops</html>", "", "oops"),
        (502, b"", "", "502"),
        (400, ["odd"], "", "odd"),
    ],
)
async def test_errors(server: Server, client: Client, *, status: int, body: Any, reason: str, said: str) -> None:
    server.answer = lambda request: (status, body)
    with pytest.raises(ApiError, match=said) as caught:
        await client.get(TASK, "team", "frame")
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert caught.value.not_found is False


async def test_nobody_answers(server: Server) -> None:
    configuration = Configuration(host="http://127.0.0.1:1")
    client = Client(ApiClient(configuration))
    try:
        with pytest.raises(ApiUnavailableError, match=r"GET /api/v1/pods"):
            async for _ in client.list(POD):
                pass
    finally:
        await client.close()


async def test_no_answer_in_time(server: Server) -> None:
    server.silent = True
    client = Client(ApiClient(Configuration(host=f"http://127.0.0.1:{server.port}")), timeout=0.05)
    try:
        with pytest.raises(ApiUnavailableError, match="TimeoutError"):
            await client.get(TASK, "team", "frame")
    finally:
        await client.close()
