"""``packhorse pool``."""

import typer

from packhorse.cli.commands.arguments import PoolArgument
from packhorse.cli.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    target,
)
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="Pools and their nodes.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Keep ``show`` a command of its own, though there is but one."""


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
