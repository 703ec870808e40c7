"""Task: one command line that runs on a node of a pool."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from packhorse.model.meta import AGE, IMMUTABLE, Column, Model, Resource, Rule, Status
from packhorse.model.names import ID_PATTERN
from packhorse.model.node import FailureInfo
from packhorse.model.pool import PoolName
from packhorse.model.reference import Duration, EnvironmentSettings, References


class TaskState(StrEnum):
    """State of a task, in Batch's words."""

    ACTIVE = "active"
    PREPARING = "preparing"
    RUNNING = "running"
    COMPLETED = "completed"


class TaskConstraints(Model):
    """Limits of a task's execution."""

    max_wall_clock_time: Duration | None = None
    """How long one run may take, such as 90s, 1h30m or 7d. Then it is ended and has failed. Default: no limit."""
    max_task_retry_count: Annotated[int, Field(ge=-1, le=1000)] = 0
    """How often the command line is run again after an exit code other than 0; -1 means without limit."""


class TaskSpec(Model):
    """What is to run, where, and with which packages."""

    rules: ClassVar[tuple[Rule, ...]] = (IMMUTABLE,)

    pool: PoolName
    """Name of the Pool in this namespace. A task for a pool that does not exist waits for it."""
    command_line: Annotated[str, Field(min_length=1, max_length=65536)]
    """Run by /bin/sh -c in the task's working directory. Packages are found by $AZ_BATCH_APP_PACKAGE_<id>."""
    application_package_references: References = ()
    """Packages that this task needs besides its pool's: installed on its node just before the command line, seen by
    this task alone.
    """
    environment_settings: EnvironmentSettings = ()
    """Variables for this task; they win over the pool's."""
    job_id: Annotated[str, Field(max_length=64, pattern=ID_PATTERN)] = "default"
    """Groups tasks: a directory on the node, and $AZ_BATCH_JOB_ID."""
    display_name: Annotated[str, Field(max_length=1024)] | None = None
    """A name for people."""
    required_slots: Annotated[int, Field(ge=1, le=256)] = 1
    """How many of its node's task slots it takes."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Tasks of higher priority are started first; among equals, older ones."""
    constraints: TaskConstraints = TaskConstraints()
    """Limits of its execution."""


class ExecutionInfo(Model):
    """How a task's execution went, in Batch's form."""

    start_time: str | None = None
    """When the last attempt began, the installation of its packages included."""
    end_time: str | None = None
    """When the task was completed."""
    exit_code: int | None = None
    """Exit code of the command line; 128 + n where signal n ended it; none where it was not run."""
    result: Literal["success", "failure"] | None = None
    """How it ended."""
    failure_info: FailureInfo | None = None
    """Why it failed."""
    retry_count: int = 0
    """How often it was run again since its command line failed."""
    last_retry_time: str | None = None
    """When last."""
    requeue_count: int = 0
    """How often it was put back since its node was lost, rebooted or removed."""
    last_requeue_time: str | None = None
    """When last."""


class TaskOutput(Model):
    """The last lines of what a task wrote; `packhorse task logs` shows all of it."""

    stdout: str = ""
    """End of the standard output, at most 2 KiB."""
    stderr: str = ""
    """End of the standard error output, at most 2 KiB."""


class TaskStatus(Status):
    """What the operator knows of the task."""

    default: ClassVar[dict[str, Any]] = {"observedGeneration": -1, "state": "active"}

    state: TaskState = TaskState.ACTIVE
    """active: waits for a node. preparing: its packages are being installed there. running. completed: see
    executionInfo.result.
    """
    node_name: str | None = None
    """Node of the current or last attempt."""
    attempt: int = 0
    """Number of the current or last attempt."""
    execution_info: ExecutionInfo = ExecutionInfo()
    """How the execution goes or went."""
    output: TaskOutput | None = None
    """The last lines of what it wrote."""


class Task(Resource):
    """A command line that runs on a node of a pool and finds its applications by AZ_BATCH_APP_PACKAGE_ variables."""

    kind: ClassVar[str] = "Task"
    plural: ClassVar[str] = "tasks"
    short_name: ClassVar[str] = "phtask"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.metadata.name.size() <= 128",
            "metadata.name is the name of the task's directory on its node: at most 128 characters",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("Pool", ".spec.pool"),
        Column("State", ".status.state"),
        Column("Result", ".status.executionInfo.result"),
        Column("Exit", ".status.executionInfo.exitCode", "integer", "Exit code of the command line"),
        Column("Node", ".status.nodeName"),
        Column("Job", ".spec.jobId", priority=1),
        Column("Command", ".spec.commandLine", priority=1),
        AGE,
    )

    spec: TaskSpec
    """What is to run, where, and with which packages."""
    status: TaskStatus = TaskStatus()
    """What the operator knows of it."""
