"""What applications there are."""

from packhorse.cli import output
from packhorse.cli.cluster import APPLICATIONS
from packhorse.cli.connection import connect
from packhorse.cli.options import Output, Target
from packhorse.cli.parsing import parse
from packhorse.model import Application


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
