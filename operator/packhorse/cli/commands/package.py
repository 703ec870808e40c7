"""``packhorse package``."""

from pathlib import Path
from typing import Annotated

import typer

from packhorse.cli.commands.arguments import (
    ApplicationArgument,
    VersionArgument,
    VersionsArgument,
    complete_applications,
)
from packhorse.cli.options import (
    ContextOption,
    IgnoreNotFoundOption,
    KubeconfigOption,
    Manifest,
    NamespaceOption,
    OutputOption,
    Switch,
    TimeoutOption,
    WaitOption,
    target,
)
from packhorse.cli.program import examples

app = typer.Typer(no_args_is_help=True, help="Application packages.", rich_markup_mode=None)


@app.command(
    "upload",
    epilog=examples(
        "# A ZIP file as version 7.0.2 of ffmpeg, from now on its default version.",
        "package upload ffmpeg 7.0.2 ffmpeg.zip --set-default",
        "# A folder.",
        "package upload blender 4.2 ./blender-4.2/",
        "# Other content for a version that is active.",
        "package upload ffmpeg 7.0.2 fixed.zip --replace",
        "# The manifests for a Git repository.",
        "package upload ffmpeg 7.0.2 ffmpeg.zip -o yaml > ffmpeg.yaml",
    ),
)
def upload_package(
    ctx: typer.Context,
    application: ApplicationArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Version of the package, such as 7.0.2.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A ZIP file, or a folder to pack.", show_default=False)],
    set_default: Annotated[
        bool, typer.Option("--set-default", help="Make it the application's default version.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace other content that is active as this version.")
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
    """Upload a ZIP file or a folder as a version of an application, and wait until it can be used.

    It is checked before a byte is sent, and nodes take no other content than this. Running the same command again
    after an interruption goes on where it ended. --timeout is for the time after the upload.
    """
    from packhorse.cli import content, names, packing, publish

    names.package(application, version)
    with packing.packed(path) as file:
        publication = publish.Publication(application, version, content.judge(file), set_default=set_default)
        if form:
            publication.print_manifests(form)
        else:
            where = target(ctx, namespace, context, kubeconfig)
            publication.run(where, timeout, replace=replace, force_conflicts=force_conflicts)


@app.command(
    "pack",
    epilog=examples("package pack ./blender-4.2/ -o blender-4.2.zip"),
)
def pack_folder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The ZIP file to write.")],
) -> None:
    """Pack a folder as a ZIP file, as upload does: the same folder gives the same digest.

    Only the owner's execute bits count of the modes. Symbolic links are kept where they stay inside.
    """
    from packhorse.cli import content, packing

    packing.pack(folder, output)
    print(f"{output} ({content.judge(output)})")


@app.command("list", epilog=examples("package list", "package list ffmpeg -o wide"))
def list_packages(
    ctx: typer.Context,
    application: Annotated[
        str | None,
        typer.Argument(metavar="APP", help="Only those of this application.", autocompletion=complete_applications),
    ] = None,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List packages and their states."""
    from packhorse.cli import packages

    packages.show_all(target(ctx, namespace, context, kubeconfig), application, form)


@app.command("show", epilog=examples("package show blender 2.7"))
def show_package(
    ctx: typer.Context,
    application: ApplicationArgument,
    version: VersionArgument,
    form: OutputOption = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show a package: state, digest, size, and what is wrong with it."""
    from packhorse.cli import packages

    packages.show(target(ctx, namespace, context, kubeconfig), application, version, form)


@app.command("delete", epilog=examples("package delete ffmpeg 4.2.2", "package delete ffmpeg 4.2.1 4.2.2 --wait=false"))
def delete_packages(
    ctx: typer.Context,
    application: ApplicationArgument,
    versions: VersionsArgument,
    wait: WaitOption = Switch.TRUE,
    ignore_not_found: IgnoreNotFoundOption = False,
    timeout: TimeoutOption = "0",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Delete packages, with their files in the linked storage account.

    Where one of them is the default version, its application has none afterwards. Nodes keep what they have.
    """
    from packhorse.cli import deletion

    deletion.delete_versions(
        target(ctx, namespace, context, kubeconfig),
        application,
        versions,
        timeout,
        wait=wait.on,
        ignore_not_found=ignore_not_found,
    )


@app.command(
    "download", epilog=examples("package download blender 2.7", "package download blender 2.7 -f /tmp/blender.zip")
)
def download_package(
    ctx: typer.Context,
    application: ApplicationArgument,
    version: VersionArgument,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="The file to write. Default: APP.VERSION.zip."),
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Download a package's ZIP file. It is there as a whole, with the right digest, or not at all."""
    from packhorse.cli import download

    download.download(target(ctx, namespace, context, kubeconfig), application, version, file)


@app.command(
    "verify",
    epilog=examples(
        "# Have the operator read the file in the storage account again.",
        "package verify blender 2.7",
        "# Is this file, or this folder, what is active?",
        "package verify blender 2.7 ./blender.zip",
    ),
)
def verify_package(
    ctx: typer.Context,
    application: ApplicationArgument,
    version: VersionArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A ZIP file or a folder to compare.", show_default=False)
    ] = None,
    timeout: TimeoutOption = "1h",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Verify that a package is what was activated. The exit code is 1 where it is not."""
    from packhorse.cli import verification

    verification.verify(target(ctx, namespace, context, kubeconfig), application, version, file, timeout)


@app.command(
    "activate",
    epilog=examples(
        "# After another tool wrote NAMESPACE/blender.2.7.zip into the linked container.",
        "package activate blender 2.7",
    ),
)
def activate_package(
    ctx: typer.Context,
    application: ApplicationArgument,
    version: VersionArgument,
    timeout: TimeoutOption = "15m",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Take over the file that another tool put into the linked container, and wait until it can be used."""
    from packhorse.cli import packages

    packages.activate(target(ctx, namespace, context, kubeconfig), application, version, timeout)
