"""Waiting until tasks are completed."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from packhorse.cli import duration, output
from packhorse.cli.cluster import TASKS, Cluster, Json
from packhorse.cli.connection import connect
from packhorse.cli.errors import INTERRUPTED, CliError, UsageError
from packhorse.cli.options import Target
from packhorse.cli.progress import Advance, meter
from packhorse.domain.wording import some

_NAMED = 5  # names in a message


@dataclass(frozen=True)
class Choice:
    """Which tasks are meant.

    Attributes:
        names: Exactly these, each of which has to be there; empty for all that the rest says.
        job: All of this job.
        selector: All with these labels.
    """

    names: tuple[str, ...] = ()
    job: str | None = None
    selector: str = ""

    def find(self, objects: Mapping[str, Json]) -> set[str]:
        """The names of those that are meant, of all that there are.

        Raises:
            CliError: One is not there, or there is none at all.
        """
        if missing := [name for name in self.names if name not in objects]:
            raise CliError(f"There is no task '{missing[0]}' here.", "Check its name and the namespace (-n).")
        found = set(self.names) or {
            name for name, item in objects.items() if not self.job or item["spec"].get("jobId", "default") == self.job
        }
        if not found:
            raise CliError("There are no such tasks here.", "Check the job or the labels, and the namespace (-n).")
        return found


@dataclass
class Outcome:
    """How far the tasks are.

    Attributes:
        pending: Names of those that are not completed.
        succeeded: Names of those that were.
        failed: Why not, by name.
    """

    pending: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many are completed."""
        return len(self.succeeded) + len(self.failed)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.done + len(self.pending)


def wait(target: Target, choice: Choice, timeout: str) -> None:
    """Wait until the chosen tasks are completed.

    Raises:
        UsageError: Neither names nor anything else were chosen, or both.
        CliError: As for :func:`wait_on`.
    """
    limit = duration.seconds(timeout)
    if bool(choice.names) == bool(choice.job or choice.selector):
        raise UsageError("Say which tasks: either names, or --job or --selector.")
    with connect(target) as cluster:
        wait_on(cluster, choice, limit)


def wait_on(cluster: Cluster, choice: Choice, limit: float | None) -> None:
    """Wait until the tasks that there are now are completed; tasks that are created later do not count.

    Args:
        cluster: Where they are.
        choice: Which ones.
        limit: Seconds to wait, None for no limit.

    Raises:
        CliError: A task failed or was deleted, there is none, or the time is up.
    """
    deadline = None if limit is None else time.monotonic() + limit
    one = choice.names[0] if len(choice.names) == 1 else ""
    outcome = Outcome()
    try:
        with contextlib.closing(
            cluster.follow(TASKS, name=one, selector=choice.selector, deadline=deadline)
        ) as changes:
            first = next(changes)  # the first list is given whatever the deadline
            outcome.pending = choice.find(first.objects)
            with meter("Tasks", outcome.total, "tasks", quiet=True) as advance:
                _note(outcome, set(outcome.pending), first.objects, advance)
                while outcome.pending:
                    change = next(changes, None)
                    if change is None:
                        raise _late(outcome)
                    _note(outcome, outcome.pending & change.names, change.objects, advance)
    except KeyboardInterrupt:
        raise CliError(
            f"Interrupted: {outcome.done} of {output.plural(outcome.total, 'task')} completed; the others run on.",
            exit_code=INTERRUPTED,
        ) from None
    if outcome.failed:
        raise CliError(
            f"{len(outcome.failed)} of {output.plural(outcome.total, 'task')} failed:"
            f" {some(sorted(outcome.failed), _NAMED)}",
            f"See what one wrote: packhorse task logs --stderr {min(outcome.failed)}",
        )
    if outcome.total > 1:
        print(f"{outcome.total} tasks succeeded")


def _note(outcome: Outcome, changed: set[str], objects: Mapping[str, Json], advance: Advance) -> None:
    """Take over what these tasks have become, with a line for each that is completed."""
    for name in sorted(changed):
        item = objects.get(name)
        status = item.get("status", {}) if item else {}
        if item is None:
            outcome.failed[name] = "it was deleted"
        elif status.get("state") != "completed":
            continue
        elif status.get("executionInfo", {}).get("result") == "success":
            outcome.succeeded.add(name)
        else:
            outcome.failed[name] = why_failed(status)
        outcome.pending.discard(name)
        result = f"failed: {outcome.failed[name]}" if name in outcome.failed else "succeeded"
        print(f"task/{name} {result}", flush=True)
    advance(outcome.done)


def why_failed(status: Json) -> str:
    """A completed task's failure in one line."""
    execution = status.get("executionInfo") or {}
    failure = execution.get("failureInfo") or {}
    code = execution.get("exitCode")
    words = [f"exit code {code}"] if code else []
    if failure.get("code") != "FailureExitCode" or not words:
        words += [text for text in (failure.get("code"), failure.get("message")) if text]
        words += [f"{detail['name']}: {detail['value']}" for detail in failure.get("details") or []]
    node = status.get("nodeName")
    return "; ".join(words or ["no reason is given"]) + (f" (node {node})" if node else "")


def _late(outcome: Outcome) -> CliError:
    return CliError(
        f"The time is up: {len(outcome.pending)} of {output.plural(outcome.total, 'task')} not completed:"
        f" {some(sorted(outcome.pending), _NAMED)}",
        "They run on; wait again, or see: kubectl get tasks",
    )
