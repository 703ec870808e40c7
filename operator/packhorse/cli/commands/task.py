"""``packhorse task``."""

from pathlib import Path
from typing import Annotated

import typer

from packhorse.cli.commands.arguments import TaskArgument, complete_pools, complete_references
from packhorse.cli.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    TimeoutOption,
    target,
)
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="Tasks.", rich_markup_mode=None)


@app.command(
    "submit",
    epilog=examples(
        "task submit -p render -- 'echo $AZ_BATCH_NODE_ID'",
        "task submit -p render --package ffmpeg#7.0.2 --wait -- '$AZ_BATCH_APP_PACKAGE_ffmpeg/bin/ffmpeg' -version",
    ),
)
def submit_task(
    ctx: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            help="After --: one quoted command line for /bin/sh, or a program and its arguments.", show_default=False
        ),
    ],
    pool: Annotated[
        str, typer.Option("-p", "--pool", help="Name of the pool that runs it.", autocompletion=complete_pools)
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name of the task. Default: one that is free.")] = None,
    job: Annotated[str | None, typer.Option("--job", help="Job that it belongs to.")] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="APP[#VERSION]",
            help="A package that it needs besides the pool's.",
            autocompletion=complete_references,
        ),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="A variable of its environment.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is completed; fail if it fails.")] = False,
    timeout: TimeoutOption = "0",
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Run a command line on a node of a pool.

    A program and its arguments are each kept as one word; variables in them, such as
    '$AZ_BATCH_APP_PACKAGE_ffmpeg/bin/ffmpeg', are those of the node.
    """
    from packhorse.cli import tasks

    tasks.submit(
        target(ctx, namespace, context, kubeconfig),
        tasks.manifest(command, pool=pool, name=name, job=job, packages=package or [], environment=env or []),
        form,
        wait=wait,
        timeout=timeout,
    )


@app.command("wait", epilog=examples("task wait frame-001", "task wait --job nightly --timeout 1h"))
def wait_for_tasks(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of tasks.")] = None,
    job: Annotated[str | None, typer.Option("--job", help="All tasks of this job.")] = None,
    selector: Annotated[
        str, typer.Option("-l", "--selector", metavar="LABELS", help="All tasks with these labels.")
    ] = "",
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Wait until tasks are completed. The exit code is 0 only when all of them succeeded."""
    from packhorse.cli import waiting

    choice = waiting.Choice(tuple(names or ()), job, selector)
    waiting.wait(target(ctx, namespace, context, kubeconfig), choice, timeout)


@app.command("logs", epilog=examples("task logs -f frame-001"))
def show_logs(
    ctx: typer.Context,
    name: TaskArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the task is completed.")] = False,
    stderr: Annotated[
        bool, typer.Option("--stderr", help="Its standard error in place of its standard output.")
    ] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Print what a task wrote: all of it from its node, or the last lines when the node is gone."""
    from packhorse.cli import logs

    show = logs.follow if follow else logs.show
    show(target(ctx, namespace, context, kubeconfig), name, "stderr" if stderr else "stdout")


@app.command("cp", epilog=examples("task cp frame-007:frame.png ."))
def copy_file(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="NAME:PATH", help="A task, and a file below its directory wd.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A file or a directory here, or - for stdout.")],
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Copy a file of a task from its node."""
    from packhorse.cli import tasks

    tasks.copy_file(target(ctx, namespace, context, kubeconfig), source, destination)
