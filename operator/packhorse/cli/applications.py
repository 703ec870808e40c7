"""Applications: what there is, and what a person may change."""

from collections.abc import Mapping
from typing import Any

from packhorse.cli import names, output
from packhorse.cli.cluster import APPLICATIONS, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.errors import CliError, UsageError
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.domain import azure
from packhorse.model import Application, ApplicationPackage


def show_all(target: Target, form: Output | None) -> None:
    """Print the applications of a namespace."""
    with connect(target) as cluster:
        items = cluster.objects(APPLICATIONS)
    if form in {Output.YAML, Output.JSON, Output.NAME}:
        print(output.objects(items, APPLICATIONS.singular, form))
        return
    applications = [parse(Application, item) for item in items]
    if not applications:
        output.say(f"No applications in namespace {cluster.namespace}. packhorse package upload makes the first.")
        return
    heading = ["APPLICATION", "DEFAULT", "VERSIONS", "UPDATES", "AGE"]
    if form is Output.WIDE:
        heading += ["DISPLAY NAME", "PACKAGES", "SIZE"]
    print(output.table(heading, [_row(application, wide=form is Output.WIDE) for application in applications]))


def _row(application: Application, *, wide: bool) -> list[str]:
    status = application.status
    row = [
        application.id,
        application.spec.default_version or "",
        ",".join(version.version for version in status.versions),
        "true" if application.spec.allow_updates else "false",
        output.age(application.metadata.creation_timestamp),
    ]
    if wide:
        total = sum(version.size for version in status.versions)
        row += [application.spec.display_name or "", str(status.packages), output.size(total)]
    return row


def show(target: Target, application: str, form: Output | None) -> None:
    """Print one application and its packages."""
    name = names.application(application)
    with connect(target) as cluster:
        item = cluster.get(APPLICATIONS, name)
        if form in {Output.YAML, Output.JSON, Output.NAME}:
            print(output.one_object(item, APPLICATIONS.singular, form))
            return
        packages = names.packages_of(cluster, name)
    found = parse(Application, item)
    print(output.facts(_facts(found)))
    if packages:
        heading = ["VERSION", "STATE", "SIZE", "AGE"] + (["SHA256"] if form is Output.WIDE else [])
        print()
        print(output.table(heading, [_package_row(package, wide=form is Output.WIDE) for package in packages]))


def _facts(application: Application) -> list[tuple[str, str]]:
    spec = application.spec
    facts = [
        ("Application", application.id),
        ("Display name", spec.display_name or ""),
        ("Default version", spec.default_version or "none"),
        ("Updates", "allowed" if spec.allow_updates else "not allowed: active packages are locked"),
        ("Age", output.age(application.metadata.creation_timestamp)),
    ]
    if application.metadata.deletion_timestamp:
        facts.append(("Deleting", f"since {output.age(application.metadata.deletion_timestamp)}"))
    ready = application.status.condition("Ready")
    if ready and ready.status != "True":
        facts.append(("Not ready", ready.message or ready.reason))
    return [fact for fact in facts if fact[1]]


def _package_row(package: ApplicationPackage, *, wide: bool) -> list[str]:
    status = package.status
    row = [
        package.spec.version,
        str(status.state or ""),
        output.size(status.size) if status.size is not None else "",
        output.age(package.metadata.creation_timestamp),
    ]
    return [*row, status.sha256 or ""] if wide else row


def set_default(target: Target, application: str, version: str | None) -> None:
    """Make an active version the default one; None for no default version.

    Raises:
        CliError: That version is not active.
    """
    name = names.application(application)
    with connect(target) as cluster:
        cluster.get(APPLICATIONS, name)
        if version is None:
            change(cluster, name, {"defaultVersion": None}, "no default version")
            return
        found = names.find_package(cluster, names.package(application, version))
        if found is None or not found.active:
            active = [each.spec.version for each in names.packages_of(cluster, name) if each.active]
            ready = found.status.condition("Ready") if found else None
            why = (ready.message or ready.reason) if ready else "there is no such package"
            raise CliError(
                f"{azure.DEFAULT_VERSION_NOT_ACTIVE}: version {version} of {application} is not active: {why}.",
                f"Active versions: {', '.join(active) or 'none'}.",
            )
        change(cluster, name, {"defaultVersion": found.spec.version}, f"default version {found.spec.version}")


def update(target: Target, application: str, allow_updates: bool | None, display_name: str | None) -> None:
    """Change what is given, and leave the rest."""
    wanted: dict[str, Any] = {}
    words = []
    if allow_updates is not None:
        wanted["allowUpdates"] = allow_updates
        words.append(f"updates {'allowed' if allow_updates else 'not allowed'}")
    if display_name is not None:
        wanted["displayName"] = display_name or None
        words.append(f"display name {display_name}" if display_name else "no display name")
    if not wanted:
        raise UsageError("Nothing to change: give --allow-updates or --display-name.")
    with connect(target) as cluster:
        change(cluster, names.application(application), wanted, ", ".join(words))


def change(cluster: Cluster, name: str, wanted: Mapping[str, Any], words: str) -> None:
    """Change fields of an Application's spec, and say it in these words.

    It is a merge patch, not an apply: a person's order now, as ``kubectl patch`` is, and not a standing manifest.
    """
    before = cluster.get(APPLICATIONS, name).get("spec", {})
    if all(before.get(field) == value for field, value in wanted.items()):
        print(f"application/{name} unchanged ({words})")
        return
    cluster.merge(APPLICATIONS, name, {"spec": dict(wanted)})
    print(f"application/{name} {words}")
