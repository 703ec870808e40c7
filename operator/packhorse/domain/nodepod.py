"""The objects that a Pool consists of: a StatefulSet, whose pods are the nodes, and what these need beside it.

A StatefulSet with ``OnDelete`` and ``Parallel`` behaves by itself as Batch's pools do: a change touches no node that
exists, each new or rebooted one gets it, and a node's volume keeps what earlier deployments left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packhorse.domain.environment import NODE_ROOT
from packhorse.domain.podstate import AGENT_CONTAINER, INSTALL_CONTAINER, NODE_CONTAINER, VOLUME
from packhorse.domain.template import merged
from packhorse.model import Pool
from packhorse.model.meta import API_VERSION
from packhorse.model.node import POOL_LABEL
from packhorse.model.template import AGENT_USER_ID, GROUP_ID
from packhorse.protocol import AUDIENCE

TASK_USER_ID = 10002
"""Unless the pool's template says otherwise."""

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
        network_policy: Whether each pool gets a NetworkPolicy.
    """

    image: str
    pull_policy: str
    service: str
    authority: str
    network_policy: bool = True


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
        medium = {"medium": storage.medium} if storage.medium else {}
        volume = [{"name": VOLUME, "emptyDir": {"sizeLimit": storage.size, **medium}}]
    else:
        spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage.size}}}
        if storage.storage_class_name is not None:
            spec["storageClassName"] = storage.storage_class_name
        claims = [{"metadata": {"name": VOLUME, "labels": labels(pool)}, "spec": spec}]
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
            "template": _template(pool, settings, volume),
        },
    }


def trial_pod(node_set: Mapping[str, Any]) -> dict[str, Any]:
    """A pod as a node of this StatefulSet would be, to be created as a dry run: it has the name of no node."""
    template, name = node_set["spec"]["template"], f"{node_set['metadata']['name']}-trial"
    claims = [
        {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": f"{claim['metadata']['name']}-{name}"},
        }
        for claim in node_set["spec"]["volumeClaimTemplates"]
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": name, "namespace": node_set["metadata"]["namespace"]},
        "spec": {**template["spec"], "volumes": [*template["spec"]["volumes"], *claims]},
    }


def network_policy(pool: Pool) -> dict[str, Any]:
    """The NetworkPolicy of a pool's nodes: nobody opens a connection to them, or they themselves alone to each other.

    Where they may connect to is left open: tasks fetch their data from anywhere. Logs, exec, port-forward and probes
    come by the kubelet, which no policy keeps out. Policies add up, so a user's own can let in more.
    """
    nodes = {"matchLabels": {POOL_LABEL: pool.metadata.name}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(pool, f"{pool.metadata.name}-nodes"),
        "spec": {
            "podSelector": nodes,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": nodes}]}] if pool.spec.enable_inter_node_communication else [],
        },
    }


def _metadata(pool: Pool, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": pool.metadata.namespace,
        "labels": labels(pool),
        "ownerReferences": [owner_reference(pool)],
    }


def _template(pool: Pool, settings: NodeSettings, volumes: list[dict[str, Any]]) -> dict[str, Any]:
    base = {
        "metadata": {
            "labels": labels(pool),
            "annotations": {"kubectl.kubernetes.io/default-container": NODE_CONTAINER},
        },
        "spec": _pod_spec(pool, settings, volumes),
    }
    return merged(base, pool.spec.template)


def _pod_spec(pool: Pool, settings: NodeSettings, volumes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": False,  # no task looks into the agent's process
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


_RESTRICTED: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


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
        "securityContext": {
            **_RESTRICTED,
            "runAsUser": AGENT_USER_ID,
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},  # whatever the pool's template says for the pod
        },
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "volumeMounts": [
            {"name": VOLUME, "mountPath": str(NODE_ROOT)},
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
        "securityContext": {**_RESTRICTED, "readOnlyRootFilesystem": False},
        "volumeMounts": [
            {"name": VOLUME, "mountPath": str(NODE_ROOT / name), "subPath": name, "readOnly": read_only}
            for name, read_only in folders
        ],
    }
