"""What a node is told of a task: its command line, its environment, its own packages; or why it cannot run at all."""

from collections.abc import Sequence

from packhorse.domain import azure
from packhorse.domain.environment import CollisionError, package_variables, task_variables
from packhorse.domain.references import Catalog, UnresolvedReferenceError
from packhorse.domain.tasks import seconds
from packhorse.model import Task
from packhorse.protocol import Problem, RunTask, VisiblePackage


class ImpossibleTaskError(Exception):
    """A task that cannot run with the packages that it names.

    Attributes:
        problem: Why, in Batch's words.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.cause)
        self.problem = problem


def run_task(task: Task, deployed: Sequence[VisiblePackage], catalog: Catalog) -> RunTask:
    """The message by which a node runs the attempt that a task's status shows.

    Args:
        task: The task.
        deployed: The pool's packages as the node installed them.
        catalog: The applications and packages of the task's namespace.

    Raises:
        ImpossibleTaskError: A reference means nothing, or two packages want the same variable.
    """
    spec, limit = task.spec, task.spec.constraints.max_wall_clock_time
    try:
        own = catalog.resolve_all(spec.application_package_references)
        visible = [*deployed, *own]
        environment = package_variables(visible, catalog.defaults(visible))
    except (UnresolvedReferenceError, CollisionError) as error:
        raise ImpossibleTaskError(_problem(task, error)) from error
    environment |= task_variables(
        account=task.metadata.namespace, job_id=spec.job_id, name=task.metadata.name, attempt=task.status.attempt
    )
    environment |= {setting.name: setting.value for setting in spec.environment_settings}
    return RunTask(
        uid=task.metadata.uid,
        name=task.metadata.name,
        job_id=spec.job_id,
        attempt=task.status.attempt,
        command_line=spec.command_line,
        environment=environment,
        packages=tuple(item.package for item in own),
        max_wall_clock_time=seconds(limit) if limit else None,
    )


def _problem(task: Task, error: UnresolvedReferenceError | CollisionError) -> Problem:
    if isinstance(error, UnresolvedReferenceError):
        return azure.invalid_packages(azure.INVALID_FOR_TASK, error.reference, azure.INVALID_REFERENCES, error.cause)
    references = ", ".join(reference.text for reference in task.spec.application_package_references)
    return azure.invalid_packages(azure.INVALID_FOR_TASK, references, azure.INVALID_REFERENCES, str(error))
