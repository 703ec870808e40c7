"""The command ``packhorse``: its groups of commands, and what happens to errors."""

import sys
import traceback
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from packhorse import __version__
from packhorse.cli import program
from packhorse.cli.commands import app as applications
from packhorse.cli.commands import node, package, pool, storage, task
from packhorse.cli.errors import INTERRUPTED, CliError, redact
from packhorse.cli.options import ContextOption, KubeconfigOption, NamespaceOption, Target

_COMPLETE = "_PACKHORSE_COMPLETE"


class Commands(TyperGroup):
    """Turns the errors that a user can cause into two lines and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command line."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            print(f"error: {redact(error.message)}", file=sys.stderr)
            if error.hint:
                print(redact(error.hint), file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            print("Interrupted.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:  # the reader, such as `head`, has enough
            sys.stdout = None
            raise typer.Exit(1) from error

    def get_params(self, ctx: Any) -> Any:
        """Its options; ``packhorse completion`` does what two that Typer adds would do."""
        params = super().get_params(ctx)
        for param in params:
            if param.name in {"install_completion", "show_completion"}:
                setattr(param, "hidden", True)  # noqa: B010  # an option has it, and its base class does not
        return params


class Shell(StrEnum):
    """A shell that completes commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


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
app.add_typer(storage.app, name="storage")
app.add_typer(pool.app, name="pool")
app.add_typer(node.app, name="node")
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


@app.command("completion", epilog=program.examples("completion bash > /etc/bash_completion.d/packhorse"))
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print a script that completes commands, ids and versions in your shell.

    As a plug-in of kubectl there is nothing to do: kubectl's own completion asks kubectl_complete-packhorse.
    """
    from packhorse.cli.completion import print_script

    print_script(app, shell)


def main() -> None:
    """Run the command line and end the process."""
    try:
        app(prog_name=program.name(), complete_var=_COMPLETE)
    except Exception:  # a fault of ours; whatever is in its words, no signature is printed
        print(redact(traceback.format_exc()), file=sys.stderr)
        raise SystemExit(1) from None


def kubectl_complete() -> None:
    """Answer ``kubectl`` that completes ``kubectl packhorse``, and end the process."""
    from packhorse.cli import completion as answers

    raise SystemExit(answers.kubectl_complete(app))
