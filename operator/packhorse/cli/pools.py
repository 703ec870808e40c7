"""Pools: what there is, and all that is known of one and of its nodes."""

from collections import Counter

from packhorse.cli import nodeview, output, references
from packhorse.cli.cluster import POOLS
from packhorse.cli.connection import connect
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.domain.upkeep import unread_annotations
from packhorse.model import Pool
from packhorse.model.node import OPTION_ANNOTATION, REBOOT_BEFORE_ANNOTATION, REIMAGE_BEFORE_ANNOTATION
from packhorse.model.pool import NodeUpdatePolicy

_PLAIN = {"Ready": "Not ready", "PackagesResolved": "Packages", "NodesUpToDate": "Behind"}


def show_all(target: Target, form: Output | None) -> None:
    """Print the pools of a namespace."""
    with connect(target) as cluster:
        items = cluster.objects(POOLS)
    if form in {Output.YAML, Output.JSON, Output.NAME}:
        print(output.objects(items, POOLS.singular, form))
        return
    pools = [parse(Pool, item) for item in items]
    if not pools:
        output.say(f"No pools in namespace {cluster.namespace}. A pool is made from YAML: kubectl apply -f pool.yaml")
        return
    heading = ["POOL", "NODES", "STATE", "IDLE", "RUNNING", "UNUSABLE", "OUTDATED", "AGE"]
    if form is Output.WIDE:
        heading += ["OFFLINE", "UNKNOWN", "AUTOSCALE", "PACKAGES", "IMAGE"]
    print(output.table(heading, [_row(pool, wide=form is Output.WIDE) for pool in pools]))


def _row(pool: Pool, *, wide: bool) -> list[str]:
    spec, status = pool.spec, pool.status
    row = [
        pool.metadata.name,
        f"{status.current_nodes}/{spec.target_nodes}",
        "deleting" if pool.metadata.deletion_timestamp else status.allocation_state or "",
        str(status.idle_nodes),
        str(status.running_nodes),
        str(status.unusable_nodes),
        str(status.outdated_nodes),
        output.age(pool.metadata.creation_timestamp),
    ]
    if wide:
        limits = f"{spec.auto_scale.min_nodes}-{spec.auto_scale.max_nodes}" if spec.auto_scale else ""
        installed = nodeview.packages(status.packages, wide=True)
        row += [str(status.offline_nodes), str(status.unknown_nodes), limits, installed, spec.image]
    return row


def show(target: Target, name: str, form: Output | None) -> None:
    """Print a pool and its nodes."""
    with connect(target) as cluster:
        item = cluster.get(POOLS, name)
    if form in {Output.YAML, Output.JSON, Output.NAME}:
        print(output.one_object(item, POOLS.singular, form))
        return
    pool = parse(Pool, item)
    print(output.facts([*_summary(pool), *_notes(pool)]))
    if pool.status.nodes:
        print()
        print(nodeview.table([(pool, node) for node in pool.status.nodes], wide=form is Output.WIDE))
    for node in pool.status.nodes:
        if lines := nodeview.errors(node):
            print("\n" + "\n".join(lines))


def _summary(pool: Pool) -> list[tuple[str, str]]:
    """What holds for all nodes, a line for each fact."""
    spec, status = pool.spec, pool.status
    steady = f" ({status.allocation_state})" if status.allocation_state else ""
    states = Counter(str(node.state) for node in status.nodes)
    named = ", ".join(
        written + (" (default version)" if reference.version is None else "")
        for reference in spec.application_package_references
        for written in [references.written(reference)]
    )
    facts = [
        ("Pool", pool.metadata.name),
        ("Nodes", f"{status.current_nodes} of {spec.target_nodes}{steady}"),
        ("States", ", ".join(f"{count} {state}" for state, count in states.items())),
        ("Autoscale", _autoscale(pool)),
        ("Slots per node", str(spec.task_slots_per_node)),
        ("Image", spec.image),
        ("References", named or "none"),
        ("Installs now", nodeview.packages(status.packages, wide=True) or "nothing"),
        ("Updates", _updates(pool)),
    ]
    return [fact for fact in facts if fact[1]]


def _autoscale(pool: Pool) -> str:
    limits, run = pool.spec.auto_scale, pool.status.auto_scale_run
    if limits is None:
        return ""
    words = f"{limits.min_nodes} to {limits.max_nodes} nodes"
    if run is None:
        return words
    words += f"; needed now: {run.needed_nodes}"
    if run.scale_down_since:
        words += (
            f"; at most {run.peak_nodes} for {output.age(run.scale_down_since)},"
            f" goes down after {limits.scale_down_delay}"
        )
    return words


def _updates(pool: Pool) -> str:
    if pool.spec.node_update_policy is not NodeUpdatePolicy.ROLLING:
        return str(pool.spec.node_update_policy)
    most = pool.spec.rolling_update.max_unavailable
    return f"{pool.spec.node_update_policy}, at most {output.plural(most, 'node')} unavailable"


def _notes(pool: Pool) -> list[tuple[str, str]]:
    """What deserves a look: what was asked for, what is not as it should be."""
    annotations, facts = pool.metadata.annotations, []
    for annotation, what in ((REBOOT_BEFORE_ANNOTATION, "Reboots"), (REIMAGE_BEFORE_ANNOTATION, "Reimages")):
        if any(node.pending == what.lower().removesuffix("s") for node in pool.status.nodes):
            option = annotations.get(OPTION_ANNOTATION, "requeue")
            if annotation in annotations:
                facts.append((what, f"nodes from before {annotations[annotation]}; running tasks: {option}"))
    facts += [("Not understood", text) for text in unread_annotations(pool)]
    if pool.metadata.deletion_timestamp:
        facts.append(("Deleting", f"since {output.age(pool.metadata.deletion_timestamp)}"))
    if pool.status.observed_generation < pool.metadata.generation:
        facts.append(("Note", "the operator has not acted on the latest change yet"))
    said = set()
    for condition in pool.status.conditions:
        words = condition.message or condition.reason
        if condition.status != "True" and words not in said:
            said.add(words)
            facts.append((_PLAIN.get(condition.type, condition.type), words))
    return facts
