"""Joins the pod template of a node, as the operator makes it, with the partial one of its Pool.

What may be set is in :mod:`packhorse.model.template`, whose rules the API server checks. Here it is made sure that
nothing else comes of it, whatever gets past them: what agent, tasks and node service rely on stays as it is.

- Labels and annotations: the Pool's are added; names of our group and names that are set already stay ours.
- Plain fields of the pod, and those of Kubernetes' own such as ``affinity``: the Pool's replace the operator's.
- ``volumes`` by ``name``, ``volumeMounts`` by ``mountPath``, ``volumeDevices`` by ``devicePath``: the Pool's are added;
  ours stay, cannot be mounted elsewhere, and nothing is mounted on or in the node's own directories.
- ``securityContext`` and ``capabilities`` by field: the Pool's replace the operator's, but for the group, and never to
  the agent's user.
- ``resources`` by name of the resource: the Pool's replace the operator's, also in our own containers, of which it can
  set nothing else.
"""

import copy
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from packhorse.model.meta import GROUP
from packhorse.model.template import (
    AGENT_USER_ID,
    NODE_CONTAINER,
    OWN_CONTAINERS,
    OWN_ROOT,
    OWN_VOLUMES,
    PodTemplate,
)
from packhorse.protocol import AUDIENCE

Body = dict[str, Any]
"""A part of a Kubernetes object."""

_SHARED = ("runAsGroup", "fsGroup")
_REPLACED = ("lifecycle", "imagePullPolicy", "ports")


def merged(base: Mapping[str, Any], overlay: PodTemplate | None) -> Body:
    """The pod template of a pool's nodes.

    Args:
        base: As the operator makes it: ``metadata`` and ``spec``. It is not changed.
        overlay: What the Pool says.
    """
    result: Body = copy.deepcopy(dict(base))
    if overlay is None:
        return result
    given = copy.deepcopy(overlay.dump_given())
    for field in ("labels", "annotations"):
        own = result["metadata"][field]
        result["metadata"][field] = {**_free(given.get("metadata", {}).get(field, {})), **own}
    result["spec"] = _pod(result["spec"], given.get("spec", {}))
    return result


def _free(names: Mapping[str, str]) -> dict[str, str]:
    """Labels or annotations without those of our group, which are the operator's to set."""
    return {name: value for name, value in names.items() if not name.startswith(f"{GROUP}/")}


def _pod(base: Body, given: Body) -> Body:
    special = ("securityContext", "volumes", "containers", "initContainers")
    result = {**base, **{name: value for name, value in given.items() if name not in special}}
    result["securityContext"] = _security(base["securityContext"], given.get("securityContext", {}))
    own = {volume["name"] for volume in base["volumes"]} | set(OWN_VOLUMES)
    result["volumes"] = [
        *base["volumes"],
        *(
            volume
            for volume in _last(given.get("volumes", ()), "name")
            if volume["name"] not in own and not _shows_our_token(volume)
        ),
    ]
    node = {entry["name"]: entry for entry in given.get("containers", ())}.get(NODE_CONTAINER, {})
    result["containers"] = [_node(container, node) for container in base["containers"]]
    ours = {entry["name"]: entry for entry in given.get("initContainers", ()) if entry["name"] in OWN_CONTAINERS}
    result["initContainers"] = [
        _with_resources(container, ours.get(container["name"], {})) for container in base["initContainers"]
    ]
    return result


def _node(base: Body, given: Body) -> Body:
    """The user's container."""
    result = {**_with_resources(base, given), **{name: given[name] for name in _REPLACED if given.get(name)}}
    result["securityContext"] = _security(base["securityContext"], given.get("securityContext", {}))
    result["volumeMounts"] = [
        *base["volumeMounts"],
        *(
            mount
            for mount in _last(given.get("volumeMounts", ()), "mountPath")
            if mount["name"] not in OWN_VOLUMES and not _ours(mount["mountPath"])
        ),
    ]
    devices = [
        device for device in _last(given.get("volumeDevices", ()), "devicePath") if device["name"] not in OWN_VOLUMES
    ]
    return result | ({"volumeDevices": devices} if devices else {})


def _with_resources(base: Body, given: Body) -> Body:
    """A container with other requests and limits."""
    before, now = base.get("resources", {}), given.get("resources", {})
    both = {name: {**before.get(name, {}), **now.get(name, {})} for name in sorted({*before, *now})}
    return {**base, **({"resources": both} if both else {})}


def _security(base: Body, given: Body) -> Body:
    """A security context of the pod or of the user's container."""
    allowed = {name: value for name, value in given.items() if name not in _SHARED}
    if allowed.get("runAsUser") == AGENT_USER_ID:
        del allowed["runAsUser"]
    result = {**base, **allowed}
    if "capabilities" in base:
        result["capabilities"] = {**base["capabilities"], **allowed.get("capabilities", {})}
    return result


def _last(entries: Iterable[Body], key: str) -> Iterable[Body]:
    """One entry a key: the last of those that have it."""
    return {entry[key]: entry for entry in entries}.values()


def _ours(path: str) -> bool:
    """Whether a path is the node's root directory or in it, however it is written."""
    plain = posixpath.normpath(f"/{path.lstrip('/')}")
    return plain == OWN_ROOT or plain.startswith(f"{OWN_ROOT}/")


def _shows_our_token(volume: Body) -> bool:
    sources = volume.get("projected", {}).get("sources", ())
    return any(source.get("serviceAccountToken", {}).get("audience") == AUDIENCE for source in sources)
