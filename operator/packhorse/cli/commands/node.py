"""``packhorse node``."""

from typing import Annotated

import typer

from packhorse.cli.commands.arguments import NodeArgument, NodesArgument, complete_pools
from packhorse.cli.options import (
    AwaitBackOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    RunningTasks,
    RunningTasksOption,
    TimeoutOption,
    target,
)
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="Single nodes of pools.", rich_markup_mode=None)


@app.command("list", epilog=examples("node list", "node list render -o wide"))
def list_nodes(
    ctx: typer.Context,
    pool: Annotated[
        str | None, typer.Argument(metavar="POOL", help="Only those of this pool.", autocompletion=complete_pools)
    ] = None,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List nodes: state, packages, running tasks."""
    from packhorse.cli import nodes

    nodes.show_all(target(ctx, namespace, context, kubeconfig), pool, form)


@app.command("show", epilog=examples("node show render-0"))
def show_node(
    ctx: typer.Context,
    name: NodeArgument,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show a node: state, packages, start task, and in full what is wrong with it."""
    from packhorse.cli import nodes

    nodes.show(target(ctx, namespace, context, kubeconfig), name, form)


@app.command(
    "reboot", epilog=examples("node reboot render-0 --wait", "node reboot render-0 render-1 --running-tasks terminate")
)
def reboot_nodes(
    ctx: typer.Context,
    names: NodesArgument,
    running_tasks: RunningTasksOption = None,
    wait: AwaitBackOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Reboot nodes: they start anew, with the packages that their pool refers to now. Their volumes stay."""
    from packhorse.cli import restarts

    where, option = target(ctx, namespace, context, kubeconfig), running_tasks or RunningTasks.REQUEUE
    restarts.restart_nodes(where, names, "reboot", option, timeout, wait=wait)


@app.command("reimage", epilog=examples("node reimage render-0 --wait"))
def reimage_nodes(
    ctx: typer.Context,
    names: NodesArgument,
    running_tasks: RunningTasksOption = None,
    wait: AwaitBackOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Reboot nodes with new volumes: packages and tasks' files on them are gone."""
    from packhorse.cli import restarts

    where, option = target(ctx, namespace, context, kubeconfig), running_tasks or RunningTasks.REQUEUE
    restarts.restart_nodes(where, names, "reimage", option, timeout, wait=wait)


@app.command(
    "disable", epilog=examples("node disable render-0", "node disable render-0 --running-tasks taskcompletion")
)
def disable_nodes(
    ctx: typer.Context,
    names: NodesArgument,
    running_tasks: RunningTasksOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Give nodes no further tasks, until they are enabled or rebooted."""
    from packhorse.cli import scheduling

    scheduling.disable(target(ctx, namespace, context, kubeconfig), names, running_tasks)


@app.command("enable", epilog=examples("node enable render-0"))
def enable_nodes(
    ctx: typer.Context,
    names: NodesArgument,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Give nodes tasks again."""
    from packhorse.cli import scheduling

    scheduling.enable(target(ctx, namespace, context, kubeconfig), names)


@app.command("logs", epilog=examples("node logs render-0 --stderr", "node logs -f render-0"))
def show_logs(
    ctx: typer.Context,
    name: NodeArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the start task is completed.")] = False,
    stderr: Annotated[
        bool, typer.Option("--stderr", help="Its standard error in place of its standard output.")
    ] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Print what a node's start task wrote."""
    from packhorse.cli import startup

    show = startup.follow if follow else startup.show
    show(target(ctx, namespace, context, kubeconfig), name, "stderr" if stderr else "stdout")
