"""Options that commands share, in kubectl's words."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How a result is printed."""

    WIDE = "wide"
    YAML = "yaml"
    JSON = "json"
    NAME = "name"


class Manifest(StrEnum):
    """How a manifest is printed."""

    YAML = "yaml"
    JSON = "json"


class Switch(StrEnum):
    """A choice as kubectl writes it: ``--wait=false``."""

    TRUE = "true"
    FALSE = "false"

    @property
    def on(self) -> bool:
        """Whether it is true."""
        return self is Switch.TRUE


class RunningTasks(StrEnum):
    """What becomes of a node's running tasks, in Batch's words."""

    REQUEUE = "requeue"
    TERMINATE = "terminate"
    TASK_COMPLETION = "taskcompletion"


NamespaceOption = Annotated[
    str | None, typer.Option("-n", "--namespace", metavar="NAME", help="Namespace. Default: that of the context.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig. Default: the current one.")
]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", metavar="PATH", help="Kubeconfig. Default: $KUBECONFIG, ~/.kube/config.")
]
OutputOption = Annotated[Output | None, typer.Option("-o", "--output", help="Output format.", show_default=False)]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Give up after this time, such as 90s, 5m or 1h; 0: never.")
]
RunningTasksOption = Annotated[
    RunningTasks | None,
    typer.Option(
        "--running-tasks",
        help="What becomes of running tasks: they run again elsewhere (requeue), fail (terminate), or are waited for"
        " (taskcompletion). Default: requeue.",
        show_default=False,
    ),
]
WaitOption = Annotated[Switch, typer.Option("--wait", metavar="true|false", help="Wait until it is gone.")]
AwaitBackOption = Annotated[bool, typer.Option("--wait", help="Wait until they take tasks again; fail if one cannot.")]
IgnoreNotFoundOption = Annotated[bool, typer.Option("--ignore-not-found", help="What is not there counts as deleted.")]


@dataclass(frozen=True)
class Target:
    """Which cluster and namespace a command is for; None leaves it to the kubeconfig."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


def target(context: typer.Context, namespace: str | None, kube_context: str | None, kubeconfig: str | None) -> Target:
    """What a command's own options say, else those before the command (``packhorse -n render app list``)."""
    outer = context.find_object(Target) or Target()
    return Target(namespace or outer.namespace, kube_context or outer.context, kubeconfig or outer.kubeconfig)
