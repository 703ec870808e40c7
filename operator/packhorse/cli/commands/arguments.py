"""Arguments that name things of the cluster, and can be completed from there."""

from typing import Annotated

import typer

from packhorse.cli.options import Target


def _names(context: typer.Context, plural: str) -> list[str]:
    from packhorse.cli import completion

    return completion.values(_target(context), plural, application=context.params.get("application"))


def _target(context: typer.Context) -> Target:
    """The options that are there already: a command line that is being written has not been run through."""
    given: dict[str, str] = {}
    current: typer.Context | None = context
    while current is not None:
        for name in ("namespace", "context", "kubeconfig"):
            if current.params.get(name):
                given.setdefault(name, current.params[name])
        current = current.parent  # type: ignore[assignment]
    return Target(**given)


def complete_applications(context: typer.Context, incomplete: str) -> list[str]:
    """Applications that begin with what is typed."""
    return [name for name in _names(context, "applications") if name.startswith(incomplete)]


def complete_versions(context: typer.Context, incomplete: str) -> list[str]:
    """Versions of the application before it that begin with what is typed."""
    return [name for name in _names(context, "versions") if name.startswith(incomplete)]


def complete_pools(context: typer.Context, incomplete: str) -> list[str]:
    """Pools that begin with what is typed."""
    return [name for name in _names(context, "pools") if name.startswith(incomplete)]


def complete_tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Tasks that begin with what is typed."""
    return [name for name in _names(context, "tasks") if name.startswith(incomplete)]


def complete_nodes(context: typer.Context, incomplete: str) -> list[str]:
    """Nodes that begin with what is typed, and were not named before."""
    given = context.params.get("names") or ()
    return [name for name in _names(context, "nodes") if name.startswith(incomplete) and name not in given]


def complete_references(context: typer.Context, incomplete: str) -> list[str]:
    """References to packages, with and without a version, that begin with what is typed."""
    return [name for name in _names(context, "references") if name.startswith(incomplete)]


ApplicationArgument = Annotated[
    str,
    typer.Argument(metavar="APP", help="Id of the application, such as ffmpeg.", autocompletion=complete_applications),
]
VersionArgument = Annotated[
    str,
    typer.Argument(metavar="VERSION", help="Version of the package, such as 7.0.2.", autocompletion=complete_versions),
]
VersionsArgument = Annotated[
    list[str], typer.Argument(metavar="VERSION", help="Versions of the packages.", autocompletion=complete_versions)
]
PoolArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the pool.", autocompletion=complete_pools)]
TaskArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the task.", autocompletion=complete_tasks)]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name of the node, such as render-0.", autocompletion=complete_nodes)
]
NodesArgument = Annotated[
    list[str], typer.Argument(metavar="NODE", help="Names of nodes, such as render-0.", autocompletion=complete_nodes)
]
