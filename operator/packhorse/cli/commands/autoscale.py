"""``packhorse pool autoscale``."""

from typing import Annotated

import typer

from packhorse.cli.commands.arguments import PoolArgument
from packhorse.cli.options import ContextOption, KubeconfigOption, NamespaceOption, target
from packhorse.cli.program import examples

app = typer.Typer(
    no_args_is_help=True,
    help="Let the number of a pool's nodes follow its tasks.",
    rich_markup_mode=None,
    epilog=examples("pool autoscale enable render --max 20"),
)


@app.command(
    "enable", epilog=examples("pool autoscale enable render --min 1 --max 20", "pool autoscale enable render --max 30")
)
def enable_autoscale(
    ctx: typer.Context,
    name: PoolArgument,
    least: Annotated[
        int | None, typer.Option("--min", metavar="N", min=0, max=10000, help="Never fewer nodes. Default: 0.")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", metavar="N", min=1, max=10000, help="Never more nodes.")] = None,
    delay: Annotated[
        str | None,
        typer.Option(
            "--scale-down-delay",
            metavar="DURATION",
            help="For how long fewer nodes must have been enough before some go. Default: 5m.",
        ),
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Let the number of nodes follow the slots that tasks need; or change its limits."""
    from packhorse.cli import sizing

    sizing.enable_autoscale(target(ctx, namespace, context, kubeconfig), name, least, most, delay)


@app.command("disable", epilog=examples("pool autoscale disable render", "pool autoscale disable render --target 3"))
def disable_autoscale(
    ctx: typer.Context,
    name: PoolArgument,
    count: Annotated[
        int | None,
        typer.Option(
            "--target",
            metavar="N",
            min=0,
            max=10000,
            help="How many nodes it has from now on. Default: as many as now.",
        ),
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Keep the number of nodes as it is, or set it."""
    from packhorse.cli import sizing

    sizing.disable_autoscale(target(ctx, namespace, context, kubeconfig), name, count)
