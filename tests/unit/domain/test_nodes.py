"""The state of a node, from pods as the API server shows them."""

import json
from typing import Any

import pytest

from packhorse.domain.nodes import Presence, Wanted, node_state, node_status
from packhorse.domain.podstate import Install, observe_pod
from packhorse.model import NodeState, NodeStatus
from packhorse.protocol import Package
from tests.unit.objects import LATER, NOW, deployed, raw_pod

BLENDER, FFMPEG = deployed("blender", "2.7"), deployed("ffmpeg", "7.1")
TOLD = {
    "code": "ApplicationPackageError",
    "message": "One or more application packages specified for the pool are invalid",
    "details": [
        {"name": "ApplicationPackageReference", "value": "blender:2.7"},
        {"name": "Message", "value": "Resource download failed"},
    ],
}
FAILED = {"exitCode": 1, "reason": "Error", "message": json.dumps(TOLD)}


def pod(
    install: dict[str, Any] | None = None,
    node: dict[str, Any] | None = None,
    agent: dict[str, Any] | None = None,
    *,
    ready: bool = True,
    deleting: bool = False,
    name: str = "render-1",
) -> dict[str, Any]:
    """A pod with these entries in place of the good ones."""
    raw = raw_pod(name)
    status = raw["status"]
    status["conditions"][0]["status"] = "True" if ready else "False"
    status["initContainerStatuses"][0] |= install or {}
    status["initContainerStatuses"][1] |= agent or {}
    status["containerStatuses"][0] |= node or {}
    if deleting:
        raw["metadata"]["deletionTimestamp"] = NOW
    return raw


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}}


NEW: dict[str, Any] = {"metadata": raw_pod()["metadata"], "spec": {}}
INSTALLING = pod({"state": {"running": {}}}, waiting("PodInitializing"), ready=False)
IDLE, BUSY, AWAY = Presence((BLENDER,), 0), Presence((BLENDER,), 2), None

# pod, connection, how many nodes there should be: the state, in Batch's words.
STATES: dict[str, tuple[dict[str, Any], Presence | None, int, NodeState]] = {
    "no status at all": (NEW, AWAY, 2, NodeState.CREATING),
    "image of the init container is being pulled": (
        pod(waiting("PodInitializing"), waiting("PodInitializing"), ready=False),
        AWAY,
        2,
        NodeState.CREATING,
    ),
    "installs": (INSTALLING, AWAY, 2, NodeState.STARTING),
    "installed, not ready": (pod(ready=False), AWAY, 2, NodeState.STARTING),
    "ready, not connected": (pod(), AWAY, 2, NodeState.STARTING),
    "connected, nothing to do": (pod(), IDLE, 2, NodeState.IDLE),
    "connected, with tasks": (pod(), BUSY, 2, NodeState.RUNNING),
    "connected, its container is down": (pod(ready=False), BUSY, 2, NodeState.UNKNOWN),
    "rebooting": (pod(deleting=True), BUSY, 2, NodeState.REBOOTING),
    "removed": (pod(deleting=True), BUSY, 1, NodeState.LEAVING_POOL),
    "removed while unusable": (
        pod({"state": {"terminated": FAILED}}, ready=False, deleting=True),
        AWAY,
        1,
        NodeState.LEAVING_POOL,
    ),
    "rebooting while unusable": (
        pod({"state": {"terminated": FAILED}}, ready=False, deleting=True),
        AWAY,
        2,
        NodeState.REBOOTING,
    ),
    "beyond the target, not deleted yet": (pod(), IDLE, 1, NodeState.LEAVING_POOL),
    "installation failed": (pod({"state": {"terminated": FAILED}}, ready=False), AWAY, 2, NodeState.UNUSABLE),
    "installation waits after a failure": (
        pod({**waiting("CrashLoopBackOff"), "lastState": {"terminated": FAILED}}, ready=False),
        AWAY,
        2,
        NodeState.UNUSABLE,
    ),
    "installation is tried again after a failure": (
        pod({"state": {"running": {}}, "lastState": {"terminated": FAILED}}, ready=False),
        AWAY,
        2,
        NodeState.UNUSABLE,
    ),
    "installation succeeded after a failure": (
        pod({"lastState": {"terminated": FAILED}}),
        IDLE,
        2,
        NodeState.IDLE,
    ),
    "user's image cannot be pulled": (
        pod(node=waiting("ImagePullBackOff", "no such image"), ready=False),
        AWAY,
        2,
        NodeState.UNUSABLE,
    ),
    "our image cannot be pulled": (
        pod(waiting("ErrImagePull", "no such image"), waiting("PodInitializing"), ready=False),
        AWAY,
        2,
        NodeState.UNUSABLE,
    ),
    "image without what starts the supervisor": (
        pod(node=waiting("RunContainerError", "exec format error"), ready=False),
        BUSY,
        2,
        NodeState.UNUSABLE,
    ),
}


@pytest.mark.parametrize(("raw", "presence", "target", "state"), STATES.values(), ids=STATES)
def test_state(raw: dict[str, Any], presence: Presence | None, target: int, state: NodeState) -> None:
    assert node_state(observe_pod(raw), presence, target) is state


def status(
    raw: dict[str, Any],
    presence: Presence | None,
    earlier: NodeStatus | None = None,
    *,
    wanted: list[Package] | None = None,
    revision: str = "r1",
    now: str = NOW,
) -> NodeStatus:
    now_wanted = Wanted(wanted, revision, "")
    return node_status(observe_pod(raw), presence, earlier, target=2, wanted=now_wanted, now=now)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NodeState.IDLE, NodeState.UNKNOWN),
        (NodeState.RUNNING, NodeState.UNKNOWN),
        (NodeState.UNKNOWN, NodeState.UNKNOWN),
        (NodeState.STARTING, NodeState.STARTING),
        (NodeState.CREATING, NodeState.STARTING),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_contact_is_lost_only_where_there_was_some(before: NodeState, after: NodeState, ready: bool) -> None:
    earlier = status(pod(), IDLE).model_copy(update={"state": before})
    assert status(pod(ready=ready), AWAY, earlier).state is after
    assert status(pod(), IDLE, earlier).state is NodeState.IDLE
    installing: dict[str, Any] = {"state": {"running": {}}}
    assert status(pod(installing, ready=False), AWAY, earlier).state is NodeState.STARTING


def test_what_is_read_of_a_pod() -> None:
    found = observe_pod(pod(name="render-12"))
    assert (found.namespace, found.name, found.pool, found.ordinal) == ("team", "render-12", "render", 12)
    assert (found.uid, found.owner_uid, found.revision, found.worker) == (
        "uid-of-render-12",
        "set-render",
        "r1",
        "worker-1",
    )
    assert (found.install, found.problem, found.ready, found.deleting) == (Install.DONE, None, True, False)


def test_a_pod_that_is_nobodys() -> None:
    raw = pod(name="lonely")
    raw["metadata"] |= {"labels": {}, "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u"}]}
    found = observe_pod(raw)
    assert (found.pool, found.owner_uid, found.ordinal) == ("", "", 0)


def test_the_error_of_an_installation_is_what_it_left() -> None:
    errors = status(pod({"state": {"terminated": FAILED}}, ready=False), AWAY).errors
    assert [error.dump() for error in errors] == [
        {
            "code": TOLD["code"],
            "message": TOLD["message"],
            "errorDetails": TOLD["details"],
        }
    ]


@pytest.mark.parametrize(
    ("terminated", "said"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, "exit code 137 (OOMKilled)"),
        ({"exitCode": 2, "reason": "Error", "message": "Traceback ..."}, "exit code 2 (Error)"),
        ({"exitCode": 1}, "exit code 1 (Error)"),
        ({"exitCode": 1, "message": '{"code": 1}'}, "exit code 1 (Error)"),
    ],
)
def test_the_error_of_an_installation_that_left_none(terminated: dict[str, Any], said: str) -> None:
    (error,) = status(pod({"state": {"terminated": terminated}}, ready=False), AWAY).errors
    assert error.code == "ApplicationPackageError"
    assert "install-packages" in error.error_details[0].value
    assert said in error.error_details[0].value


@pytest.mark.parametrize(
    ("entries", "container", "said"),
    [
        ({"node": waiting("ErrImagePull", "not found")}, "node", "ErrImagePull: not found"),
        ({"node": waiting("InvalidImageName")}, "node", "InvalidImageName"),
        (
            {"agent": waiting("CreateContainerConfigError", "no config")},
            "agent",
            "CreateContainerConfigError: no config",
        ),
    ],
)
def test_the_error_of_a_container_that_cannot_start(entries: dict[str, Any], container: str, said: str) -> None:
    (error,) = status(pod(**entries, ready=False), AWAY).errors
    assert error.code == "ContainerInvalidImage"
    details = {detail.name: detail.value for detail in error.error_details}
    assert (details["Container"], details["Message"]) == (container, said)
    assert details["Image"]


def test_no_errors_once_it_is_on_its_way_out() -> None:
    assert status(pod({"state": {"terminated": FAILED}}, deleting=True), AWAY).errors == ()


@pytest.mark.parametrize(
    ("presence", "wanted", "revision", "up_to_date"),
    [
        (IDLE, [BLENDER.package], "r1", True),
        (IDLE, [BLENDER.package], "r2", False),
        (IDLE, [BLENDER.package, FFMPEG.package], "r1", False),
        (IDLE, [], "r1", False),
        (IDLE, [deployed("blender", "2.7", "updated").package], "r1", False),
        (Presence((FFMPEG, BLENDER), 0), [BLENDER.package, FFMPEG.package], "r1", True),
        (Presence((), 0), [], "r1", True),
        (IDLE, None, "r1", False),
        (AWAY, [BLENDER.package], "r1", False),
    ],
)
def test_up_to_date(presence: Presence | None, wanted: list[Package] | None, revision: str, up_to_date: bool) -> None:
    assert status(pod(), presence, wanted=wanted, revision=revision).up_to_date == up_to_date


def test_packages_and_tasks() -> None:
    found = status(pod(), Presence((BLENDER, FFMPEG), 2))
    assert [(package.application_id, package.version) for package in found.packages] == [
        ("blender", "2.7"),
        ("ffmpeg", "7.1"),
    ]
    assert found.packages[0].sha256 == BLENDER.package.sha256
    assert found.running_tasks == 2


def test_packages_are_kept_while_it_is_not_connected() -> None:
    earlier = status(pod(), IDLE)
    assert status(pod(), AWAY, earlier).packages == earlier.packages
    assert status(NEW, AWAY, earlier).packages == ()
    assert status(pod(), AWAY).packages == ()


def test_since_when() -> None:
    idle = status(pod(), IDLE)
    assert idle.state_transition_time == NOW
    assert status(pod(), IDLE, idle, now=LATER).state_transition_time == NOW
    assert status(pod(), BUSY, idle, now=LATER).state_transition_time == LATER
