"""What the init container does: prepare the node's volume and install the pool's packages on it."""

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from packhorse.archive import Limits
from packhorse.domain import azure
from packhorse.node.eviction import Eviction
from packhorse.node.health import disk_full_problem
from packhorse.node.install import INSTALL_DEADLINE, InstallError, install, sweep
from packhorse.node.layout import Layout
from packhorse.node.removals import Removals, packages_removed
from packhorse.node.service import NodeServiceClient, ServiceError
from packhorse.protocol import Detail, PoolPackages, Problem

_log = logging.getLogger(__name__)

SERVICE_DEADLINE = 120.0
"""Seconds to wait for the node service; then the container ends, and the kubelet starts it again."""
TERMINATION_MESSAGE = Path("/dev/termination-log")
LONGEST_MESSAGE = 3500
"""Bytes; Kubernetes keeps 4096."""


def install_pool_packages(layout: Layout, service: NodeServiceClient) -> None:
    """Make the node ready. Raises InstallError."""
    try:
        _install_pool_packages(layout, service)
    except OSError as error:
        raise InstallError(disk_full_problem(error) or _volume_problem(error)) from error


def _install_pool_packages(layout: Layout, service: NodeServiceClient) -> None:
    layout.prepare()
    sweep(layout.root)
    wanted = _ask(service.packages, time.monotonic() + SERVICE_DEADLINE)
    directories = {item.package.directory for item in wanted.packages}
    gone: list[Eviction] = []
    try:
        for item in wanted.packages:
            install(
                item.package,
                layout.root,
                service.download,
                limits=Limits(),
                deadline=time.monotonic() + INSTALL_DEADLINE,
                message=azure.INVALID_FOR_POOL,
                in_use=lambda: directories,
                evicted=gone.append,
            )
            _log.info("%s is there: %s", item.package.reference, layout.root / item.package.directory)
    finally:
        removals = Removals(layout)
        for eviction in gone:  # the agent tells of it, since there is no connection yet
            removals.add(packages_removed([eviction]))
    layout.write_start(wanted.environment)
    layout.write_deployed(msgspec.json.encode(wanted))


def _volume_problem(error: OSError) -> Problem:
    """The node's volume cannot be used. Descriptors have other numbers each time, so they are not told."""
    path = str(error.filename or "")
    cause = f"{error.strerror or error}{f': {path}' if path and not path.startswith('/proc/') else ''}"
    return Problem(
        "ResourceDirectoryCreateFailed", "The node's volume could not be prepared", (Detail("Cause", cause),)
    )


def _ask(ask: Callable[[], PoolPackages], deadline: float) -> PoolPackages:
    """Ask what to install, again for a while where nobody answers."""
    pause = 0.5
    while True:
        try:
            return ask()
        except ServiceError as error:
            if error.problem is not None and not error.busy:
                raise InstallError(error.problem) from error
            if time.monotonic() > deadline:
                details = (Detail("Cause", str(error)),)
                raise InstallError(Problem(azure.APPLICATION_PACKAGE_ERROR, azure.INVALID_FOR_POOL, details)) from error
            _log.warning("%s; next try in %.1f s", error, pause)
            time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
            pause = min(pause * 2, 10.0)


def tell(problem: Problem, path: Path = TERMINATION_MESSAGE) -> None:
    """Leave a problem where Kubernetes shows it in the pod's status, and the operator finds it."""
    data, length = msgspec.json.encode(problem), 1000
    while len(data) > LONGEST_MESSAGE:
        data, length = msgspec.json.encode(_shortened(problem, length)), length * 2 // 3
    path.write_bytes(data)


def _shortened(problem: Problem, length: int) -> Problem:
    """The beginning of everything, so many characters of each; how many bytes they take depends on what they are."""
    details = tuple(Detail(detail.name[:length], detail.value[:length]) for detail in problem.details[:6])
    return Problem(problem.code, problem.message[:length], details, problem.category)
