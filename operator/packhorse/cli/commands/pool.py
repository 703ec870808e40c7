"""``packhorse pool``."""

from typing import Annotated

import typer

from packhorse.cli.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    target,
)

app = typer.Typer(no_args_is_help=True, help="Pools and their nodes.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Keep ``show`` a command of its own, though there is but one."""


@app.command("show")
def show_pool(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show a pool and each of its nodes: state, packages, running tasks, errors."""
    from packhorse.cli import pools

    pools.show(target(ctx, namespace, context, kubeconfig), name, form)
