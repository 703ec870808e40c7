"""``packhorse storage``."""

from typing import Annotated

import typer

from packhorse.cli.options import ContextOption, KubeconfigOption, Manifest, NamespaceOption, target
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="The linked storage account.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Keep ``status`` a command of its own, though there is but one."""


@app.command("status", epilog=examples("storage status"))
def show_status(
    ctx: typer.Context,
    form: Annotated[Manifest | None, typer.Option("-o", "--output", help="Output format.", show_default=False)] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show how the storage account is that a namespace's packages lie in, and how much of it they take."""
    from packhorse.cli import storage

    storage.show(target(ctx, namespace, context, kubeconfig), form)
