"""``packhorse app``."""

from typing import Annotated

import typer

from packhorse.cli.commands.arguments import ApplicationArgument, complete_versions
from packhorse.cli.errors import UsageError
from packhorse.cli.options import (
    ContextOption,
    IgnoreNotFoundOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    Switch,
    TimeoutOption,
    WaitOption,
    target,
)
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="Applications.", rich_markup_mode=None)


@app.command("list", epilog=examples("app list", "app list -o wide"))
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


@app.command("show", epilog=examples("app show blender"))
def show_application(
    ctx: typer.Context,
    application: ApplicationArgument,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show an application and all of its packages."""
    from packhorse.cli import applications

    applications.show(target(ctx, namespace, context, kubeconfig), application, form)


@app.command("set-default", epilog=examples("app set-default blender 2.7", "app set-default blender --none"))
def set_default_version(
    ctx: typer.Context,
    application: ApplicationArgument,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="An active version.", autocompletion=complete_versions),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="No default version.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Set the version that a reference without a version means."""
    from packhorse.cli import applications

    if none is (version is not None):
        raise UsageError("Say which version: either VERSION or --none.")
    applications.set_default(target(ctx, namespace, context, kubeconfig), application, version)


@app.command(
    "update",
    epilog=examples(
        "# Nobody replaces or deletes an active version any more.", "app update blender --allow-updates=false"
    ),
)
def update_application(
    ctx: typer.Context,
    application: ApplicationArgument,
    allow_updates: Annotated[
        Switch | None,
        typer.Option("--allow-updates", metavar="true|false", help="Whether packages may be replaced or deleted."),
    ] = None,
    display_name: Annotated[
        str | None, typer.Option("--display-name", metavar="TEXT", help="A name for people; empty for none.")
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Change an application."""
    from packhorse.cli import applications

    allowed = None if allow_updates is None else allow_updates.on
    applications.update(target(ctx, namespace, context, kubeconfig), application, allowed, display_name)


@app.command("delete", epilog=examples("app delete blender", "app delete blender --all-packages"))
def delete_application(
    ctx: typer.Context,
    application: ApplicationArgument,
    all_packages: Annotated[
        bool, typer.Option("--all-packages", help="Delete its packages first, with their files.")
    ] = False,
    wait: WaitOption = Switch.TRUE,
    ignore_not_found: IgnoreNotFoundOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Delete an application. It is refused while there are packages, unless they are to go as well."""
    from packhorse.cli import deletion

    deletion.delete_application(
        target(ctx, namespace, context, kubeconfig),
        application,
        timeout,
        wait=wait.on,
        all_packages=all_packages,
        ignore_not_found=ignore_not_found,
    )
