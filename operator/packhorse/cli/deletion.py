"""Deleting packages, applications and pools, and waiting until they are gone with their blobs or nodes."""

import contextlib
import time
from collections.abc import Sequence

from packhorse.cli import duration, names, output
from packhorse.cli.cluster import APPLICATIONS, PACKAGES, PODS, POOLS, Cluster, Kind
from packhorse.cli.connection import connect
from packhorse.cli.errors import ApiError, CliError
from packhorse.cli.options import Target
from packhorse.cli.output import say
from packhorse.domain.wording import some
from packhorse.model.names import application_name
from packhorse.model.node import POOL_LABEL

_SHOWN = 10  # names in a message


def delete_versions(
    target: Target, application: str, versions: Sequence[str], timeout: str, *, wait: bool, ignore_not_found: bool
) -> None:
    """Delete versions of an application, with their blobs.

    Raises:
        CliError: One is not there or may not be deleted; then none is.
    """
    limit = duration.seconds(timeout)
    chosen = list(dict.fromkeys(names.package(application, version) for version in versions))
    with connect(target) as cluster:
        owner = names.find_application(cluster, application_name(application))
        there = []
        for name in chosen:
            found = names.find_package(cluster, name)
            if found is None and not ignore_not_found:
                raise CliError(f"There is no package {name} here.", "Check its name and the namespace (-n).")
            names.refuse_locked(owner, found, "deleted")
            if found is not None:
                there.append(name)
        delete_packages(cluster, there, deadline=_deadline(limit), wait=wait, report=True)


def delete_application(
    target: Target, application: str, timeout: str, *, wait: bool, all_packages: bool, ignore_not_found: bool
) -> None:
    """Delete an application, and its packages where that is wanted.

    Raises:
        CliError: It has packages, and they were not meant; or it is not there, or may not be deleted.
    """
    limit = duration.seconds(timeout)
    name = names.application(application)
    with connect(target) as cluster:
        owner = names.find_application(cluster, name)
        if owner is None:
            if ignore_not_found:
                return
            raise CliError(f"There is no application {name} here.", "Check its name and the namespace (-n).")
        packages = names.packages_of(cluster, name)
        if packages and not all_packages:
            raise CliError(
                f"The application {owner.id} has {output.plural(len(packages), 'package')}:"
                f" {some([package.spec.version for package in packages], _SHOWN)}.",
                "Delete them first, or with it: --all-packages.",
            )
        for package in packages:
            names.refuse_locked(owner, package, "deleted")
        deadline = _deadline(limit)
        delete_packages(cluster, [package.metadata.name for package in packages], deadline=deadline, report=True)
        cluster.delete(APPLICATIONS, name)
        if wait:
            _await_gone(cluster, APPLICATIONS, [name], deadline)
        print(f"application/{name} deleted")


def delete_pool(target: Target, name: str, timeout: str, *, wait: bool, ignore_not_found: bool) -> None:
    """Delete a pool, and wait until its nodes are gone where that is wanted.

    Raises:
        CliError: It is not there, or the time is up.
    """
    limit = duration.seconds(timeout)
    with connect(target) as cluster:
        deadline = _deadline(limit)
        if cluster.find(POOLS, name) is None and ignore_not_found:
            return
        selector = f"{POOL_LABEL}={name}"
        uids = {pod["metadata"]["uid"] for pod in cluster.objects(PODS, selector)}
        cluster.delete(POOLS, name)
        if wait:
            _await_gone(cluster, POOLS, [name], deadline)
            _await_nodes_gone(cluster, selector, uids, deadline)
        print(f"pool/{name} deleted")


def _await_nodes_gone(cluster: Cluster, selector: str, uids: set[str], deadline: float | None) -> None:
    """Wait until these pods are gone; others of the same names belong to a new pool."""
    left: list[str] = []
    with contextlib.closing(cluster.follow(PODS, selector=selector, deadline=deadline)) as changes:
        for change in changes:
            left = [name for name, pod in change.objects.items() if pod["metadata"]["uid"] in uids]
            if not left:
                return
    raise CliError(
        f"The time is up: {output.plural(len(left), 'node')} of the pool still there: {some(sorted(left), _SHOWN)}.",
        "They go by themselves. On a machine that is lost, they stay until its Node is deleted.",
    )


def delete_packages(
    cluster: Cluster, chosen: Sequence[str], *, deadline: float | None, wait: bool = True, report: bool = False
) -> None:
    """Delete packages by their names; one that went by itself meanwhile is good.

    Args:
        cluster: Where they are.
        chosen: Their names.
        deadline: Until when to wait, of ``time.monotonic``; None for no limit.
        wait: Wait until they are gone.
        report: Print a line for each.
    """
    for name in chosen:
        try:
            cluster.delete(PACKAGES, name)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
        if report and not wait:
            print(f"applicationpackage/{name} deleted")
    if chosen and wait:
        _await_gone(cluster, PACKAGES, chosen, deadline, report=report)


def _deadline(limit: float | None) -> float | None:
    return None if limit is None else time.monotonic() + limit


def _await_gone(
    cluster: Cluster, kind: Kind, chosen: Sequence[str], deadline: float | None, *, report: bool = False
) -> None:
    """Wait until none of these objects is there, and say what holds them."""
    left = set(chosen)
    said: dict[str, str] = {}
    one = chosen[0] if len(chosen) == 1 else ""
    with contextlib.closing(cluster.follow(kind, name=one, deadline=deadline)) as changes:
        for change in changes:
            for name in sorted(left & (change.names | (left - change.objects.keys()))):
                item = change.objects.get(name)
                # An object of the same name that is not being deleted is a new one.
                if item is None or "deletionTimestamp" not in item["metadata"]:
                    left.discard(name)
                    if report:
                        print(f"{kind.singular}/{name} deleted", flush=True)
                    continue
                for condition in item.get("status", {}).get("conditions", []):
                    words = condition.get("message") or condition.get("reason", "")
                    if condition["type"] == "Ready" and condition["status"] != "True" and said.get(name) != words:
                        if name in said:  # the first words are from before, or a matter of course
                            say(f"{kind.singular}/{name}: {words}")
                        said[name] = words
            if not left:
                return
    raise CliError(
        f"The time is up: {some(sorted(left), _SHOWN)} {'is' if len(left) == 1 else 'are'} still being deleted."
        + "".join(f" {said[name]}" for name in sorted(left) if said.get(name)),
        "It goes on by itself, as soon as it can.",
    )
