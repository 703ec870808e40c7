"""``packhorse-node install`` and ``packhorse-node agent``: the two containers of our own in a node's pod."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from packhorse.domain.environment import NODE_ROOT
from packhorse.node.agent import Agent
from packhorse.node.install import InstallError
from packhorse.node.installation import install_pool_packages, tell
from packhorse.node.layout import Layout
from packhorse.node.service import Address, NodeServiceClient, trust

_log = logging.getLogger("packhorse.node")


def main() -> int:
    """Run one of the two."""
    commands = {"install": _install, "agent": _agent}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print("usage: packhorse-node install|agent", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    host = os.environ.get("PACKHORSE_NODE_SERVICE", "")
    if not host:
        print(
            "packhorse-node: PACKHORSE_NODE_SERVICE is not set; the operator sets it in a node's pod", file=sys.stderr
        )
        return 2
    return commands[sys.argv[1]](Layout(Path(NODE_ROOT)), Address(host))


def _install(layout: Layout, address: Address) -> int:
    try:
        install_pool_packages(layout, NodeServiceClient(address, trust()))
    except InstallError as error:
        _log.error("%s", error)
        tell(error.problem)
        return 1
    return 0


def _agent(layout: Layout, address: Address) -> int:
    context = trust()
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_stopped(Agent(layout, address, NodeServiceClient(address, context), context)))
    return 0


async def _until_stopped(agent: Agent) -> None:
    work = asyncio.ensure_future(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    await work


if __name__ == "__main__":
    sys.exit(main())
