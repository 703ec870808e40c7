"""The connections of nodes."""

import asyncio
import logging
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from packhorse.cluster.cache import Key
from packhorse.domain.nodes import ready_for_tasks
from packhorse.protocol import Hello, NodeProblem, StartTaskChanged, ToNode

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Session:
    """One node's connection.

    Attributes:
        node: Namespace and name of the node.
        pod_uid: Uid of its pod: a rebooted node is another pod of the same name.
        hello: What it said first, with what it has said since of its start task and its problem.
    """

    node: Key
    pod_uid: str
    hello: Hello
    _outgoing: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    def send(self, message: ToNode) -> None:
        """Send a message, after those before it; a connection that breaks loses it, and the next hello mends that."""
        self._outgoing.put_nowait(msgspec.json.encode(message))

    def hear(self, message: StartTaskChanged | NodeProblem) -> None:
        """Take in what changed on the node."""
        if isinstance(message, StartTaskChanged):
            self.hello = msgspec.structs.replace(self.hello, start_task=message.start_task)
        else:
            self.hello = msgspec.structs.replace(self.hello, problem=message.problem)

    @property
    def takes_tasks(self) -> bool:
        """Whether the node, for all it says, can run tasks."""
        return self.hello.problem is None and ready_for_tasks(self.hello.start_task)

    async def write(self, socket: web.WebSocketResponse) -> None:
        """Write what is sent to the socket until cancelled, or until the connection breaks."""
        try:
            while True:
                await socket.send_str((await self._outgoing.get()).decode())
        except ConnectionError as error:
            _log.info("node %s/%s: connection lost: %s", *self.node, error)


class Sessions:
    """All connections, one a node: the newest wins."""

    def __init__(self) -> None:
        self._sessions: dict[Key, Session] = {}

    def add(self, session: Session) -> None:
        """Take a connection in, in place of an older one of the same node."""
        self._sessions[session.node] = session

    def remove(self, session: Session) -> bool:
        """Forget a connection; False where a newer one has taken its place."""
        if self._sessions.get(session.node) is not session:
            return False
        del self._sessions[session.node]
        return True

    def get(self, node: Key) -> Session | None:
        """The connection of a node."""
        return self._sessions.get(node)
