"""The node service: what nodes may ask of the operator, over TLS.

A node is known by its token: bound to its pod by Kubernetes, good for this service alone, and checked by TokenReview.
It is told of its own pool's packages and its own tasks' only.
"""

import asyncio
import hashlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from packhorse.archive import Limits
from packhorse.cluster.cache import Key
from packhorse.cluster.client import POD, TOKEN_REVIEW, ApiError, ApiUnavailableError, Client
from packhorse.domain import azure
from packhorse.domain.environment import node_variables, package_variables
from packhorse.domain.packages import Blob, Missing
from packhorse.domain.podstate import Pod, observe_pod
from packhorse.domain.pools import fingerprint, resolve_pool, start_task
from packhorse.model import ApplicationPackage, Pool
from packhorse.operator.caches import Caches
from packhorse.operator.dispatcher import Dispatcher
from packhorse.operator.sessions import Session
from packhorse.operator.storage import LinkedStorage
from packhorse.protocol import (
    AUDIENCE,
    CONNECT_PATH,
    DOWNLOADS_PATH,
    PACKAGES_PATH,
    Download,
    DownloadLimits,
    FromNode,
    Hello,
    NodeProblem,
    Package,
    PackagesRemoved,
    PoolPackages,
    Problem,
    StartTaskChanged,
    TaskEnded,
    TaskStarted,
)
from packhorse.storage.errors import NotLinkedError, UnavailableError

_log = logging.getLogger(__name__)

TRUST = 60.0
"""Seconds for which a checked token is believed without asking again."""
LONGEST_MESSAGE = 1 << 20
HEARTBEAT = 15.0
"""Seconds between pings; a node that does not answer is disconnected."""

_decode_message = msgspec.json.Decoder(FromNode).decode
_decode_package = msgspec.json.Decoder(Package).decode


@dataclass(frozen=True)
class Caller:
    """A node that has shown who it is."""

    pod: Pod
    pool: Pool

    @property
    def node(self) -> Key:
        """Namespace and name."""
        return self.pod.namespace, self.pod.name


class _RefusedError(Exception):
    """Answer a request with this status and problem."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(problem.cause)
        self.status = status
        self.problem = problem


def _refused(status: int, code: str, message: str) -> _RefusedError:
    return _RefusedError(status, Problem(code, message))


class NodeService:
    """Serves nodes.

    Args:
        client: To ask whose a token is.
        caches: What there is.
        dispatcher: Who gives tasks to nodes.
        storage: Where packages lie.
        limits: How much a package may hold.
        packages_removed: To be called where a node removed packages to make room.
        package_changed: To be called where a package's blob is found to be another one than was activated.
    """

    def __init__(
        self,
        client: Client,
        caches: Caches,
        dispatcher: Dispatcher,
        *,
        storage: LinkedStorage,
        limits: Limits,
        package_changed: Callable[[Key], None],
        packages_removed: Callable[[Key, PackagesRemoved], Awaitable[None]],
    ) -> None:
        self._packages_removed = packages_removed
        self._limits = DownloadLimits(limits.files, limits.file_size, limits.total_size, limits.ratio)
        self._package_changed = package_changed
        self._client = client
        self._caches = caches
        self._dispatcher = dispatcher
        self._storage = storage
        self._trusted: dict[bytes, tuple[float, Key, str]] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int, context: ssl.SSLContext) -> None:
        """Listen on all addresses of the pod."""
        application = web.Application()
        application.router.add_get(PACKAGES_PATH, self._answer(self._packages))
        application.router.add_post(DOWNLOADS_PATH, self._answer(self._download))
        application.router.add_get(CONNECT_PATH, self._answer(self._connect))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port, ssl_context=context).start()

    async def stop(self) -> None:
        """Close all connections; the nodes come back to whoever serves next."""
        for socket in tuple(self._sockets):
            await socket.close(code=1001, message=b"the operator stops")
        if self._runner is not None:
            await self._runner.cleanup()

    def _answer(self, ask: Any) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                answer = await ask(await self._caller(request), request)
            except _RefusedError as refusal:
                return _json(refusal.problem, refusal.status)
            except (ApiError, ApiUnavailableError) as error:
                _log.warning("%s: %s", request.path, error)
                return _json(Problem("ServerBusy", "the Kubernetes API does not answer; try again"), 503)
            return answer if isinstance(answer, web.StreamResponse) else _json(answer, 200)

        return handler

    async def _packages(self, caller: Caller, _request: web.Request) -> PoolPackages:
        catalog = self._caches.catalog(caller.pod.namespace)
        resolution = resolve_pool(caller.pool, catalog)
        if resolution.packages is None:
            raise _RefusedError(
                409, resolution.problem or Problem(azure.APPLICATION_PACKAGE_ERROR, azure.INVALID_FOR_POOL)
            )
        environment = {setting.name: setting.value for setting in caller.pool.spec.environment_settings}
        environment |= node_variables(caller.pod.pool, caller.pod.name)
        environment |= package_variables(resolution.packages, catalog.defaults(resolution.packages))
        return PoolPackages(resolution.packages, environment, start_task(caller.pool), fingerprint(caller.pool))

    async def _download(self, caller: Caller, request: web.Request) -> Download:
        try:
            wanted = _decode_package(await request.read())
        except msgspec.DecodeError as error:
            raise _refused(400, "InvalidRequest", f"the request is no package: {error}") from error
        catalog = self._caches.catalog(caller.pod.namespace)
        resolution = resolve_pool(caller.pool, catalog)
        allowed = {item.package for item in resolution.packages or ()} | self._dispatcher.packages_for(caller.node)
        if wanted not in allowed:
            raise _refused(
                403,
                "BlobAccessDenied",
                f"neither the pool '{caller.pod.pool}' nor a task on node '{caller.pod.name}' refers to"
                f" {wanted.reference} with this content now",
            )
        package = catalog.find(wanted)
        if package is None or package.status.etag is None or package.status.blob is None:
            raise _refused(404, "BlobNotFound", f"{wanted.reference} is not active any more, or was replaced")
        return await self._signed(package, package.status.blob, package.status.etag)

    async def _signed(self, package: ApplicationPackage, blob: str, etag: str) -> Download:
        """Leave to read an active package's blob, if it is still the one that was activated."""
        namespace, name = package.key
        seen = await self._storage.look(namespace, blob, 0.0)
        if isinstance(seen, Missing) or (isinstance(seen, Blob) and seen.etag != etag):
            self._package_changed(package.key)
            what = "is not in the storage account any more" if isinstance(seen, Missing) else "was replaced"
            raise _refused(404, "BlobNotFound", f"the blob '{blob}' {what}; see ApplicationPackage {name}")
        if not isinstance(seen, Blob):
            raise _refused(503, getattr(seen, "reason", "NoLinkedStorageAccount"), seen.message)
        try:
            url = await self._storage.readable(namespace, blob)
        except NotLinkedError as error:
            raise _refused(503, "NoLinkedStorageAccount", str(error)) from error
        except UnavailableError as error:
            raise _refused(503, error.reason, str(error)) from error
        return Download(url, etag, seen.size, self._limits)

    async def _connect(self, caller: Caller, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=LONGEST_MESSAGE)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await self._converse(caller, socket)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _converse(self, caller: Caller, socket: web.WebSocketResponse) -> None:
        """From hello to the end of the connection."""
        hello = await socket.receive()
        message = _read(hello.data) if hello.type is WSMsgType.TEXT else None
        if not isinstance(message, Hello):
            await socket.close(code=1002, message=b"the first message must be a hello")
            return
        session = Session(caller.node, caller.pod.uid, message)
        writer = asyncio.create_task(session.write(socket))
        _log.info("node %s/%s: connected, %d task(s)", *caller.node, len(message.tasks))
        self._dispatcher.connected(session, caller.pod)
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    await self._handle(session, _read(frame.data))
        finally:
            writer.cancel()
            self._dispatcher.disconnected(session)
            _log.info("node %s/%s: disconnected", *caller.node)

    async def _handle(self, session: Session, message: FromNode | None) -> None:
        match message:
            case TaskEnded():
                self._dispatcher.task_ended(session, message)
            case TaskStarted():
                self._dispatcher.task_started(session, message)
            case StartTaskChanged() | NodeProblem():
                session.hear(message)
                self._dispatcher.node_changed(session)
            case PackagesRemoved():
                await self._packages_removed(session.node, message)
            case _:
                _log.warning("node %s/%s: a message that makes no sense here was passed over", *session.node)

    async def _caller(self, request: web.Request) -> Caller:
        """Who asks: the pod that the token is bound to, if it is a node of a pool of ours."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise _refused(401, "Unauthenticated", "a request needs the node's token")
        node, uid = await self._review(token)
        pod = self._caches.pods.get(node)
        raw = None
        if pod is None or pod.uid != uid:
            raw = await self._client.find(POD, *node)
            pod = observe_pod(raw) if raw is not None else None
        node_set = self._caches.node_sets.get((node[0], pod.pool)) if pod is not None else None
        pool = self._caches.pools.get((node[0], pod.pool)) if pod is not None else None
        if pod is None or pod.uid != uid or node_set is None or pool is None:
            raise _refused(403, "Forbidden", f"pod {node[0]}/{node[1]} is no node of a pool")
        if pod.owner_uid != node_set.uid or node_set.pool_uid != pool.metadata.uid:
            raise _refused(403, "Forbidden", f"pod {node[0]}/{node[1]} does not belong to pool '{pod.pool}'")
        if raw is not None:
            self._caches.pods.put(raw)  # before the watch tells: older news of its namesake must not count any more
        return Caller(pod, pool)

    async def _review(self, token: str) -> tuple[Key, str]:
        """The pod that a token is bound to: namespace and name, and uid."""
        digest = hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        self._trusted = {key: entry for key, entry in self._trusted.items() if entry[0] > now}
        if digest in self._trusted:
            _, node, uid = self._trusted[digest]
            return node, uid
        body = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = (await self._client.create(TOKEN_REVIEW, None, body))["status"]
        if not status.get("authenticated") or AUDIENCE not in status.get("audiences", ()):
            raise _refused(401, "Unauthenticated", "the token is not valid for the node service")
        user = status["user"]
        extra = user.get("extra", {})
        namespace = user["username"].split(":")[2] if user["username"].startswith("system:serviceaccount:") else ""
        names = extra.get("authentication.kubernetes.io/pod-name", ())
        uids = extra.get("authentication.kubernetes.io/pod-uid", ())
        if not (namespace and names and uids):
            raise _refused(403, "Forbidden", "the token is not bound to a pod")
        self._trusted[digest] = (now + TRUST, (namespace, names[0]), uids[0])
        return (namespace, names[0]), uids[0]


def _read(data: str) -> FromNode | None:
    try:
        message: FromNode = _decode_message(data)
    except msgspec.DecodeError:
        return None
    return message


def _json(body: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
