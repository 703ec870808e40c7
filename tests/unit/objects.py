"""Resources to test with: as the API server would show them, in few words."""

import itertools
from collections.abc import Iterable
from typing import Any

from packhorse.domain.references import Catalog
from packhorse.model import Application, ApplicationPackage, Pool, Task
from packhorse.protocol import Package, VisiblePackage

NAMESPACE = "team"
NOW = "2026-05-01T12:00:00.000000Z"
LATER = "2026-05-01T13:00:00.000000Z"

_versions = itertools.count(1)


def digest(text: str = "") -> str:
    """Something with the form of a SHA-256, the same for the same text."""
    return text.encode().hex().rjust(64, "0")[-64:]


def metadata(name: str, **more: Any) -> dict[str, Any]:
    """Metadata of an object; every call gives a newer resourceVersion."""
    given = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{name}",
        "generation": 1,
        "resourceVersion": str(next(_versions)),
        "creationTimestamp": "2026-05-01T11:00:00Z",
    }
    return {**given, **more}


def raw_application(application_id: str, default: str | None = None, **more: Any) -> dict[str, Any]:
    """An Application."""
    spec = {"id": application_id} | ({"defaultVersion": default} if default else {})
    return {"metadata": metadata(application_id.lower().replace("_", "-")), "spec": {**spec, **more}}


def raw_package(application_id: str, version: str, content: str = "", **status: Any) -> dict[str, Any]:
    """An active ApplicationPackage; ``content`` stands for what is in it."""
    name = f"{application_id}.{version}".lower().replace("_", "-")
    found = {
        "state": "Active",
        "sha256": digest(content or f"{application_id}.{version}".lower()),
        "size": 100,
        "etag": "0x1",
        "blob": f"{NAMESPACE}/{name}.zip",
        "lastActivationTime": "2026-05-01T11:30:00.000000Z",
    }
    return {
        "metadata": metadata(name),
        "spec": {"applicationId": application_id, "version": version},
        "status": {**found, **status},
    }


def raw_pool(name: str = "render", **spec: Any) -> dict[str, Any]:
    """A Pool."""
    return {"metadata": metadata(name), "spec": {"image": "debian:bookworm-slim", **spec}}


def raw_task(name: str = "frame", **spec: Any) -> dict[str, Any]:
    """A Task as it is created: active."""
    return {
        "metadata": metadata(name),
        "spec": {"pool": "render", "commandLine": "true", **spec},
        "status": {"observedGeneration": -1, "state": "active"},
    }


def raw_pod(name: str = "render-0", pool: str = "render", **metadata_fields: Any) -> dict[str, Any]:
    """A node's pod that runs and is ready."""
    return {
        "metadata": metadata(
            name,
            labels={"packhorse.dev/pool": pool, "controller-revision-hash": "r1"},
            ownerReferences=[{"kind": "StatefulSet", "name": pool, "uid": f"set-{pool}", "controller": True}],
            **metadata_fields,
        ),
        "spec": {"nodeName": "worker-1"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "initContainerStatuses": [
                {"name": "install-packages", "image": "packhorse", "state": {"terminated": {"exitCode": 0}}},
                {"name": "agent", "image": "packhorse", "state": {"running": {}}},
            ],
            "containerStatuses": [{"name": "node", "image": "debian:bookworm-slim", "state": {"running": {}}}],
        },
    }


def raw_stateful_set(pool: str = "render", revision: str = "r1") -> dict[str, Any]:
    """The StatefulSet of a pool."""
    return {
        "metadata": metadata(
            pool,
            uid=f"set-{pool}",
            labels={"packhorse.dev/pool": pool},
            ownerReferences=[{"kind": "Pool", "name": pool, "uid": f"uid-of-{pool}", "controller": True}],
        ),
        "status": {"updateRevision": revision},
    }


def application(application_id: str, default: str | None = None, **more: Any) -> Application:
    """An Application."""
    return Application.model_validate(raw_application(application_id, default, **more))


def package(application_id: str, version: str, content: str = "", **status: Any) -> ApplicationPackage:
    """An active ApplicationPackage."""
    return ApplicationPackage.model_validate(raw_package(application_id, version, content, **status))


def catalog(applications: Iterable[Application], packages: Iterable[ApplicationPackage]) -> Catalog:
    """The catalog of a namespace that has these."""
    return Catalog({each.metadata.name: each for each in applications}, {each.metadata.name: each for each in packages})


def pool(name: str = "render", **spec: Any) -> Pool:
    """A Pool."""
    return Pool.model_validate(raw_pool(name, **spec))


def task(name: str = "frame", **spec: Any) -> Task:
    """A Task."""
    return Task.model_validate(raw_task(name, **spec))


def deployed(application_id: str, version: str, content: str = "", *, by_default: bool = False) -> VisiblePackage:
    """A package as a node has it."""
    sha256 = digest(content or f"{application_id}.{version}".lower())
    return VisiblePackage(Package(application_id, version, sha256, 100), by_default=by_default)
