"""The packages that a pool refers to."""

from collections.abc import Sequence

from packhorse.cli import names, output, references
from packhorse.cli.cluster import POOLS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError
from packhorse.cli.options import Target
from packhorse.cli.parsing import parse
from packhorse.domain import azure
from packhorse.domain.wording import some
from packhorse.model import Application, ApplicationPackageReference, Pool
from packhorse.model.names import application_name, package_name
from packhorse.model.pool import NodeUpdatePolicy

_NAMED = 10  # versions in a message


def replace(target: Target, name: str, texts: Sequence[str]) -> None:
    """Have a pool refer to exactly these packages.

    Args:
        target: Where it is.
        name: Its name.
        texts: ``app``, ``app#version`` or ``app:version`` each.

    Raises:
        UsageError: One is no reference.
        CliError: One means no active package; then nothing is changed.
    """
    wanted = tuple(references.parse(text) for text in texts)
    with connect(target) as cluster:
        pool = parse(Pool, cluster.get(POOLS, name))
        for reference in wanted:
            _refuse_inactive(cluster, reference)
        earlier = pool.spec.application_package_references
        words = _named(wanted)
        if wanted == earlier:
            print(f"pool/{name} unchanged (packages: {words})")
            return
        cluster.merge(POOLS, name, {"spec": {"applicationPackageReferences": [each.dump() for each in wanted]}})
        print(f"pool/{name} packages: {words} (were: {_named(earlier)})", flush=True)
        _tell(pool)


def _named(found: Sequence[ApplicationPackageReference]) -> str:
    return ", ".join(references.written(reference) for reference in found) or "none"


def _tell(pool: Pool) -> None:
    """Say when nodes get it."""
    count, name = len(pool.status.nodes), pool.metadata.name
    if not count:
        return
    if pool.spec.node_update_policy is NodeUpdatePolicy.ROLLING:
        output.say(f"The operator updates {output.plural(count, 'node')}; see: packhorse pool show {name}")
    else:
        has = (
            "1 node keeps what it has until it is"
            if count == 1
            else f"{count} nodes keep what they have until they are"
        )
        output.say(f"{has} rebooted: packhorse pool reboot {name}")


def _refuse_inactive(cluster: Cluster, reference: ApplicationPackageReference) -> None:
    """Raise where a reference means nothing, as Batch does."""
    application = names.find_application(cluster, application_name(reference.application_id))
    if application is None:
        raise CliError(
            f"{azure.INVALID_REFERENCES}: there is no application {reference.application_id} here.",
            "Applications: packhorse app list",
        )
    version = reference.version or application.spec.default_version
    if version is None:
        raise CliError(
            f"{azure.INVALID_REFERENCES}: application {application.id} has no default version.",
            f"Name a version, such as {application.id}#VERSION, or set the default one: packhorse app set-default"
            f" {application.id} VERSION. {_active(cluster, application)}",
        )
    package = names.find_package(cluster, package_name(application.id, version))
    if package is None or not package.active:
        ready = package.status.condition("Ready") if package else None
        why = (ready.message or ready.reason) if ready else "there is no such package"
        raise CliError(
            f"{azure.INVALID_REFERENCES}: version {version} of {application.id} is not active: {why}.",
            _active(cluster, application),
        )


def _active(cluster: Cluster, application: Application) -> str:
    found = names.packages_of(cluster, application.metadata.name)
    active = [package.spec.version for package in found if package.active]
    return f"Active versions: {some(active, _NAMED) or 'none'}."
