"""The start task: what a pool has each of its nodes run when it starts.

It runs once for every start of the user's container, since that begins with a file system of its own; the agent may be
started again meanwhile without running it twice. It is an attempt like those of tasks, with a key of its own, but in
``startup/wd``, which is never cleaned: Batch's users know that it has to be re-entrant.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

import msgspec

from packhorse.clock import timestamp
from packhorse.domain import azure
from packhorse.domain.environment import start_task_variables
from packhorse.node import beneath
from packhorse.node.attempts import AttemptFiles, script
from packhorse.node.layout import Layout, quote
from packhorse.protocol import Problem, StartTask, StartTaskState

_log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
"""Seconds between the first attempt and the second; each further pause is twice as long."""
LONGEST_PAUSE = 30.0


class Progress(msgspec.Struct, frozen=True):
    """How far a start task is, as the agent keeps it on disk.

    Attributes:
        boot: The start of the user's container that it is run for.
        attempt: Number of the last attempt, from 1.
        state: What the operator is told.
    """

    boot: str
    attempt: int
    state: StartTaskState

    @property
    def key(self) -> str:
        """Names the last attempt on this node."""
        return f"starttask-{self.boot}-{self.attempt}"


class StartTaskRun:
    """Runs a node's start task.

    Args:
        start_task: What to run.
        layout: Of the node.
        node_environment: What the supervisor was started with.
        ask: Asks the supervisor.
        report: Gets every change of its state.
        trouble: Gets what kept an attempt from being made; it says whether that may pass by itself.
    """

    def __init__(
        self,
        start_task: StartTask,
        layout: Layout,
        node_environment: Mapping[str, str],
        *,
        ask: Callable[[str], None],
        report: Callable[[StartTaskState], None],
        trouble: Callable[[OSError], bool],
    ) -> None:
        self._start_task = start_task
        self._layout = layout
        self._environment = node_environment
        self._ask = ask
        self._report = report
        self._trouble = trouble
        self._files = AttemptFiles(layout)
        self._progress = self._load()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = FIRST_PAUSE
        self._resumed = False

    @property
    def state(self) -> StartTaskState | None:
        """How it goes; None before the user's container is up."""
        return self._progress.state if self._progress else None

    @property
    def key(self) -> str | None:
        """Its last attempt."""
        return self._progress.key if self._progress else None

    def booted(self) -> None:
        """The user's container is up: run the start task, unless that was done for this start of it."""
        boot, progress = _boot(self._layout), self._progress
        if progress is None or progress.boot != boot:
            self._begin(boot, 1)
        elif not self._resumed and progress.state.state == "running":
            self._resume(progress)
        self._resumed = True

    def look(self) -> None:
        """See whether the last attempt is over."""
        progress = self._progress
        if progress is None or progress.state.end_time is not None:
            return
        try:
            found = self._files.exit(progress.key)
        except OSError as error:
            _log.error("the start task cannot be looked at, another try follows: %s", error)
            asyncio.get_running_loop().call_later(FIRST_PAUSE, self.look)
            return
        # Where its end is lost, it ended with the user's container: the next start of that runs it again.
        if found is not None and found.code is not None:
            self._over(progress, found.code)

    def stop(self) -> None:
        """Begin no further attempt."""
        if self._timer is not None:
            self._timer.cancel()

    def _resume(self, progress: Progress) -> None:
        """Go on with what the agent before this one began."""
        if self._files.launched(progress.key) is None:
            self._begin(progress.boot, progress.attempt)
        else:
            self._ask(f"run {progress.key}")  # the supervisor knows whether it has done that
            self.look()

    def _begin(self, boot: str, attempt: int) -> None:
        """Begin an attempt, the first or another."""
        self.stop()
        retries = attempt - 1
        if not retries:
            self._pause = FIRST_PAUSE
        state = StartTaskState(
            "running", timestamp(), retry_count=retries, wait_for_success=self._start_task.wait_for_success
        )
        earlier, progress = self._progress, Progress(boot, attempt, state)
        self._progress = progress
        try:
            self._keep(progress)
            self._files.make_launch(progress.key, self._script(progress.key))
        except OSError as error:
            if self._trouble(error):
                self._after_pause(boot, attempt)
            else:
                _log.error("the start task cannot be started: %s", error)
                message = f"The node could not prepare the start task: {error.strerror or error}"
                self._complete(progress, None, Problem("ResourceDirectoryCreateFailed", message))
            return
        if earlier is not None and earlier.key != progress.key:
            self._forget(earlier.key)
        self._ask(f"run {progress.key}")
        self._report(state)

    def _over(self, progress: Progress, code: int) -> None:
        limit, retries = self._start_task.max_retry_count, progress.state.retry_count
        if code == 0:
            self._complete(progress, code, None)
        elif limit < 0 or retries < limit:
            ended = msgspec.structs.replace(progress.state, exit_code=code, end_time=timestamp())
            self._progress = msgspec.structs.replace(progress, state=ended)
            _log.warning("the start task exited with %d; it is run again in %.0f s", code, self._pause)
            self._after_pause(progress.boot, progress.attempt + 1)
        else:
            self._complete(progress, code, _exit_code(code))

    def _complete(self, progress: Progress, code: int | None, problem: Problem | None) -> None:
        state = msgspec.structs.replace(
            progress.state, state="completed", end_time=timestamp(), exit_code=code, problem=problem
        )
        self._progress = msgspec.structs.replace(progress, state=state)
        try:
            self._keep(self._progress)
        except OSError as error:
            # The file of its exit code stays, so that the next agent finds out by itself.
            self._trouble(error)
            _log.error("the end of the start task cannot be noted: %s", error)
        else:
            self._forget(progress.key)
        self._report(state)

    def _after_pause(self, boot: str, attempt: int) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._begin, boot, attempt)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _forget(self, key: str) -> None:
        left = self._files.forget(key)
        if left is not None:
            self._ask(f"forget {left}")

    def _script(self, key: str) -> str:
        folder, busybox = quote(str(self._layout.startup)), quote(str(self._layout.busybox))
        environment = {
            **self._environment,
            **start_task_variables(PurePosixPath(self._layout.startup)),
            **self._start_task.environment,
        }
        # Removed, not written over: whatever lies there now, as a FIFO, would hold it up.
        clean = f"{busybox} rm -rf {folder}/stdout.txt {folder}/stderr.txt"
        return script(self._layout, key, folder, environment, self._start_task.command_line, first=clean)

    def _load(self) -> Progress | None:
        try:
            return msgspec.json.decode(self._layout.start_task.read_bytes(), type=Progress)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            _log.warning("what the last agent noted of the start task cannot be read, it is run again: %s", error)
            return None

    def _keep(self, progress: Progress) -> None:
        with beneath.folder(self._layout.agent) as agent:
            beneath.write(agent, self._layout.start_task.name, msgspec.json.encode(progress), 0o600)


def _boot(layout: Layout) -> str:
    """Names this start of the user's container, by when the supervisor said that it is up."""
    try:
        with beneath.folder(layout.run) as run:
            return str(beneath.modified(run, layout.booted.name))
    except OSError as error:
        # Running it once more does less harm than never.
        _log.warning("it cannot be told which start of the user's container this is, so it is a new one: %s", error)
        return str(time.time_ns())


def _exit_code(code: int) -> Problem:
    message = f"The start task exited with an exit code representing a failure: {code}"
    return Problem(azure.FAILURE_EXIT_CODE, message, category="UserError")
