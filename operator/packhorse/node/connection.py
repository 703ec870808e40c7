"""The one connection of a node to the node service, opened again whenever it breaks."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable

import aiohttp
import msgspec

from packhorse.node.service import Address
from packhorse.protocol import CONNECT_PATH, FromNode, Hello, ToNode

_log = logging.getLogger(__name__)

HEARTBEAT = 15.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
"""Seconds at most between two tries to connect."""

_decode: Callable[[str], ToNode] = msgspec.json.Decoder(ToNode).decode


class Connection:
    """Sends what the node has to tell, and passes on what it is asked for.

    Args:
        address: Of the node service.
        context: What its certificate is checked by.
        hello: Gives the first message of a connection. What it calls ``send`` with meanwhile follows it; what was
            waiting for an earlier connection is dropped, since hello tells of that.
        take: Gets every message of the operator.
        sent: Gets every message that was sent.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext,
        *,
        hello: Callable[[], Hello],
        take: Callable[[ToNode], None],
        sent: Callable[[FromNode], None],
    ) -> None:
        self._address = address
        self._context = context
        self._hello = hello
        self._take = take
        self._sent = sent
        self._waiting: asyncio.Queue[FromNode] = asyncio.Queue()

    def send(self, message: FromNode) -> None:
        """Send a message, after those before it."""
        self._waiting.put_nowait(message)

    async def stay(self) -> None:
        """Be connected until cancelled."""
        pause = FIRST_PAUSE
        async with aiohttp.ClientSession() as session:
            while True:
                began = time.monotonic()
                try:
                    await self._converse(session)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    _log.warning("not connected to the node service: %s", error)
                if time.monotonic() - began > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _converse(self, session: aiohttp.ClientSession) -> None:
        """One connection, from hello to its end."""
        url = f"https://{self._address.host}{CONNECT_PATH}"
        async with session.ws_connect(
            url, headers=self._address.headers(), ssl=self._context, heartbeat=HEARTBEAT, max_msg_size=0
        ) as socket:
            self._waiting = asyncio.Queue()
            hello = self._hello()
            await _send(socket, hello)
            _log.info("connected to the node service; %d task(s) here", len(hello.tasks))
            writer = asyncio.create_task(self._write(socket))
            try:
                async for frame in socket:
                    if frame.type is aiohttp.WSMsgType.TEXT:
                        self._read(frame.data)
            finally:
                writer.cancel()
                (outcome,) = await asyncio.gather(writer, return_exceptions=True)
                if isinstance(outcome, Exception):
                    _log.warning("nothing could be sent to the node service any more: %s", outcome)

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                message = await self._waiting.get()
                await _send(socket, message)
                self._sent(message)
        finally:
            # Whatever ended this: a connection over which nothing is sent is worse than none.
            await socket.close()

    def _read(self, text: str) -> None:
        try:
            message = _decode(text)
        except msgspec.DecodeError as error:
            _log.warning("a message of the operator makes no sense here and is passed over: %s", error)
            return
        self._take(message)


async def _send(socket: aiohttp.ClientWebSocketResponse, message: FromNode) -> None:
    await socket.send_str(msgspec.json.encode(message).decode())
