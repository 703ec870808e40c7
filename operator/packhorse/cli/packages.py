"""Packages: what there is."""

from packhorse.cli import names, output
from packhorse.cli.activation import activate as announce
from packhorse.cli.cluster import APPLICATIONS, PACKAGES
from packhorse.cli.connection import connect
from packhorse.cli.content import DIGITS
from packhorse.cli.duration import seconds
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.model import Application, ApplicationPackage
from packhorse.model.names import application_name, object_name
from packhorse.model.package import UPLOAD_ANNOTATION


def show_all(target: Target, application: str | None, form: Output | None) -> None:
    """Print the packages of a namespace, or those of one application."""
    name = names.application(application) if application else None
    with connect(target) as cluster:
        if name:
            cluster.get(APPLICATIONS, name)  # a slip in the name is no empty list
        items = cluster.objects(PACKAGES)
    if name:
        items = [item for item in items if application_name(item["spec"]["applicationId"]) == name]
    if form in {Output.YAML, Output.JSON, Output.NAME}:
        print(output.objects(items, PACKAGES.singular, form))
        return
    packages = [parse(ApplicationPackage, item) for item in items]
    if not packages:
        of = f" of application {application}" if application else ""
        output.say(f"No packages{of} in namespace {cluster.namespace}. packhorse package upload makes one.")
        return
    packages.sort(
        key=lambda package: (application_name(package.spec.application_id), names.order(package.spec.version))
    )
    heading = ["APPLICATION", "VERSION", "STATE", "SIZE", "AGE"]
    if form is Output.WIDE:
        heading += ["FILES", "UNPACKED", "SHA256", "REASON"]
    print(output.table(heading, [_row(package, wide=form is Output.WIDE) for package in packages]))


def _row(package: ApplicationPackage, *, wide: bool) -> list[str]:
    spec, status = package.spec, package.status
    row = [
        spec.application_id,
        spec.version,
        _state(package),
        _size(status.size),
        output.age(package.metadata.creation_timestamp),
    ]
    if wide:
        ready = status.condition("Ready")
        files = "" if status.files is None else str(status.files)
        row += [files, _size(status.unpacked_size), (status.sha256 or "")[:DIGITS], ready.message if ready else ""]
    return row


def _state(package: ApplicationPackage) -> str:
    return "Deleting" if package.metadata.deletion_timestamp else str(package.status.state or "Pending")


def _size(count: int | None) -> str:
    return "" if count is None else output.size(count)


def show(target: Target, application: str, version: str, form: Output | None) -> None:
    """Print one package."""
    name = names.package(application, version)
    with connect(target) as cluster:
        item = cluster.get(PACKAGES, name)
        if form in {Output.YAML, Output.JSON, Output.NAME}:
            print(output.one_object(item, PACKAGES.singular, form))
            return
        owner = names.find_application(cluster, application_name(application))
    print(output.facts(_facts(parse(ApplicationPackage, item), owner)))


def _facts(package: ApplicationPackage, owner: Application | None) -> list[tuple[str, str]]:
    spec, status = package.spec, package.status
    default = owner is not None and object_name(owner.spec.default_version or "") == object_name(spec.version)
    facts = [
        ("Package", package.metadata.name),
        ("Application", spec.application_id),
        ("Version", spec.version + (" (the default version)" if default else "")),
        ("State", _state(package)),
        ("Blob", status.blob or package.blob),
        ("SHA-256", status.sha256 or spec.sha256 or ""),
        ("Size", _size(status.size)),
    ]
    if status.files is not None:
        facts.append(("Holds", f"{output.plural(status.files, 'file')}, {_size(status.unpacked_size)} unpacked"))
    if status.last_activation_time:
        facts.append(("Activated", _when(status.last_activation_time)))
    if status.last_verification_time:
        facts.append(("Verified", _when(status.last_verification_time)))
    if owner is not None and not owner.spec.allow_updates and package.activated:
        facts.append(("Locked", f"application {owner.id} does not allow updates"))
    ready, linked = status.condition("Ready"), status.condition("StorageLinked")
    if ready and ready.status != "True":
        facts.append(("Not ready", f"{ready.reason}: {ready.message}"))
    if linked and linked.status != "True" and (ready is None or linked.message != ready.message):
        facts.append(("Storage", linked.message or linked.reason))
    return [fact for fact in facts if fact[1]]


def _when(timestamp: str) -> str:
    return f"{timestamp} ({output.age(timestamp)} ago)"


def activate(target: Target, application: str, version: str, timeout: str) -> None:
    """Take over what another tool put into the linked container, and wait until it is active.

    Raises:
        CliError: There is no such package, its file cannot be used, or the time is up.
    """
    name, limit = names.package(application, version), seconds(timeout)
    with connect(target) as cluster:
        found = names.get_package(cluster, name)
        names.refuse_locked(names.find_application(cluster, application_name(application)), found, "updated")
        active = announce(cluster, name, UPLOAD_ANNOTATION, limit, None)
    print(f"applicationpackage/{name} active ({summary(active)})")


def summary(package: ApplicationPackage) -> str:
    """Size and digest of an active package."""
    return f"{_size(package.status.size)}, sha256 {(package.status.sha256 or '')[:DIGITS]}"
