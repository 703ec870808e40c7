"""``packhorse pool``."""

from typing import Annotated

import typer

from packhorse.cli.commands import autoscale
from packhorse.cli.commands.arguments import PoolArgument, complete_references
from packhorse.cli.errors import UsageError
from packhorse.cli.options import (
    AwaitBackOption,
    ContextOption,
    IgnoreNotFoundOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    RunningTasks,
    RunningTasksOption,
    Switch,
    TimeoutOption,
    WaitOption,
    target,
)
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="Pools and their nodes.", rich_markup_mode=None)
app.add_typer(autoscale.app, name="autoscale")


@app.command("list", epilog=examples("pool list", "pool list -o wide"))
def list_pools(
    ctx: typer.Context,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List the pools with the states of their nodes."""
    from packhorse.cli import pools

    pools.show_all(target(ctx, namespace, context, kubeconfig), form)


@app.command("show", epilog=examples("pool show render"))
def show_pool(
    ctx: typer.Context,
    name: PoolArgument,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show a pool and each of its nodes: state, packages, running tasks, errors."""
    from packhorse.cli import pools

    pools.show(target(ctx, namespace, context, kubeconfig), name, form)


@app.command(
    "set",
    epilog=examples(
        "pool set render --package blender#4.2 --package ffmpeg",
        "# No packages any more.",
        "pool set render --no-packages",
    ),
)
def set_packages(
    ctx: typer.Context,
    name: PoolArgument,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="APP[#VERSION]",
            help="A package of its nodes; without a version the default one. All others go.",
            autocompletion=complete_references,
        ),
    ] = None,
    no_packages: Annotated[bool, typer.Option("--no-packages", help="No packages at all.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Replace the packages that a pool refers to. Nodes get them when they start, or with nodeUpdatePolicy Rolling."""
    from packhorse.cli import poolpackages

    if bool(package) is no_packages:
        raise UsageError("Say which packages: either --package or --no-packages.")
    poolpackages.replace(target(ctx, namespace, context, kubeconfig), name, package or [])


@app.command(
    "resize", epilog=examples("pool resize render 5 --wait", "pool resize render 0 --running-tasks taskcompletion")
)
def resize_pool(
    ctx: typer.Context,
    name: PoolArgument,
    count: Annotated[int, typer.Argument(metavar="N", min=0, max=10000, help="How many nodes it is to have.")],
    running_tasks: Annotated[
        RunningTasks | None,
        typer.Option(
            "--running-tasks",
            help="What becomes of running tasks on nodes that leave; it sets the pool's nodeDeallocationOption.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has so many; fail if a new one cannot run tasks.")
    ] = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Set how many nodes a pool has. The nodes with the highest numbers leave."""
    from packhorse.cli import sizing

    where = target(ctx, namespace, context, kubeconfig)
    sizing.resize(where, name, count, running_tasks, timeout, wait=wait)


@app.command(
    "reboot",
    epilog=examples("pool reboot render", "pool reboot render --running-tasks taskcompletion --wait --timeout 1h"),
)
def reboot_pool(
    ctx: typer.Context,
    name: PoolArgument,
    running_tasks: RunningTasksOption = None,
    wait: AwaitBackOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Reboot all nodes that a pool has now; what is on their volumes stays."""
    from packhorse.cli import restarts

    where, option = target(ctx, namespace, context, kubeconfig), running_tasks or RunningTasks.REQUEUE
    restarts.restart_pool(where, name, "reboot", option, timeout, wait=wait)


@app.command("reimage", epilog=examples("pool reimage render --wait"))
def reimage_pool(
    ctx: typer.Context,
    name: PoolArgument,
    running_tasks: RunningTasksOption = None,
    wait: AwaitBackOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Reboot all nodes that a pool has now, with new volumes: packages and tasks' files on them are gone."""
    from packhorse.cli import restarts

    where, option = target(ctx, namespace, context, kubeconfig), running_tasks or RunningTasks.REQUEUE
    restarts.restart_pool(where, name, "reimage", option, timeout, wait=wait)


@app.command("delete", epilog=examples("pool delete render", "pool delete render --wait=false"))
def delete_pool(
    ctx: typer.Context,
    name: PoolArgument,
    wait: WaitOption = Switch.TRUE,
    ignore_not_found: IgnoreNotFoundOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Delete a pool with its nodes and their volumes. Its tasks stay, and wait for a pool of that name."""
    from packhorse.cli import deletion

    where = target(ctx, namespace, context, kubeconfig)
    deletion.delete_pool(where, name, timeout, wait=wait.on, ignore_not_found=ignore_not_found)
