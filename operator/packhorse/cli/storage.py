"""The linked storage account, as the packages of a namespace show it."""

from collections import Counter
from dataclasses import dataclass

from packhorse.cli import output
from packhorse.cli.cluster import PACKAGES
from packhorse.cli.connection import connect
from packhorse.cli.options import Manifest, Target
from packhorse.cli.parsing import parse
from packhorse.model import ApplicationPackage, PackageState
from packhorse.model.meta import Condition

_WORDS = {"True": "linked", "False": "not linked", "Unknown": "in trouble"}


@dataclass(frozen=True)
class _View:
    """What packages say of the account.

    Attributes:
        status: True, False, Unknown: whether it is linked.
        reason: In one word.
        message: Its address, or what is wrong.
        packages: How many packages say so.
    """

    status: str
    reason: str
    message: str
    packages: int


def show(target: Target, form: Manifest | None) -> None:
    """Print how the account is, and what lies there."""
    with connect(target) as cluster:
        packages = [parse(ApplicationPackage, item) for item in cluster.objects(PACKAGES)]
        namespace = cluster.namespace
    views = _views(packages)
    if form:
        print(output.dump(_data(packages, views), form))
    elif not packages:
        print(
            f"Nothing is known yet: namespace {namespace} has no packages, and the account is looked at with the first."
        )
    else:
        print(output.facts([*_facts(views), *_amounts(packages)]))


def _views(packages: list[ApplicationPackage]) -> list[_View]:
    """What is said, the newest words first: an old trouble is only known to be over where a package was looked at."""
    conditions = [found for package in packages if (found := package.status.condition("StorageLinked"))]
    conditions.sort(key=lambda condition: condition.last_transition_time, reverse=True)
    counts = Counter(_said(condition) for condition in conditions)
    return [_View(*said, count) for said, count in counts.items()]


def _said(condition: Condition) -> tuple[str, str, str]:
    return condition.status, condition.reason, condition.message


def _facts(views: list[_View]) -> list[tuple[str, str]]:
    if not views:
        return [("Storage", "not looked at yet: does the operator run?")]
    address = next((view.message for view in views if view.status == "True" and view.message), "")
    facts = [("Address", address)] if address else []
    if all(view.status == "True" for view in views):
        return [*facts, ("Storage", _WORDS["True"])]
    for view in views:
        if view.status != "True":
            of = "" if len(views) == 1 else f" ({output.plural(view.packages, 'package')})"
            facts.append(("Storage", f"{_WORDS[view.status]}: {view.message or view.reason}{of}"))
    return facts


def _amounts(packages: list[ApplicationPackage]) -> list[tuple[str, str]]:
    lines = []
    for state, (count, size) in _by_state(packages).items():
        lines.append((state, output.plural(count, "package") + (f", {output.size(size)}" if size else "")))
    return lines


def _by_state(packages: list[ApplicationPackage]) -> dict[str, tuple[int, int]]:
    """Number and bytes of the packages in each state that there is."""
    result = {}
    for state in PackageState:
        sizes = [each.status.size or 0 for each in packages if (each.status.state or PackageState.PENDING) is state]
        if sizes:
            result[str(state)] = (len(sizes), sum(sizes))
    return result


def _data(packages: list[ApplicationPackage], views: list[_View]) -> dict[str, object]:
    """The same for programs."""
    return {
        "storage": [
            {"linked": view.status, "reason": view.reason, "message": view.message, "packages": view.packages}
            for view in views
        ],
        "packages": {state: {"count": count, "size": size} for state, (count, size) in _by_state(packages).items()},
    }
