"""An API server for the command line to talk to: enough of one, on loopback, in a thread.

It keeps objects, lists them in pages, watches, applies and merges; runs what is executed in node ``render-0`` for real,
below a folder of this machine; and passes blobs on to a storage account of its own. What the operator would
do, tests say by ``react``.
"""

import asyncio
import base64
import copy
import http
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web

from tests.unit.cli.fake_storage import Counter, FakeStorage

Json = dict[str, Any]
Key = tuple[str, str]
Reaction = Callable[["FakeCluster", str, Json], None]

NODE = "render-0"
PROXY = "/api/v1/namespaces/packhorse-system/services/https:packhorse-azurite:10000/proxy"
ROOT = "/mnt/batch/tasks"
_APIS = ("/apis/packhorse.dev/v1alpha1", "/api/v1")
_BUSYBOX = '#!/bin/sh\nexec "$@"\n'


class FakeCluster:
    """One namespace of a cluster.

    Attributes:
        folder: What stands for the nodes' ``/mnt/batch/tasks``.
        requests: Method and path of everything that was asked.
        storage: The storage account inside the cluster.
        refusals: What to answer instead, by method and plural name.
        page: How many objects a list gives at once.
        token: What the Authorization header has to say; None asks for nothing.
        proxy_allowed: Whether the user may reach the storage account through the API server.
        node_runs: Whether the container of the node is up.
        cut_after: Bytes after which the next executions lose their connection, one entry each.
        on_watch: What to do once when a watch begins, one entry each time.
        on_get: What to do once before one of these objects is given, by plural name, one entry each time.
        executed: How many commands were begun on nodes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str]] = []
        self.storage = FakeStorage()
        self.refusals: dict[Key, tuple[int, Json | str]] = {}
        self.page = 500
        self.token: str | None = None
        self.proxy_allowed = True
        self.node_runs = True
        self.cut_after: list[int] = []
        self.on_watch: list[Callable[[FakeCluster], None]] = []
        self.on_get: dict[str, list[Callable[[FakeCluster], None]]] = {}
        self.executed = Counter()
        self._reactions: list[Reaction] = []
        self._objects: dict[Key, Json] = {}
        self._events: list[tuple[int, str, str, Json]] = []
        self._version = 0
        self._oldest = 0
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._busybox = folder / ".packhorse/bin/busybox"
        self._busybox.parent.mkdir(parents=True)
        self._busybox.write_text(_BUSYBOX)
        self._busybox.chmod(0o755)
        self.port = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    # --- for tests ------------------------------------------------------------------------------------------------

    def __enter__(self) -> "FakeCluster":
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def react(self, reaction: Reaction) -> None:
        """Call this with each object that a client wrote, and its plural name."""
        self._reactions.append(reaction)

    def put(self, plural: str, name: str, **fields: Any) -> None:
        """Create an object or replace it."""
        with self._lock:
            kind = "ADDED" if (plural, name) not in self._objects else "MODIFIED"
            metadata = {"namespace": "default", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
            metadata |= fields.pop("metadata", {}) | {"name": name}
            self._store(kind, plural, {"metadata": metadata, **fields})

    def update(self, plural: str, name: str, **fields: Any) -> None:
        """Merge fields into an object, as the operator does."""
        with self._lock:
            item = copy.deepcopy(self._objects[plural, name])
            _merge(item, fields)
            self._store("MODIFIED", plural, item)

    def remove(self, plural: str, name: str) -> None:
        with self._lock:
            self._record("DELETED", plural, self._objects.pop((plural, name)))

    def find(self, plural: str, name: str) -> Json | None:
        with self._lock:
            return copy.deepcopy(self._objects.get((plural, name)))

    def forget(self) -> None:
        """Forget what happened up to now: watches from before are answered 410 Gone."""
        with self._lock:
            self._oldest = self._version

    # --- the objects ----------------------------------------------------------------------------------------------

    def _store(self, kind: str, plural: str, item: Json) -> Json:
        self._objects[plural, item["metadata"]["name"]] = item
        self._record(kind, plural, item)
        return item

    def _record(self, kind: str, plural: str, item: Json) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, plural, copy.deepcopy(item)))
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _written(self, plural: str, item: Json) -> web.Response:
        answer = _json(copy.deepcopy(item))
        for reaction in self._reactions:
            reaction(self, plural, copy.deepcopy(item))
        return answer

    # --- the server -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        # Watches that nobody listens to any more, connections that were made last, and what these begin as they end.
        while (left := asyncio.all_tasks(self._loop)) or self._server.connections:
            for task in left:
                task.cancel()
            for connection in self._server.connections:
                connection.force_close()
            self._loop.run_until_complete(asyncio.gather(asyncio.sleep(0), *left, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        assert runner.server
        self._server = runner.server
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refused(http.HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")
        if request.path.startswith(PROXY):
            return await self._storage(request)
        api = next((api for api in _APIS if request.path.startswith(f"{api}/namespaces/default/")), None)
        if api is None:
            return web.Response(status=404, text="404 page not found")
        plural, *rest = request.path.removeprefix(f"{api}/namespaces/default/").split("/")
        if refusal := self.refusals.get((request.method, plural)):
            status, body = refusal
            return _json(body, status) if isinstance(body, dict) else web.Response(status=status, text=body)
        if rest[1:] == ["exec"]:
            return await self._exec(request, rest[0])
        if rest:
            return await self._one(request, plural, *rest)
        if "watch" in request.query:
            return await self._watch(request, plural)
        return await self._many(request, plural)

    async def _many(self, request: web.Request, plural: str) -> web.Response:
        if request.method == "POST":
            item = await request.json()
            name = item["metadata"]["name"]
            with self._lock:
                if (plural, name) in self._objects:
                    return _refused(409, "AlreadyExists", f'{plural}.packhorse.dev "{name}" already exists')
                return self._written(plural, self._store("ADDED", plural, item))
        with self._lock:
            found = self._chosen(request, plural)
            start = int(request.query.get("continue", 0))
            more = {"continue": str(start + self.page)} if len(found) > start + self.page else {}
            metadata = {"resourceVersion": str(self._version), **more}
            return _json({"metadata": metadata, "items": found[start : start + self.page]})

    def _chosen(self, request: web.Request, plural: str) -> list[Json]:
        return [
            copy.deepcopy(item)
            for (kind, _), item in sorted(self._objects.items())
            if kind == plural and _matches(request, item)
        ]

    async def _one(self, request: web.Request, plural: str, name: str, subresource: str = "") -> web.Response:
        if subresource == "scale":
            return await self._scale(request, plural, name)
        if request.method == "GET" and self.on_get.get(plural):
            self.on_get[plural].pop(0)(self)
        with self._lock:
            item = copy.deepcopy(self._objects.get((plural, name)))
        if request.method == "PATCH":
            body = json.loads(await request.read())
            applied = request.content_type == "application/apply-patch+yaml"
            if item is None and not applied:
                return _missing(plural, name)
            with self._lock:
                kind = "MODIFIED" if item else "ADDED"
                item = item or {"metadata": {"namespace": "default", "generation": 1}}
                changed = copy.deepcopy(item)
                _merge(changed, body)
                if "dryRun" in request.query:
                    return _json(changed)
                item = changed
                return self._written(plural, self._store(kind, plural, item))
        if request.method == "DELETE" and item is not None:
            return await self._delete(request, plural, item)
        return _json(item) if item else _missing(plural, name)

    async def _scale(self, request: web.Request, plural: str, name: str) -> web.Response:
        """The scale subresource of a pool: its replicas are the target."""
        body = json.loads(await request.read())
        with self._lock:
            item = copy.deepcopy(self._objects.get((plural, name)))
            if item is None:
                return _missing(plural, name)
            _merge(item, {"spec": {"targetNodes": body["spec"]["replicas"]}})
            item["metadata"]["generation"] += 1
            self._written(plural, self._store("MODIFIED", plural, item))
            return _json({"kind": "Scale", "metadata": item["metadata"], "spec": body["spec"]})

    async def _delete(self, request: web.Request, plural: str, item: Json) -> web.Response:
        """At once, or marked where a finalizer holds it: then a reaction has to take it away."""
        body = await request.read()
        wanted = json.loads(body)["preconditions"]["resourceVersion"] if body else None
        if wanted not in {None, item["metadata"]["resourceVersion"]}:
            return _refused(409, "Conflict", "the object has been modified")
        with self._lock:
            if item["metadata"].get("finalizers"):
                item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                return self._written(plural, self._store("MODIFIED", plural, item))
            self.remove(plural, item["metadata"]["name"])
            return _json({"kind": "Status", "status": "Success"})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        # A heartbeat of its own, so that the client has the beginning of an answer before anything happens.
        await response.write(b"\n")
        while self.on_watch:
            self.on_watch.pop(0)(self)
        deadline = self._loop.time() + float(request.query["timeoutSeconds"])
        while True:
            with self._lock:
                if version < self._oldest:
                    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                    await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
                    return response
                events = [event for event in self._events if event[0] > version and event[2] == plural]
                changed = self._changed
            for number, kind, _, item in events:
                version = number
                if _matches(request, item):
                    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
            try:
                await asyncio.wait_for(changed.wait(), deadline - self._loop.time())
            except TimeoutError:
                return response

    # --- a node ---------------------------------------------------------------------------------------------------

    async def _exec(self, request: web.Request, pod: str) -> web.StreamResponse:
        if pod != NODE:
            return _missing("pods", pod)
        self.executed.add()
        status: Json
        cut = self.cut_after.pop(0) if self.cut_after else None
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        command = [word.replace(ROOT, str(self.folder)) for word in request.query.getall("command")]
        stdin = request.query["stdin"] == "1"
        if not self.node_runs:
            status = {"status": "Failure", "message": 'container not found ("node")', "code": 500}
            await socket.send_bytes(b"\3" + json.dumps(status).encode())
            await socket.close()
            return socket
        process = await asyncio.create_subprocess_exec(
            *command, stdout=-1, stderr=-1, stdin=-1 if stdin else asyncio.subprocess.DEVNULL
        )
        for channel in (b"\1", b"\2", b"\3"):
            await socket.send_bytes(channel)
        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            asyncio.create_task(_pump(process.stdout, socket, b"\1", cut)),
            asyncio.create_task(_pump(process.stderr, socket, b"\2", None)),
        ]
        listener = asyncio.create_task(socket.receive())
        output = asyncio.create_task(_all(pumps))
        await asyncio.wait([output, listener], return_when="FIRST_COMPLETED")
        if process.stdin:
            process.stdin.close()
        code = await process.wait()
        await output
        if not socket.closed and not listener.done():
            status = {"status": "Success"}
            if code:
                cause = {"reason": "ExitCode", "message": str(code)}
                status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
            await socket.send_bytes(b"\3" + json.dumps(status).encode())
        listener.cancel()
        await socket.close()
        return socket

    # --- the storage account --------------------------------------------------------------------------------------

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        if not self.proxy_allowed:
            return _refused(http.HTTPStatus.FORBIDDEN, "Forbidden", 'services "packhorse-azurite" is forbidden')
        return await self.storage.answer(request, request.path.removeprefix(PROXY))


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _pump(source: asyncio.StreamReader, socket: web.WebSocketResponse, channel: bytes, cut: int | None) -> None:
    sent = 0
    while data := await source.read(1 << 15):
        if socket.closed:
            continue  # nobody listens, but a full pipe would keep the command from its end
        if cut is not None and sent + len(data) > cut:
            await socket.send_bytes(channel + data[: cut - sent])
            await socket.close(code=WSCloseCode.INTERNAL_ERROR)
            continue
        await socket.send_bytes(channel + data)
        sent += len(data)


def _matches(request: web.Request, item: Json) -> bool:
    labels = item["metadata"].get("labels", {})
    wanted = [pair.split("=") for pair in request.query.get("labelSelector", "").split(",") if pair]
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    return all(labels.get(key) == value for key, value in wanted) and name in {"", item["metadata"]["name"]}


def _merge(item: Json, patch: Json) -> None:
    for key, value in patch.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict) and isinstance(item.get(key), dict):
            _merge(item[key], value)
        else:
            item[key] = value


def _json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def _refused(status: int, reason: str, message: str) -> web.Response:
    return _json({"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}, status)


def _missing(plural: str, name: str) -> web.Response:
    details = {"name": name, "kind": plural}
    message = f'{plural} "{name}" not found'
    return _json({"kind": "Status", "reason": "NotFound", "message": message, "details": details, "code": 404}, 404)


def secret(url: str, proxy_path: str | None = None, **more: str) -> Json:
    """The data of a Secret that gives leave to a blob."""
    data = {"url": url, **more} | ({"proxyPath": proxy_path} if proxy_path else {})
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
