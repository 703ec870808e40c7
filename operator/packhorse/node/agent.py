"""The agent: takes tasks from the operator, installs their packages, has the supervisor run them, reports the end.

Tasks run on while there is no connection to the operator. A report is repeated until the operator has recorded it.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import msgspec

from packhorse.archive import Limits
from packhorse.clock import timestamp
from packhorse.domain import azure
from packhorse.node.attempts import AttemptFiles, Record, attempt_key, launch_script
from packhorse.node.connection import Connection
from packhorse.node.eviction import Eviction, mark_used
from packhorse.node.health import Health
from packhorse.node.install import INSTALL_DEADLINE, DiskFullError, InstallError, install
from packhorse.node.layout import Layout
from packhorse.node.removals import Removals, packages_removed
from packhorse.node.service import Address, NodeServiceClient
from packhorse.node.start_task import StartTaskRun
from packhorse.node.supervision import BOOTED, CUT_OFF, Supervision
from packhorse.protocol import (
    EndTask,
    FromNode,
    Hello,
    NodeProblem,
    Package,
    PackagesRemoved,
    PoolPackages,
    Problem,
    RunningTask,
    RunTask,
    StartTaskChanged,
    TaskEnded,
    TaskRecorded,
    TaskStarted,
    ToNode,
)

_log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for a task that took too long."""
LOOK_AGAIN = 1.0
"""Seconds until what could not be looked at is looked at again."""


@dataclass(eq=False)
class _Attempt:
    """An attempt in the agent's memory.

    Attributes:
        ending: Why it is being ended from outside, if it is.
        requeue: It is ended to run again elsewhere.
        end: The report, once it is over.
    """

    record: Record
    launched: bool = False
    ending: Problem | None = None
    requeue: bool = False
    end: TaskEnded | None = None


class Agent:
    """The agent of one node."""

    def __init__(self, layout: Layout, address: Address, service: NodeServiceClient, context: ssl.SSLContext) -> None:
        self._layout = layout
        self._service = service
        self._files = AttemptFiles(layout)
        self._attempts: dict[str, _Attempt] = {}
        self._deployed = msgspec.json.decode(layout.deployed.read_bytes(), type=PoolPackages)
        self._connection = Connection(address, context, hello=self._hello, take=self._take, sent=self._sent)
        self._supervisor = Supervision(layout, self._heard, self._cut_off)
        self._health = Health(
            layout,
            report=lambda problem: self._connection.send(NodeProblem(problem)),
            in_use=self._in_use,
            evicted=self._evicted,
        )
        self._removals = Removals(layout)
        self._start_task = self._start_task_run()
        self._booted = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()

    def _start_task_run(self) -> StartTaskRun | None:
        if self._deployed.start_task is None:
            return None
        return StartTaskRun(
            self._deployed.start_task,
            self._layout,
            self._deployed.environment,
            ask=self._supervisor.ask,
            report=lambda state: self._connection.send(StartTaskChanged(state)),
            trouble=self._health.trouble,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            self._supervisor.open()
            for record in self._files.load():
                self._attempts[record.key] = _Attempt(record)
            if self._layout.is_up():
                self._booted.set()
            await self._booted.wait()
            self._sweep()
            for attempt in tuple(self._attempts.values()):
                self._resume(attempt)
            if self._start_task is not None:
                self._start_task.booted()
            await self._connection.stay()
        finally:
            if self._start_task is not None:
                self._start_task.stop()
            self._health.stop()
            self._supervisor.close()

    def _sweep(self) -> None:
        """Have removed what attempts left that nobody knows any more."""
        known = {*self._attempts, self._start_task.key if self._start_task else None}
        for name in self._files.strays(known):
            self._have_removed(self._files.clear(name))

    def _have_removed(self, name: str | None) -> None:
        """Have the supervisor remove a folder that is not ours to look into."""
        if name is not None:
            self._supervisor.ask(f"forget {name}")

    # --- what the operator is told ------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        """What the operator has to know of this moment; what comes after it, and what it has to know again, follows."""
        for attempt in self._attempts.values():
            if attempt.end is not None:
                self._connection.send(attempt.end)
            elif attempt.launched:
                self._tell_start(attempt)
        for removed in self._removals.waiting:
            self._connection.send(removed)
        return Hello(
            packages=self._deployed.packages,
            tasks=tuple(
                RunningTask(attempt.record.message.uid, attempt.record.message.attempt)
                for attempt in self._attempts.values()
            ),
            fingerprint=self._deployed.fingerprint,
            start_task=self._start_task.state if self._start_task else None,
            problem=self._health.problem,
        )

    def _sent(self, message: FromNode) -> None:
        if isinstance(message, PackagesRemoved):
            self._removals.told(message)

    # --- what the operator asks for -------------------------------------------------------------------------------

    def _take(self, message: ToNode) -> None:
        match message:
            case RunTask():
                self._start(message)
            case EndTask():
                key = attempt_key(message.uid, message.attempt)
                self._end(key, message.grace_period, _ENDED, requeue=message.requeue)
            case TaskRecorded():
                key = attempt_key(message.uid, message.attempt)
                if self._attempts.pop(key, None) is not None:
                    self._have_removed(self._files.forget(key))

    def _start(self, message: RunTask) -> None:
        record = Record(message, timestamp())
        if record.key in self._attempts:
            return
        attempt = self._attempts[record.key] = _Attempt(record)
        try:
            self._files.keep(record)
        except OSError as error:
            self._cannot(attempt, error)
            return
        self._begin(attempt)

    def _begin(self, attempt: _Attempt) -> None:
        if attempt.record.message.packages:
            self._spawn(self._prepare(attempt))
            return
        try:
            self._launch(attempt)
        except OSError as error:
            self._cannot(attempt, error)

    def _cannot(self, attempt: _Attempt, error: OSError) -> None:
        """The node has no place for an attempt: it has to run elsewhere if the disk is full."""
        if self._health.trouble(error):
            self._over(attempt, lost=True)
        else:
            self._over(attempt, problem=_node_problem(error))

    def _resume(self, attempt: _Attempt) -> None:
        """Go on with an attempt that the agent before this one began."""
        key = attempt.record.key
        launched = self._files.launched(key)
        if launched is None:
            self._begin(attempt)
            return
        attempt.launched = True
        self._look(key)
        if attempt.end is None:
            self._supervisor.ask(f"run {key}")  # the supervisor knows whether it has done that
            self._limit(attempt, time.time() - launched)

    async def _prepare(self, attempt: _Attempt) -> None:
        """Install the task's own packages, then launch it."""
        message = attempt.record.message
        try:
            for package in message.packages:
                await self._install(package)
            if attempt.end is None:
                self._launch(attempt)
                self._tell_start(attempt)
        except DiskFullError as error:
            if self._health.could_fit(error.needed):
                self._health.disk_full(error.problem, error.needed)
                self._over(attempt, lost=True)
            else:
                self._over(attempt, problem=error.problem)
        except InstallError as error:
            self._over(attempt, problem=error.problem)
        except OSError as error:
            self._cannot(attempt, error)
        except Exception as error:
            # A defect of ours; the task shall not wait for ever.
            _log.exception("attempt %s cannot be prepared", attempt.record.key)
            self._over(attempt, problem=Problem("Unknown", f"The node could not prepare the task: {error!r}"))

    async def _install(self, package: Package) -> None:
        gone: list[Eviction] = []
        try:
            await asyncio.to_thread(
                install,
                package,
                self._layout.root,
                self._service.download,
                limits=Limits(),
                deadline=time.monotonic() + INSTALL_DEADLINE,
                message=azure.INVALID_FOR_TASK,
                in_use=self._in_use,
                evicted=gone.append,
            )
        finally:
            if gone:
                self._evicted(gone)

    def _in_use(self) -> set[PurePosixPath]:
        """What has to stay on the node: the pool's packages, and those of the tasks here. Called in any thread."""
        packages = [item.package for item in self._deployed.packages]
        for attempt in tuple(self._attempts.values()):
            packages += attempt.record.message.packages
        return {package.directory for package in packages}

    def _evicted(self, gone: Sequence[Eviction]) -> None:
        removed = packages_removed(gone)
        self._removals.add(removed)
        self._connection.send(removed)

    def _mark_used(self, own: Sequence[Package]) -> None:
        """Remember when packages were last used: what was not for the longest time goes first."""
        for package in (*(item.package for item in self._deployed.packages), *own):
            try:
                mark_used(self._layout.root, package)
            except OSError as error:
                _log.warning("it cannot be noted that %s is used: %s", package.reference, error)

    def _launch(self, attempt: _Attempt) -> None:
        record = attempt.record
        script = launch_script(record.message, self._layout, self._deployed.environment)
        self._files.make_launch(record.key, script)
        self._mark_used(record.message.packages)
        attempt.launched = True
        self._supervisor.ask(f"run {record.key}")
        self._limit(attempt, 0.0)

    def _limit(self, attempt: _Attempt, elapsed: float) -> None:
        """End an attempt when its time is over, of which so many seconds have passed."""
        limit = attempt.record.message.max_wall_clock_time
        if limit is not None:
            left = min(limit, max(0.0, limit - elapsed))
            asyncio.get_running_loop().call_later(left, self._end, attempt.record.key, GRACE, _too_long(limit))

    def _tell_start(self, attempt: _Attempt) -> None:
        """Tell that packages are installed and the command line runs; where there are none, the operator knows."""
        message = attempt.record.message
        if message.packages:
            self._connection.send(TaskStarted(message.uid, message.attempt, timestamp()))

    def _end(self, key: str, grace: float, problem: Problem, *, requeue: bool = False) -> None:
        """End an attempt: its processes, or what it waits for. Of two reasons to end it the first counts."""
        self._look(key)  # it may be over, and we not have heard of it yet
        attempt = self._attempts.get(key)
        if attempt is None or attempt.end is not None or attempt.ending is not None:
            return
        attempt.ending, attempt.requeue = problem, requeue
        if not attempt.launched:
            self._ended(attempt)
            return
        self._supervisor.ask(f"signal {key} TERM")
        asyncio.get_running_loop().call_later(grace, self._kill, key)

    def _ended(self, attempt: _Attempt, code: int | None = None) -> None:
        """An attempt is over that was ended from outside."""
        if attempt.requeue:
            self._over(attempt, lost=True)
        else:
            self._over(attempt, code=code, problem=attempt.ending)

    def _kill(self, key: str) -> None:
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.end is None:
            self._supervisor.ask(f"signal {key} KILL")

    # --- what the supervisor tells --------------------------------------------------------------------------------

    def _heard(self, line: str) -> None:
        """Take a line from the supervisor; or from a task, which can write to its FIFO too."""
        if line == BOOTED:
            if self._booted.is_set():
                self._supervisor_restarted()
            self._booted.set()
        elif self._start_task is not None and line == self._start_task.key:
            self._start_task.look()
        else:
            self._look(line)

    def _cut_off(self, cut_off: bool) -> None:
        self._health.cut_off(CUT_OFF if cut_off else None)

    def _supervisor_restarted(self) -> None:
        for key in tuple(self._attempts):
            self._look(key)
        if self._start_task is not None:
            self._start_task.booted()

    def _look(self, key: str) -> None:
        """See whether an attempt is over."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.end is not None:
            return
        try:
            found = self._files.exit(key)
        except OSError as error:
            _log.error("attempt %s cannot be looked at, another try follows: %s", key, error)
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self._look, key)
            return
        if found is None:
            return
        if attempt.ending is not None:
            self._supervisor.ask(f"signal {key} KILL")  # what may have outlived it in sessions of its own
            self._ended(attempt, found.code)
        else:
            self._over(attempt, code=found.code, lost=found.code is None)

    def _over(
        self, attempt: _Attempt, *, code: int | None = None, problem: Problem | None = None, lost: bool = False
    ) -> None:
        if attempt.end is not None:
            return
        message = attempt.record.message
        stdout, stderr = self._files.outputs(message) if attempt.launched else ("", "")
        attempt.end = TaskEnded(
            uid=message.uid,
            attempt=message.attempt,
            start_time=attempt.record.start_time,
            end_time=timestamp(),
            exit_code=code,
            problem=problem,
            stdout=stdout,
            stderr=stderr,
            lost=lost,
        )
        self._connection.send(attempt.end)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)


_ENDED = Problem("TaskEnded", "The task was ended by a request", category="UserError")


def _too_long(limit: float) -> Problem:
    return Problem("TaskEnded", f"The task ran longer than its maxWallClockTime of {limit:g} s and was ended")


def _node_problem(error: OSError) -> Problem:
    return Problem("ResourceDirectoryCreateFailed", f"The node could not prepare the task: {error}")
