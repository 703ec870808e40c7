"""``packhorse app``."""

import typer

from packhorse.cli.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    target,
)

app = typer.Typer(no_args_is_help=True, help="Applications.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Keep ``list`` a command of its own, though there is but one."""


@app.command("list")
def list_applications(
    ctx: typer.Context,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List the applications with their active versions."""
    from packhorse.cli import applications

    applications.show_all(target(ctx, namespace, context, kubeconfig), form)
