"""The command ``packhorse``: its groups of commands, and what happens to errors."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from packhorse import __version__
from packhorse.cli.commands import app as applications
from packhorse.cli.commands import package, pool, task
from packhorse.cli.errors import INTERRUPTED, CliError
from packhorse.cli.options import ContextOption, KubeconfigOption, NamespaceOption, Target


class Commands(TyperGroup):
    """Turns the errors that a user can cause into two lines and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command line."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            print(f"error: {error.message}", file=sys.stderr)
            if error.hint:
                print(error.hint, file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            print("Interrupted.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:  # the reader, such as `head`, has enough
            sys.stdout = None
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    name="packhorse",
    help="Application packages, pools and tasks of Packhorse. Everything else is kubectl's.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(applications.app, name="app")
app.add_typer(package.app, name="package")
app.add_typer(pool.app, name="pool")
app.add_typer(task.app, name="task")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"packhorse {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep what stands before the command; the commands' own options win."""
    ctx.obj = Target(namespace, context, kubeconfig)


def main() -> None:
    """Run the command line and end the process."""
    app(prog_name="packhorse")
