"""What the operator knows of the cluster: one cache a kind, and questions that several controllers ask."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from packhorse.cluster.cache import Cache, Key
from packhorse.cluster.client import POD, STATEFUL_SET, Kind, kind_of
from packhorse.domain.podstate import Pod, observe_pod
from packhorse.domain.references import Catalog
from packhorse.model import Application, ApplicationPackage, Pool, Task
from packhorse.model.names import application_name
from packhorse.model.node import POOL_LABEL

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class NodeSet:
    """What we need to know of a pool's StatefulSet.

    Attributes:
        pool_uid: Uid of the Pool that owns it; empty where none does.
        revision: The template that a new node is made from.
    """

    uid: str
    generation: int
    pool_uid: str
    revision: str


def observe_stateful_set(raw: Mapping[str, Any]) -> NodeSet:
    """Read a StatefulSet of the API server."""
    owners = raw["metadata"].get("ownerReferences", ())
    return NodeSet(
        uid=raw["metadata"]["uid"],
        generation=raw["metadata"].get("generation", 0),
        pool_uid=next((owner["uid"] for owner in owners if owner["kind"] == Pool.kind and owner.get("controller")), ""),
        revision=raw.get("status", {}).get("updateRevision", ""),
    )


class Caches:
    """All caches; each holds only what the operator's namespaces have."""

    def __init__(self) -> None:
        self.applications = Cache(Application.model_validate)
        self.packages = Cache(ApplicationPackage.model_validate)
        self.pools = Cache(Pool.model_validate)
        self.tasks = Cache(Task.model_validate)
        self.pods = Cache(observe_pod)
        self.node_sets = Cache(observe_stateful_set)
        self._by_application: defaultdict[Key, set[Key]] = defaultdict(set)
        self._by_blob: defaultdict[str, set[Key]] = defaultdict(set)
        self.packages.subscribe(self._package_seen)

    def watched(self) -> list[tuple[Kind, str, Cache[Any]]]:
        """Each kind with the label selector that it is watched by and its cache, in the order to fill them."""
        return [
            (kind_of(Application), "", self.applications),
            (kind_of(ApplicationPackage), "", self.packages),
            (kind_of(Pool), "", self.pools),
            (STATEFUL_SET, POOL_LABEL, self.node_sets),
            (POD, POOL_LABEL, self.pods),
            (kind_of(Task), "", self.tasks),
        ]

    def catalog(self, namespace: str) -> Catalog:
        """The applications and packages of a namespace."""
        return Catalog(self.applications.by_name(namespace), self.packages.by_name(namespace))

    def packages_of(self, application: Key) -> list[ApplicationPackage]:
        """All packages of an application, those that are being deleted included."""
        found = (self.packages.get(key) for key in self._by_application.get(application, ()))
        return [package for package in found if package is not None]

    def packages_made_of(self, blob: str) -> set[Key]:
        """The packages that are, or should be, made of a blob."""
        return self._by_blob.get(blob, set())

    def _package_seen(self, key: Key, before: ApplicationPackage | None, now: ApplicationPackage | None) -> None:
        if before is not None:
            _discard(self._by_application, _application_of(before), key)
            for blob in _blobs_of(before):
                _discard(self._by_blob, blob, key)
        if now is not None:
            self._by_application[_application_of(now)].add(key)
            for blob in _blobs_of(now):
                self._by_blob[blob].add(key)

    def nodes_of(self, pool: Key) -> list[Pod]:
        """The pods that are the nodes of a pool."""
        return [pod for pod in self.pods.in_namespace(pool[0]) if pod.pool == pool[1]]


def _application_of(package: ApplicationPackage) -> Key:
    return package.metadata.namespace, application_name(package.spec.application_id)


def _blobs_of(package: ApplicationPackage) -> set[str]:
    return {package.blob, package.status.blob or package.blob}


def _discard(index: defaultdict[K, set[Key]], entry: K, key: Key) -> None:
    index[entry].discard(key)
    if not index[entry]:
        del index[entry]
