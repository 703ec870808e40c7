"""A node whole: an agent between a node service and a supervisor that really runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from packhorse.domain.environment import PREFIX
from packhorse.node.agent import Agent
from packhorse.node.layout import Layout
from packhorse.node.service import NodeServiceClient
from packhorse.protocol import (
    FromNode,
    Hello,
    Package,
    PoolPackages,
    RunTask,
    TaskEnded,
    TaskStarted,
    VisiblePackage,
)
from tests.unit.node.service import PATIENCE, NodeService
from tests.unit.node.supervised import Supervisor
from tests.unit.objects import digest

M = TypeVar("M", bound=FromNode)

DEPLOYED = PoolPackages(
    (VisiblePackage(Package("blender", "2.7", digest(), 7)),), {PREFIX + "blender": "/2.7", "A": "1"}, fingerprint="f"
)


class Machine:
    """A node with its agent, and what the operator says to it."""

    def __init__(self, layout: Layout, service: NodeService, supervisor: Supervisor) -> None:
        self.layout = layout
        self.service = service
        self.supervisor = supervisor
        self._agent: asyncio.Task[None] | None = None

    def start_agent(self) -> None:
        address = self.service.address(self.layout.root)
        self._client = NodeServiceClient(address, self.service.context)
        agent = Agent(self.layout, address, self._client, self.service.context)
        self._agent = asyncio.get_running_loop().create_task(agent.run())

    async def stop_agent(self) -> None:
        assert self._agent is not None
        self._agent.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._agent
        self._agent = None
        self._client.close()
        await self.service.hang_up()

    async def restart_agent(self) -> Hello:
        await self.stop_agent()
        self.start_agent()
        return await self.hello()

    async def next(self, kind: type[M]) -> M:
        """The next message, which is of this kind."""
        message = await self.service.next()
        assert isinstance(message, kind), message
        return message

    async def hello(self) -> Hello:
        return await self.next(Hello)

    async def ended(self) -> TaskEnded:
        return await self.next(TaskEnded)

    async def started(self) -> TaskStarted:
        return await self.next(TaskStarted)


async def until(happens: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    async with asyncio.timeout(PATIENCE):
        while not happens():  # noqa: ASYNC110 (it happens in other processes)
            await asyncio.sleep(0.005)


@asynccontextmanager
async def machine_of(
    layout: Layout, supervisor: Supervisor, deployed: PoolPackages = DEPLOYED
) -> AsyncIterator[Machine]:
    layout.deployed.write_bytes(msgspec.json.encode(deployed))
    async with NodeService().serve() as service:
        machine = Machine(layout, service, supervisor)
        machine.start_agent()
        try:
            yield machine
        finally:
            await machine.stop_agent()


def run(command: str, *, uid: str = "uid", attempt: int = 1, name: str = "frame", **more: object) -> RunTask:
    return msgspec.structs.replace(RunTask(uid, name, "default", attempt, command, {}), **more)


def wait_for(path: Path) -> str:
    """A command that goes on until a file is there."""
    return f"while [ ! -e {path} ]; do sleep 0.01; done"
