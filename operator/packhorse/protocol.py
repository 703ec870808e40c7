"""What the operator and its nodes say to each other.

A node opens one WebSocket to the node service and keeps it. Each text message is one JSON object whose ``type`` names
one of the classes below. Besides, two plain requests serve the installation of packages, which also happens before
there is a connection (in the init container): ``GET /v1/packages`` and ``POST /v1/downloads``.

msgspec checks every message against its class, so neither side acts on half a message. It is used here in place of
pydantic since the agent on a node has to stay small.
"""

from pathlib import PurePosixPath
from typing import Literal

import msgspec

PACKAGES_PATH = "/v1/packages"
"""``GET``: the packages that this node's pool refers to, resolved now, as ``PoolPackages``; a ``Problem`` with 409."""

DOWNLOADS_PATH = "/v1/downloads"
"""``POST`` of a ``Package``: where to fetch it, as ``Download``; a ``Problem`` with 403, 404, 409 or 503."""

CONNECT_PATH = "/v1/connect"
"""``GET``: the WebSocket of messages."""

AUDIENCE = "packhorse.dev/node-service"
"""Audience of the token that a node shows: good for the node service, and for nothing else."""


class Detail(msgspec.Struct, frozen=True, rename="camel"):
    """One name and value that explain a problem further."""

    name: str
    value: str


class Problem(msgspec.Struct, frozen=True, rename="camel"):
    """Why something failed, in the form of Batch's ``failureInfo`` and node errors."""

    code: str
    message: str
    details: tuple[Detail, ...] = ()
    category: str = "ServerError"

    @property
    def cause(self) -> str:
        """The message and every detail in one line, for conditions, events and logs."""
        return "; ".join([self.message, *(f"{detail.name}: {detail.value}" for detail in self.details)])


class Package(msgspec.Struct, frozen=True, rename="camel"):
    """One version of an application, with the content that stood behind it when it was resolved.

    Attributes:
        application_id: As given by the user; its case is kept.
        version: As given by the user; its case is kept.
        sha256: Digest of the ZIP file, 64 lower-case hexadecimal digits.
        size: Length of the ZIP file in bytes.
    """

    application_id: str
    version: str
    sha256: str
    size: int

    @property
    def directory(self) -> PurePosixPath:
        """Where its files lie below a node's root.

        The digest is part of it: an updated package never passes for the old one, and a node keeps what earlier
        deployments left (Batch has the time of activation there).
        """
        return PurePosixPath("applications", self.application_id.lower(), self.version.lower(), self.sha256)

    @property
    def reference(self) -> str:
        """``id:version``, as Batch's errors name a package."""
        return f"{self.application_id}:{self.version}"


class VisiblePackage(msgspec.Struct, frozen=True, rename="camel"):
    """A package that tasks on a node can see.

    Attributes:
        package: The package.
        by_default: A reference without a version brought it.
    """

    package: Package
    by_default: bool = False


class StartTask(msgspec.Struct, frozen=True, rename="camel"):
    """What a node runs when it starts, after its packages are installed.

    Attributes:
        environment: Its own settings; it has the node's variables besides.
        max_retry_count: How often it is run again after an exit code other than 0; -1 means without limit.
        wait_for_success: The node gets tasks only when it has succeeded.
    """

    command_line: str
    environment: dict[str, str]
    max_retry_count: int = 0
    wait_for_success: bool = True


class PoolPackages(msgspec.Struct, frozen=True, rename="camel"):
    """What a node has to install when it starts, the variables of every process on it, and its start task.

    Attributes:
        fingerprint: Of the variables that the pool sets and of the start task; the node repeats it in its hello, so
            that the operator knows whether the node has what the pool says now.
    """

    packages: tuple[VisiblePackage, ...]
    environment: dict[str, str]
    start_task: StartTask | None = None
    fingerprint: str = ""


class DownloadLimits(msgspec.Struct, frozen=True, rename="camel"):
    """How much a package may hold, as ``packhorse.archive.Limits`` has it."""

    files: int
    file_size: int
    total_size: int
    ratio: int


class Download(msgspec.Struct, frozen=True, rename="camel"):
    """Leave to read one blob for some minutes.

    Attributes:
        url: With a signature, so never to be logged.
        etag: What ``If-Match`` has to say, so that a blob replaced meanwhile is not fetched.
        size: Length in bytes.
        limits: How much the package may hold; None leaves it to the node.
    """

    url: str
    etag: str
    size: int
    limits: DownloadLimits | None = None

    def __repr__(self) -> str:
        """Without the signature."""
        return f"Download(url={self.url.partition('?')[0]!r}, etag={self.etag!r}, size={self.size})"


# --- from the operator to a node ---------------------------------------------------------------------------------


class RunTask(msgspec.Struct, frozen=True, tag="runTask", tag_field="type", rename="camel"):
    """Run one attempt of a task.

    Attributes:
        uid: The Task object's uid; with ``attempt`` it names this run for ever.
        attempt: Counts from 1; a node that is asked for an attempt it knows already does nothing.
        environment: Every variable of section 4 of the contract and the task's own settings.
        packages: The task's own packages, installed before the command line if they are not there.
        max_wall_clock_time: Seconds until the task is ended, None for no limit.
    """

    uid: str
    name: str
    job_id: str
    attempt: int
    command_line: str
    environment: dict[str, str]
    packages: tuple[Package, ...] = ()
    max_wall_clock_time: float | None = None


class EndTask(msgspec.Struct, frozen=True, tag="endTask", tag_field="type", rename="camel"):
    """End every process of an attempt: first SIGTERM, then after the grace period (seconds) SIGKILL.

    Attributes:
        requeue: It shall run again, elsewhere: its end is reported as ``lost``.
    """

    uid: str
    attempt: int
    grace_period: float = 10.0
    requeue: bool = False


class TaskRecorded(msgspec.Struct, frozen=True, tag="taskRecorded", tag_field="type", rename="camel"):
    """The result of this attempt is safe with the operator: the node need not report it again."""

    uid: str
    attempt: int


ToNode = RunTask | EndTask | TaskRecorded

# --- from a node to the operator ---------------------------------------------------------------------------------


class TaskStarted(msgspec.Struct, frozen=True, tag="taskStarted", tag_field="type", rename="camel"):
    """The command line runs; sent for attempts that had packages to install first."""

    uid: str
    attempt: int
    start_time: str


class TaskEnded(msgspec.Struct, frozen=True, tag="taskEnded", tag_field="type", rename="camel"):
    """An attempt is over; repeated until it is recorded.

    Attributes:
        start_time: RFC 3339, UTC, microseconds.
        exit_code: None where the command line was not started or its end was not seen.
        problem: None after an exit code of 0.
        stdout: The last lines, at most 2 KiB.
        stderr: The same.
        lost: The attempt does not count: its process vanished with its container, it was ended to be requeued, or the
            node could not run it, for want of space say. Not the task's fault.
    """

    uid: str
    attempt: int
    start_time: str
    end_time: str
    exit_code: int | None = None
    problem: Problem | None = None
    stdout: str = ""
    stderr: str = ""
    lost: bool = False


class RunningTask(msgspec.Struct, frozen=True, rename="camel"):
    """An attempt that a node holds and whose result is not recorded yet."""

    uid: str
    attempt: int


class StartTaskState(msgspec.Struct, frozen=True, rename="camel"):
    """How a node's start task goes or went.

    Attributes:
        state: ``running``, also between two attempts and before the first, or ``completed``.
        start_time: Of the last attempt, RFC 3339.
        exit_code: Of the last attempt, None where it has none (yet).
        problem: Why it failed for good; None where it runs or has succeeded.
        wait_for_success: The node takes no tasks before it has succeeded.
    """

    state: Literal["running", "completed"]
    start_time: str
    end_time: str | None = None
    exit_code: int | None = None
    retry_count: int = 0
    problem: Problem | None = None
    wait_for_success: bool = True


class Hello(msgspec.Struct, frozen=True, tag="hello", tag_field="type", rename="camel"):
    """First message of a connection: what the node has and what it runs.

    Attributes:
        packages: The pool's packages as this node installed them at its start.
        tasks: All attempts that it holds: the operator compares them with what it believes, and mends.
        fingerprint: As ``PoolPackages`` had it when the node started.
        start_task: How its start task goes; None where it has none.
        problem: Why the node can run no tasks now, as after a ``NodeProblem``.
    """

    packages: tuple[VisiblePackage, ...]
    tasks: tuple[RunningTask, ...]
    fingerprint: str = ""
    start_task: StartTaskState | None = None
    problem: Problem | None = None


class StartTaskChanged(msgspec.Struct, frozen=True, tag="startTaskChanged", tag_field="type", rename="camel"):
    """The start task began another attempt, or is over."""

    start_task: StartTaskState


class NodeProblem(msgspec.Struct, frozen=True, tag="nodeProblem", tag_field="type", rename="camel"):
    """The node can run no tasks, as with a full disk; or, without a problem, it can again."""

    problem: Problem | None = None


class PackagesRemoved(msgspec.Struct, frozen=True, tag="packagesRemoved", tag_field="type", rename="camel"):
    """To make room, the node removed packages that earlier deployments had left.

    Attributes:
        references: ``id:version`` of each, least recently used first.
        freed: Bytes.
        reason: What needed the room.
    """

    references: tuple[str, ...]
    freed: int
    reason: str


FromNode = Hello | TaskStarted | TaskEnded | StartTaskChanged | NodeProblem | PackagesRemoved
