"""The variables that a task finds its applications by, and Batch's general ones.

Batch's documents name the variables in several ways, by platform and by age. All of them are set, so that a command
line copied from any of them works. The rules of flattening are those of "Deploy applications to compute nodes with
Batch application packages": periods, hyphens and number signs become underscores.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from packhorse.protocol import Package, VisiblePackage

PREFIX = "AZ_BATCH_APP_PACKAGE_"
NODE_ROOT = PurePosixPath("/mnt/batch/tasks")
"""Where a node's packages and tasks lie, in its containers; as on Batch's own Linux nodes."""


class CollisionError(ValueError):
    """Two packages want the same variable; the message names both."""


def flatten(text: str) -> str:
    """``text`` as part of a variable's name on Linux."""
    return re.sub(r"[.#-]", "_", text)


def package_variables(
    visible: Sequence[VisiblePackage], defaults: Mapping[str, str], root: PurePosixPath = NODE_ROOT
) -> dict[str, str]:
    """All variables of all visible packages; each value is the directory of the package's files.

    Ids and versions that differ in case, or in ``-`` and ``_`` alone, are one: they name one object in Kubernetes.

    Args:
        visible: The packages. Of two contents of one version, the later in the list counts: a task brought it after
            its node had installed the other one. So does the later of two versions that references without a version
            brought, where neither is the default now. For the rest their order does not matter.
        defaults: Default version by application id, both in lower case.
        root: The node's root directory.

    Raises:
        CollisionError: Two different packages flatten to one name.
    """
    chosen = _newest(visible)
    owners: dict[str, Package] = {}
    for package, name in _names(chosen, defaults):
        owner = owners.setdefault(name, package)
        if owner != package:
            raise CollisionError(
                f"the packages {owner.reference} and {package.reference} would both set {name};"
                " refer to one of them only, or give one application or version another name"
            )
    return {name: str(root / package.directory) for name, package in owners.items()}


def _plain(text: str) -> str:
    """What counts of an id or a version, as in ``packhorse.model.names``, which is too heavy to load on a node."""
    return text.lower().replace("_", "-")


def _newest(visible: Sequence[VisiblePackage]) -> list[VisiblePackage]:
    """One entry a version, in the order in which they were last named."""
    chosen: dict[tuple[str, str], VisiblePackage] = {}
    for item in visible:
        version = (_plain(item.package.application_id), _plain(item.package.version))
        earlier = chosen.pop(version, None)
        by_default = item.by_default or (earlier is not None and earlier.by_default)
        chosen[version] = VisiblePackage(item.package, by_default)
    return list(chosen.values())


def _names(visible: Sequence[VisiblePackage], defaults: Mapping[str, str]) -> Iterator[tuple[Package, str]]:
    for item in visible:
        for name in _versioned_names(item.package):
            yield item.package, name
    default_versions = {_plain(each): _plain(version) for each, version in defaults.items()}
    applications: dict[str, list[VisiblePackage]] = {}
    for item in visible:
        applications.setdefault(_plain(item.package.application_id), []).append(item)
    for application, own in applications.items():
        chosen = _unversioned(own, default_versions.get(application))
        if chosen is not None:
            for application_id in _cases(chosen.application_id):
                yield chosen, PREFIX + flatten(application_id)


def _versioned_names(package: Package) -> Iterator[str]:
    for application_id in _cases(package.application_id):
        for version in _cases(package.version):
            yield PREFIX + flatten(f"{application_id}_{version}")
            yield f"{PREFIX}{application_id}#{version}"


def _cases(text: str) -> Iterable[str]:
    return dict.fromkeys((text, text.lower(), text.upper()))


def _unversioned(own: Sequence[VisiblePackage], default: str | None) -> Package | None:
    """The package that the name without a version stands for, among those of one application.

    The default version if it is visible, else the one that a reference without a version brought, else the only one.
    """
    for item in own:
        if default is not None and _plain(item.package.version) == default:
            return item.package
    for item in reversed(own):
        if item.by_default:
            return item.package
    return own[0].package if len(own) == 1 else None


def node_variables(pool: str, node: str, root: PurePosixPath = NODE_ROOT) -> dict[str, str]:
    """Batch's variables that are the same for every process on a node."""
    return {
        "AZ_BATCH_ROOT_DIR": str(root),
        "AZ_BATCH_NODE_ROOT_DIR": str(root),
        "AZ_BATCH_NODE_SHARED_DIR": str(root / "shared"),
        "AZ_BATCH_NODE_STARTUP_DIR": str(root / "startup"),
        "AZ_BATCH_NODE_STARTUP_WORKING_DIR": str(root / "startup" / "wd"),
        "AZ_BATCH_NODE_MOUNTS_DIR": str(root / "fsmounts"),
        "AZ_BATCH_NODE_ID": node,
        "AZ_BATCH_NODE_IS_DEDICATED": "true",
        "AZ_BATCH_POOL_ID": pool,
    }


def task_directory(job_id: str, name: str) -> PurePosixPath:
    """A task's directory below its node's root, as Batch lays it out."""
    return PurePosixPath("workitems", job_id, "job-1", name)


def task_variables(
    *, account: str, job_id: str, name: str, attempt: int, root: PurePosixPath = NODE_ROOT
) -> dict[str, str]:
    """Batch's variables of one attempt of a task; ``account`` is the namespace. ``AZ_BATCH_TASK_ATTEMPT`` is ours."""
    directory = root / task_directory(job_id, name)
    return {
        "AZ_BATCH_ACCOUNT_NAME": account,
        "AZ_BATCH_JOB_ID": job_id,
        "AZ_BATCH_TASK_ID": name,
        "AZ_BATCH_TASK_DIR": str(directory),
        "AZ_BATCH_TASK_WORKING_DIR": str(directory / "wd"),
        "AZ_BATCH_TASK_ATTEMPT": str(attempt),
        "HOME": str(directory / "wd"),
    }


def start_task_variables(startup: PurePosixPath) -> dict[str, str]:
    """Batch's variables of a start task, which belongs to no job; ``startup`` is the node's startup directory."""
    directory = str(startup / "wd")
    return {
        "AZ_BATCH_TASK_DIR": str(startup),
        "AZ_BATCH_TASK_WORKING_DIR": directory,
        "HOME": directory,
        "PWD": directory,
    }
