"""A node service in miniature, over TLS by an authority of the operator's kind."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web

from packhorse.node.service import Address
from packhorse.operator.authority import KeyPair, issue, new_authority, server_context
from packhorse.protocol import (
    CONNECT_PATH,
    DOWNLOADS_PATH,
    PACKAGES_PATH,
    Download,
    FromNode,
    Package,
    PoolPackages,
    Problem,
    ToNode,
)

PATIENCE = 30.0
"""Seconds until something that does not happen fails a test."""
TOKEN = "a-token"


class NodeService:
    """What a node asks of the operator, and a test's place at the other end of the connection.

    Attributes:
        packages: The answer to the question what to install.
        downloads: Leave to fetch, by version; what is not in here is refused.
        hellos: How many connections there were.
        refuse: Whether connections are refused.
    """

    def __init__(self) -> None:
        self.authority: KeyPair = new_authority()
        self.packages: PoolPackages | tuple[int, bytes] = PoolPackages((), {})
        self.downloads: dict[str, Download] = {}
        self.hellos = 0
        self.refuse = False
        self.asked: list[str] = []
        self.port = 0
        self._messages: asyncio.Queue[FromNode] = asyncio.Queue()
        self._socket: web.WebSocketResponse | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """What a node checks the service by."""
        return ssl.create_default_context(cadata=self.authority.certificate)

    def address(self, folder: Path) -> Address:
        """The service for a node; the token lies in the folder."""
        (folder / "token").write_text(f"{TOKEN}\n")
        return Address(f"localhost:{self.port}", folder / "token")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["NodeService"]:
        application = web.Application()
        application.router.add_get(PACKAGES_PATH, self._packages)
        application.router.add_post(DOWNLOADS_PATH, self._download)
        application.router.add_get(CONNECT_PATH, self._connect)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        context = server_context(issue(self.authority, "localhost"))
        site = web.TCPSite(runner, host="localhost", port=0, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await self.hang_up()
            async with asyncio.timeout(PATIENCE):
                # until the clients' closing arrives; aiohttp tells nobody
                while runner.server is not None and runner.server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await runner.cleanup()

    async def next(self) -> FromNode:
        """The next message of the node."""
        async with asyncio.timeout(PATIENCE):
            return await self._messages.get()

    @property
    def silent(self) -> bool:
        """Whether every message was taken."""
        return self._messages.empty()

    async def send(self, message: ToNode) -> None:
        assert self._socket is not None
        await self._socket.send_str(msgspec.json.encode(message).decode())

    async def send_text(self, text: str) -> None:
        assert self._socket is not None
        await self._socket.send_str(text)

    async def hang_up(self) -> None:
        """Break the connection off."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    def _check(self, request: web.Request) -> None:
        self.asked.append(request.path)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized

    async def _packages(self, request: web.Request) -> web.Response:
        self._check(request)
        if isinstance(self.packages, tuple):
            return _answer(*self.packages)
        return _answer(200, msgspec.json.encode(self.packages))

    async def _download(self, request: web.Request) -> web.Response:
        self._check(request)
        package = msgspec.json.decode(await request.read(), type=Package)
        found = self.downloads.get(package.version)
        if found is None:
            problem = Problem("BlobAccessDenied", f"{package.reference} is not for this node")
            return _answer(403, msgspec.json.encode(problem))
        return _answer(200, msgspec.json.encode(found))

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        if self.refuse:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._socket = socket
        self.hellos += 1
        async for frame in socket:
            assert frame.type is WSMsgType.TEXT
            self._messages.put_nowait(msgspec.json.decode(frame.data, type=FromNode))
        return socket


def _answer(status: int, body: bytes) -> web.Response:
    """An answer after which the connection is closed, so that none is left when the test is over."""
    response = web.Response(status=status, body=body)
    response.force_close()
    return response
