"""The objects that a Pool consists of: a StatefulSet, whose pods are the nodes, and a ConfigMap for them.

A StatefulSet with ``OnDelete`` and ``Parallel`` behaves by itself as Batch's pools do: a change touches no node that
exists, each new or rebooted one gets it, and a node's volume keeps what earlier deployments left.
"""

from dataclasses import dataclass
from typing import Any

from packhorse.domain.environment import NODE_ROOT
from packhorse.domain.podstate import AGENT_CONTAINER, INSTALL_CONTAINER, NODE_CONTAINER
from packhorse.model import Pool
from packhorse.model.meta import API_VERSION
from packhorse.model.node import POOL_LABEL
from packhorse.protocol import AUDIENCE

GROUP_ID = 10001
"""Group of all processes of a node: what the agent and the tasks share on the volume belongs to it."""
AGENT_USER_ID = 65532
TASK_USER_ID = 10002
"""The agent is another user than the tasks, so that no task can change its files."""

TOKEN_LIFETIME = 3600
"""Seconds; the kubelet renews the token in time."""


@dataclass(frozen=True)
class NodeSettings:
    """What all nodes of an installation have in common.

    Attributes:
        image: The operator's own image, which holds the agent too.
        pull_policy: Of that image.
        service: ``host:port`` of the node service.
        authority: PEM certificate that the node service's certificate is checked by.
    """

    image: str
    pull_policy: str
    service: str
    authority: str


def owner_reference(pool: Pool) -> dict[str, Any]:
    """Makes Kubernetes delete an object with its pool."""
    return {
        "apiVersion": API_VERSION,
        "kind": pool.kind,
        "name": pool.metadata.name,
        "uid": pool.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def labels(pool: Pool) -> dict[str, str]:
    """Labels of all that belongs to a pool."""
    return {
        "app.kubernetes.io/name": "packhorse-node",
        "app.kubernetes.io/instance": pool.metadata.name,
        "app.kubernetes.io/managed-by": "packhorse",
        POOL_LABEL: pool.metadata.name,
    }


def config_map(pool: Pool, settings: NodeSettings) -> dict[str, Any]:
    """The ConfigMap that tells a pool's nodes whom to trust."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(pool, f"{pool.metadata.name}-node-service"),
        "data": {"ca.crt": settings.authority},
    }


def stateful_set(pool: Pool, settings: NodeSettings, *, replicas: int | None = None) -> dict[str, Any]:
    """The StatefulSet whose pods are a pool's nodes; more than the target while some still have to leave."""
    storage = pool.spec.node_storage
    volume: list[dict[str, Any]] = []
    claims: list[dict[str, Any]] = []
    if storage.ephemeral:
        volume = [{"name": "node", "emptyDir": {"sizeLimit": storage.size}}]
    else:
        spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage.size}}}
        if storage.storage_class_name is not None:
            spec["storageClassName"] = storage.storage_class_name
        claims = [{"metadata": {"name": "node", "labels": labels(pool)}, "spec": spec}]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(pool, pool.metadata.name),
        "spec": {
            "replicas": pool.spec.target_nodes if replicas is None else replicas,
            "serviceName": pool.metadata.name,
            "selector": {"matchLabels": {POOL_LABEL: pool.metadata.name}},
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "volumeClaimTemplates": claims,
            "template": {
                "metadata": {
                    "labels": labels(pool),
                    "annotations": {"kubectl.kubernetes.io/default-container": NODE_CONTAINER},
                },
                "spec": _pod_spec(pool, settings, volume),
            },
        },
    }


def _metadata(pool: Pool, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": pool.metadata.namespace,
        "labels": labels(pool),
        "ownerReferences": [owner_reference(pool)],
    }


def _pod_spec(pool: Pool, settings: NodeSettings, volumes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": TASK_USER_ID,
            "runAsGroup": GROUP_ID,
            "fsGroup": GROUP_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            _own_container(pool, settings, INSTALL_CONTAINER, "install"),
            {**_own_container(pool, settings, AGENT_CONTAINER, "agent"), "restartPolicy": "Always"},
        ],
        "containers": [_node_container(pool)],
        "volumes": [
            *volumes,
            {"name": "authority", "configMap": {"name": f"{pool.metadata.name}-node-service"}},
            {"name": "tmp", "emptyDir": {}},
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": AUDIENCE,
                                "expirationSeconds": TOKEN_LIFETIME,
                                "path": "token",
                            }
                        }
                    ]
                },
            },
        ],
    }


def _security(user: int, *, read_only_root: bool) -> dict[str, Any]:
    return {
        "runAsUser": user,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only_root,
        "capabilities": {"drop": ["ALL"]},
    }


def _own_container(pool: Pool, settings: NodeSettings, name: str, command: str) -> dict[str, Any]:
    """A container of our own image: it holds the token, and sees the whole volume."""
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["packhorse-node", command],
        "env": [
            {"name": "PACKHORSE_NODE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PACKHORSE_POOL", "value": pool.metadata.name},
            {"name": "PACKHORSE_NODE_SERVICE", "value": settings.service},
        ],
        "securityContext": _security(AGENT_USER_ID, read_only_root=True),
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "volumeMounts": [
            {"name": "node", "mountPath": str(NODE_ROOT)},
            {"name": "authority", "mountPath": "/etc/packhorse/node-service", "readOnly": True},
            {"name": "token", "mountPath": "/var/run/secrets/packhorse", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of the pod's own)
        ],
    }


def _node_container(pool: Pool) -> dict[str, Any]:
    """The user's image: no token, packages to read only, and of our own files just the supervisor and its FIFOs."""
    folders = [("applications", True), (".packhorse/bin", True), (".packhorse/run", False)]
    folders += [(name, False) for name in ("shared", "startup", "fsmounts", "workitems")]
    start = str(NODE_ROOT / ".packhorse/bin")
    return {
        "name": NODE_CONTAINER,
        "image": pool.spec.image,
        "command": [f"{start}/busybox", "sh", f"{start}/start"],
        "securityContext": _security(TASK_USER_ID, read_only_root=False),
        "volumeMounts": [
            {"name": "node", "mountPath": str(NODE_ROOT / name), "subPath": name, "readOnly": read_only}
            for name, read_only in folders
        ],
    }
