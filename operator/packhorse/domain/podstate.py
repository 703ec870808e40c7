"""What a node's pod shows of its node: how far it is, what is wrong with it, what somebody asked of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from packhorse.domain import azure
from packhorse.model import RunningTaskOption
from packhorse.model.node import DISABLE_ANNOTATION, POOL_LABEL, REBOOT_ANNOTATION, REIMAGE_ANNOTATION
from packhorse.protocol import Detail, Problem

INSTALL_CONTAINER = "install-packages"
AGENT_CONTAINER = "agent"
NODE_CONTAINER = "node"
VOLUME = "node"
"""Of a node's files; its claim is named after it and the pod."""

_IMAGE_PROBLEMS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
    | {"CreateContainerError", "RunContainerError"}
)


class Install(Enum):
    """How far a pod's init container is."""

    WAITING = "waiting"
    WORKING = "working"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Pod:
    """What we need to know of a pod that is a node.

    Attributes:
        owner_uid: Uid of the StatefulSet that controls it; empty where none does.
        ordinal: The number at the end of its name.
        revision: Which version of the pool's template it was made from.
        install: How far its installation is; FAILED also while it is tried again after a failure.
        problem: Why it cannot be used: a failed installation, or a container that cannot start.
        ready: All its containers run.
        created: When it was made, RFC 3339.
        deletion: When it has to be gone, RFC 3339; empty where it shall stay.
        reboot: Somebody asks for a reboot; what becomes of its tasks.
        reimage: The same with a new volume.
        disable: Somebody disabled scheduling; what becomes of its tasks.
        unread: Annotations of ours that mean nothing, as ``name: value``.
    """

    namespace: str
    name: str
    uid: str
    owner_uid: str
    pool: str
    ordinal: int
    revision: str
    worker: str
    install: Install
    problem: Problem | None
    ready: bool
    created: str
    deletion: str
    reboot: RunningTaskOption | None = None
    reimage: RunningTaskOption | None = None
    disable: RunningTaskOption | None = None
    unread: tuple[str, ...] = ()

    @property
    def deleting(self) -> bool:
        """Whether it is on its way out."""
        return bool(self.deletion)


def observe_pod(raw: Mapping[str, Any]) -> Pod:
    """Read a pod of the API server."""
    metadata, status = raw["metadata"], raw.get("status", {})
    init = {entry["name"]: entry for entry in status.get("initContainerStatuses", ())}
    main = {entry["name"]: entry for entry in status.get("containerStatuses", ())}
    install, problem = _install(init.get(INSTALL_CONTAINER, {}))
    labels = metadata.get("labels", {})
    annotations = metadata.get("annotations", {})
    ordinal = re.search(r"-([0-9]+)$", metadata["name"])
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=next((owner["uid"] for owner in metadata.get("ownerReferences", ()) if owner.get("controller")), ""),
        pool=labels.get(POOL_LABEL, ""),
        ordinal=int(ordinal.group(1)) if ordinal else 0,
        revision=labels.get("controller-revision-hash", ""),
        worker=raw.get("spec", {}).get("nodeName", ""),
        install=install,
        problem=problem or _container_problem([*init.values(), *main.values()]),
        ready=any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", ())),
        created=metadata.get("creationTimestamp", ""),
        deletion=metadata.get("deletionTimestamp", ""),
        reboot=task_option(annotations, REBOOT_ANNOTATION),
        reimage=task_option(annotations, REIMAGE_ANNOTATION),
        disable=task_option(annotations, DISABLE_ANNOTATION),
        unread=tuple(
            f"{name}: {annotations[name]}"
            for name in (REBOOT_ANNOTATION, REIMAGE_ANNOTATION, DISABLE_ANNOTATION)
            if name in annotations and task_option(annotations, name) is None
        ),
    )


def task_option(annotations: Mapping[str, str], name: str) -> RunningTaskOption | None:
    """What an annotation asks for; None where it is not there or means nothing."""
    value = annotations.get(name)
    return RunningTaskOption(value) if value in {option.value for option in RunningTaskOption} else None


def _install(entry: Mapping[str, Any]) -> tuple[Install, Problem | None]:
    state = entry.get("state", {})
    done = state.get("terminated")
    if done is not None and done["exitCode"] == 0:
        return Install.DONE, None
    failed = done or entry.get("lastState", {}).get("terminated")
    if failed is not None and failed["exitCode"] != 0:
        return Install.FAILED, _install_problem(failed)
    return (Install.WORKING if "running" in state else Install.WAITING), None


def _install_problem(terminated: Mapping[str, Any]) -> Problem:
    """What the init container left as its termination message, or, where it left none, how it ended."""
    try:
        return msgspec.json.decode(terminated.get("message", ""), type=Problem)
    except msgspec.DecodeError:
        cause = (
            f"the container {INSTALL_CONTAINER} ended with exit code {terminated['exitCode']}"
            f" ({terminated.get('reason', 'Error')}); see its log"
        )
        return Problem(azure.APPLICATION_PACKAGE_ERROR, azure.INVALID_FOR_POOL, (Detail("Cause", cause),))


def _container_problem(entries: Sequence[Mapping[str, Any]]) -> Problem | None:
    for entry in entries:
        waiting = entry.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _IMAGE_PROBLEMS:
            text = f"{waiting['reason']}: {waiting.get('message', '')}".removesuffix(": ")
            return Problem(
                "ContainerInvalidImage",
                "A container of the node cannot be started",
                (Detail("Container", entry["name"]), Detail("Image", entry.get("image", "")), Detail("Message", text)),
            )
    return None
