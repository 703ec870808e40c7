"""A pool's nodes, as their pool's status shows them, and what can be asked of one by annotations."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from packhorse.model.meta import GROUP, Model

POOL_LABEL = f"{GROUP}/pool"
"""On every pod that is a node: the name of its pool."""

REBOOT_ANNOTATION = f"{GROUP}/reboot"
"""On a node's pod: restart it; the value says what becomes of its tasks, see ``RunningTaskOption``."""
REIMAGE_ANNOTATION = f"{GROUP}/reimage"
"""On a node's pod: the same, and its volume is made anew."""
DISABLE_ANNOTATION = f"{GROUP}/disable-scheduling"
"""On a node's pod, while it is there: no further tasks; the value says what becomes of those that it runs. It goes
with the pod: a reboot enables scheduling again, as in Batch.
"""
REBOOT_BEFORE_ANNOTATION = f"{GROUP}/reboot-before"
"""On a Pool, an RFC 3339 time: every node that was started before is rebooted."""
REIMAGE_BEFORE_ANNOTATION = f"{GROUP}/reimage-before"
"""The same for reimaging."""
OPTION_ANNOTATION = f"{GROUP}/running-tasks"
"""On a Pool with one of the two: what becomes of running tasks; requeue if it is not given."""


class RunningTaskOption(StrEnum):
    """What becomes of a node's running tasks when it is taken away, in Batch's words."""

    REQUEUE = "requeue"
    TERMINATE = "terminate"
    TASK_COMPLETION = "taskcompletion"


class NodeState(StrEnum):
    """States of a compute node, in Batch's words."""

    CREATING = "creating"
    STARTING = "starting"
    WAITING_FOR_START_TASK = "waitingforstarttask"
    START_TASK_FAILED = "starttaskfailed"
    IDLE = "idle"
    RUNNING = "running"
    OFFLINE = "offline"
    REBOOTING = "rebooting"
    REIMAGING = "reimaging"
    LEAVING_POOL = "leavingpool"
    UNUSABLE = "unusable"
    UNKNOWN = "unknown"


BROKEN = frozenset({NodeState.UNUSABLE, NodeState.START_TASK_FAILED})
"""States of a node that gets no tasks since something failed on it."""


class ErrorDetail(Model):
    """One name and value that explain an error further."""

    name: str
    """What it is about, such as ApplicationPackageReference or Cause."""
    value: str
    """What there is to say of it."""


class NodeError(Model):
    """Why a node is unusable, in the form of Batch's node errors."""

    code: str
    """Batch's code, such as ApplicationPackageError."""
    message: str
    """Batch's message."""
    error_details: Annotated[tuple[ErrorDetail, ...], Field(max_length=16)] = ()
    """Which package, and the true cause."""


class FailureInfo(Model):
    """Why a task failed, in Batch's form."""

    category: Literal["UserError", "ServerError"]
    """Whose error it is."""
    code: str
    """Batch's code, such as FailureExitCode or ApplicationPackageError."""
    message: str
    """Batch's message."""
    details: Annotated[tuple[ErrorDetail, ...], Field(max_length=16)] = ()
    """Which package, and the true cause."""


class StartTaskInfo(Model):
    """How a node's start task goes or went, in Batch's form."""

    state: Literal["running", "completed"]
    """running also between two attempts."""
    start_time: str
    """When the last attempt began."""
    end_time: str | None = None
    """When it was completed."""
    exit_code: int | None = None
    """Exit code of the last attempt; 128 + n where signal n ended it."""
    result: Literal["success", "failure"] | None = None
    """How it ended."""
    retry_count: int = 0
    """How often it was run again since it failed."""
    failure_info: FailureInfo | None = None
    """Why it failed."""


class DeployedPackage(Model):
    """A package with its content."""

    application_id: str
    """Id of the application."""
    version: str
    """Its version."""
    sha256: str
    """Digest of the content."""


class NodeStatus(Model):
    """One node of a pool."""

    name: str
    """Name of the node, which is that of its pod."""
    state: NodeState
    """creating, starting, waitingforstarttask, starttaskfailed, idle, running, offline, rebooting, reimaging,
    leavingpool, unusable or unknown, as in Batch.
    """
    state_transition_time: str
    """Since when."""
    worker: str | None = None
    """The Kubernetes node that it is on."""
    scheduling_state: Literal["enabled", "disabled"] = "enabled"
    """disabled: it gets no further tasks, since somebody asked for that."""
    pending: Literal["reboot", "reimage", "leave", "update"] | None = None
    """What it waits for, once its tasks have ended."""
    packages: Annotated[tuple[DeployedPackage, ...], Field(max_length=100)] = ()
    """The pool's packages as this node installed them when it last started."""
    up_to_date: bool = False
    """Whether it has what a new node would have now: packages, start task, variables, image, template. A reboot
    brings it up to date.
    """
    running_tasks: int = 0
    """How many tasks it runs."""
    start_task_info: StartTaskInfo | None = None
    """How its start task goes or went."""
    errors: Annotated[tuple[NodeError, ...], Field(max_length=16)] = ()
    """Why it is unusable."""
