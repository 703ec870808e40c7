"""``packhorse package``."""

from pathlib import Path
from typing import Annotated

import typer

from packhorse.cli.options import (
    ContextOption,
    KubeconfigOption,
    Manifest,
    NamespaceOption,
    TimeoutOption,
    target,
)

app = typer.Typer(no_args_is_help=True, help="Application packages.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Keep ``upload`` a command of its own, though there is but one."""


@app.command("upload")
def upload_package(
    ctx: typer.Context,
    application: Annotated[str, typer.Argument(help="Id of the application, such as ffmpeg.")],
    version: Annotated[str, typer.Argument(help="Version of the package, such as 7.0.2.")],
    file: Annotated[Path, typer.Argument(help="The ZIP file.", show_default=False)],
    set_default: Annotated[
        bool, typer.Option("--set-default", help="Make it the application's default version.")
    ] = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take fields over that somebody else manages, such as GitOps.")
    ] = False,
    timeout: TimeoutOption = "15m",
    form: Annotated[
        Manifest | None,
        typer.Option("-o", "--output", help="Print the manifests, for a Git repository; upload nothing."),
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Upload a ZIP file as a version of an application, and wait until it can be used.

    It is checked before a byte is sent, and nodes take no other content than this. Running the same command again
    after an interruption is safe.
    """
    from packhorse.cli import packages

    upload = packages.Upload(application, version, file, set_default=set_default)
    if form:
        upload.print_manifests(form)
    else:
        upload.run(target(ctx, namespace, context, kubeconfig), timeout, force_conflicts=force_conflicts)
