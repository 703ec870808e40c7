"""The nodes of a pool, and what is on them."""

from packhorse.cli import output
from packhorse.cli.cluster import POOLS
from packhorse.cli.connection import connect
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.model import NodeStatus, Pool
from packhorse.model.node import DeployedPackage

_DIGEST = 12  # hexadecimal digits of a digest that people see


def show(target: Target, name: str, form: Output | None) -> None:
    """Print a pool and its nodes."""
    with connect(target) as cluster:
        item = cluster.get(POOLS, name)
    if form in {Output.YAML, Output.JSON, Output.NAME}:
        print(output.one_object(item, POOLS.singular, form))
        return
    pool = parse(Pool, item)
    wide = form is Output.WIDE
    print(output.facts(_summary(pool, wide=wide)))
    if pool.status.nodes:
        heading = ["NODE", "STATE", "SINCE", "PACKAGES", "UP TO DATE", "TASKS"]
        print()
        print(output.table(heading, [_row(node, wide=wide) for node in pool.status.nodes]))
    for node in pool.status.nodes:
        for error in node.errors:
            print(f"\n{node.name}: {error.code}: {error.message}")
            for detail in error.error_details:
                print(f"  {detail.name}: {detail.value}")


def _summary(pool: Pool, *, wide: bool) -> list[tuple[str, str]]:
    """What holds for all nodes, a line for each fact."""
    spec, status = pool.spec, pool.status
    steady = f" ({status.allocation_state})" if status.allocation_state else ""
    references = ", ".join(
        f"{reference.application_id}#{reference.version}"
        if reference.version
        else f"{reference.application_id} (default version)"
        for reference in spec.application_package_references
    )
    facts = [
        ("Pool", pool.metadata.name),
        ("Nodes", f"{status.current_nodes} of {spec.target_nodes}{steady}"),
        ("Slots per node", str(spec.task_slots_per_node)),
        ("Image", spec.image),
        ("References", references or "none"),
        ("Installs now", _packages(status.packages, wide=wide) or "nothing"),
    ]
    if status.observed_generation < pool.metadata.generation:
        facts.append(("Note", "the operator has not acted on the latest change yet"))
    ready = status.condition("Ready")
    if ready and ready.status != "True":
        facts.append(("Not ready", ready.message or ready.reason))
    return facts


def _row(node: NodeStatus, *, wide: bool) -> list[str]:
    return [
        node.name,
        str(node.state),
        output.age(node.state_transition_time),
        _packages(node.packages, wide=wide),
        "yes" if node.up_to_date else "no",
        str(node.running_tasks),
    ]


def _packages(packages: tuple[DeployedPackage, ...], *, wide: bool) -> str:
    return ", ".join(
        f"{package.application_id}#{package.version}" + (f"@{package.sha256[:_DIGEST]}" if wide else "")
        for package in packages
    )
