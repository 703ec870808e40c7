"""The controller of pools: what it does to nodes, and that a crash in between leaves nothing undone."""

from typing import Any

import pytest

from packhorse.cluster.client import EVENT, POD, STATEFUL_SET, VOLUME_CLAIM, ApiUnavailableError
from packhorse.cluster.events import EventRecorder
from packhorse.domain.nodepod import NodeSettings
from packhorse.model import Pool
from packhorse.operator.controllers.pools import PoolController
from tests.unit.objects import NAMESPACE, metadata, raw_application, raw_package, raw_pod, raw_pool
from tests.unit.operator.fake_api import FakeApi
from tests.unit.operator.test_dispatcher import in_virtual_time
from tests.unit.operator.world import APPLICATION, PACKAGE, POOL, TASK, Operator
from tests.unit.virtual_time import settle

SETTINGS = NodeSettings("registry.example/packhorse:1", "Always", "packhorse.system.svc:8443", "-----BEGIN ...")
NOBODY_ANSWERS = ApiUnavailableError("nobody answers")


class World:
    """A pool, the pods that are its nodes, and the controller that looks after it."""

    def __init__(self, nodes: int = 1, **spec: Any) -> None:
        self.api = FakeApi()
        self.api.put(POOL, raw_pool(**{"targetNodes": nodes, **spec}))
        for number in range(nodes):
            self.boot(f"render-{number}")
        self.operator = Operator(self.api)
        self.operator.start()
        self.start_controller()

    def start_controller(self) -> None:
        """As after a crash: nothing is remembered."""
        events = EventRecorder(self.api, "packhorse-0")
        self.controller = PoolController(self.api, self.operator.caches, events, SETTINGS, self.operator.dispatcher)

    def boot(self, name: str, raw: dict[str, Any] | None = None) -> None:
        self.api.put(POD, raw or raw_pod(name))
        self.api.put(VOLUME_CLAIM, {"metadata": metadata(f"node-{name}", uid=f"claim-{name}")})

    async def reconcile(self) -> float | None:
        again = await self.controller.reconcile((NAMESPACE, "render"))
        await settle()
        return again

    def annotate(self, name: str, **annotations: str) -> None:
        named = {f"packhorse.dev/{key}": value for key, value in annotations.items()}
        self.api.change(POD, NAMESPACE, name, {"metadata": {"annotations": named}})

    def pods(self) -> set[str]:
        return {raw["metadata"]["name"] for raw in self.api.all(POD)}

    def claims(self) -> set[str]:
        return {raw["metadata"]["name"] for raw in self.api.all(VOLUME_CLAIM)}

    def pool(self) -> Pool:
        return Pool.model_validate(self.api.all(POOL)[0])

    def events(self, reason: str) -> list[str]:
        return [raw["note"] for raw in self.api.all(EVENT) if raw["reason"] == reason]


def broken(name: str, cause: str = "it is bad") -> dict[str, Any]:
    """A pod whose installation failed."""
    message = f'{{"code":"ApplicationPackageError","message":"Bad","details":[{{"name":"Cause","value":"{cause}"}}]}}'
    raw = raw_pod(name)
    failed = {"terminated": {"exitCode": 1, "message": message}}
    raw["status"]["initContainerStatuses"][0]["state"] = failed
    return raw


@in_virtual_time
async def test_a_reboot_deletes_the_pod_and_nothing_else() -> None:
    world = World(2)
    world.annotate("render-1", reboot="requeue")
    await world.reconcile()
    assert world.pods() == {"render-0"}
    assert world.claims() == {"node-render-0", "node-render-1"}


@pytest.mark.parametrize("cut", ["pods/render-0", "persistentvolumeclaims/node-render-0"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_reimage_that_is_cut_off_is_finished(cut: str, lost: bool) -> None:
    """The API server does not answer one of its two steps, carried out or not, and the operator crashes there."""

    @in_virtual_time
    async def story() -> None:
        world = World()
        world.annotate("render-0", reimage="requeue")
        left = [cut]

        def strike(method: str, path: str) -> bool:
            if left and method == "DELETE" and path.endswith(left[0]):
                left.clear()
                return True
            return False

        if lost:
            world.api.lose = strike
        else:
            world.api.refuse = lambda method, path: NOBODY_ANSWERS if strike(method, path) else None
        with pytest.raises(ApiUnavailableError):
            await world.reconcile()
        world.start_controller()
        await world.reconcile()
        assert (world.pods(), world.claims()) == (set(), set())

    story()


@in_virtual_time
async def test_an_ephemeral_node_has_no_claim_to_remove() -> None:
    world = World(nodeStorage={"ephemeral": True})
    world.annotate("render-0", reimage="requeue")
    await world.reconcile()
    assert world.pods() == set()
    assert not any("persistentvolumeclaims" in path for _, path in world.api.requests)


@in_virtual_time
async def test_a_pool_follows_its_tasks() -> None:
    world = World(1, targetNodes=1, autoScale={"minNodes": 0, "maxNodes": 3, "scaleDownDelay": "1m"})
    again = await world.reconcile()
    assert again == pytest.approx(60, abs=1), "it looks again when a node may go"
    for number in range(9):
        world.api.put(TASK, {**waiting(f"t{number}"), "metadata": metadata(f"t{number}")})
    await settle()
    await world.reconcile()
    assert world.pool().spec.target_nodes == 3
    await world.reconcile()
    [node_set] = world.api.all(STATEFUL_SET)
    assert node_set["spec"]["replicas"] == 3
    assert world.events("Scaled") == ["from 1 to 3 node(s), for the tasks that wait and run"]


def waiting(name: str) -> dict[str, Any]:
    spec = {"pool": "render", "commandLine": "true"}
    return {"metadata": metadata(name), "spec": spec, "status": {"observedGeneration": -1, "state": "active"}}


@in_virtual_time
async def test_an_unusable_node_is_restarted_when_something_else_is_wanted_and_only_then() -> None:
    world = World(0, targetNodes=1, applicationPackageReferences=[{"applicationId": "app"}])
    world.api.put(APPLICATION, raw_application("app", "1"))
    world.api.put(PACKAGE, raw_package("app", "1"))
    world.api.put(PACKAGE, raw_package("app", "2"))
    world.boot("render-0", broken("render-0"))
    for _ in range(3):
        await world.reconcile()
    assert world.pods() == {"render-0"}, "a restart of the operator, or time, changes nothing"
    assert world.events("NodeUnusable") == ["node render-0: Bad; Cause: it is bad"], "one cause, one event"
    world.api.change(APPLICATION, NAMESPACE, "app", {"spec": {"defaultVersion": "2"}})
    await world.reconcile()
    await world.reconcile()
    assert world.pods() == set()


@in_virtual_time
async def test_nodes_that_fail_for_a_storage_account_are_restarted_when_it_answers() -> None:
    world = World(0, targetNodes=2)
    world.boot("render-0", broken("render-0"))
    world.boot("render-1")
    await world.reconcile()
    world.controller.retry([world.pool()])
    await world.reconcile()
    assert world.pods() == {"render-1"}


@in_virtual_time
async def test_an_annotation_that_means_nothing_is_told_once() -> None:
    world = World()
    world.annotate("render-0", reboot="now")
    await world.reconcile()
    await world.reconcile()
    [note] = world.events("InvalidAnnotation")
    assert note.startswith("pod render-0: packhorse.dev/reboot: now: not understood")
    assert world.pods() == {"render-0"}


@in_virtual_time
async def test_nodes_stay_until_those_that_leave_have_no_tasks() -> None:
    world = World(1, targetNodes=0, nodeDeallocationOption="taskcompletion")
    task = waiting("busy")
    task["status"] = {"observedGeneration": 1, "state": "running", "nodeName": "render-0", "attempt": 1}
    raw = world.api.put(TASK, task)
    await settle()
    await world.reconcile()
    [node_set] = world.api.all(STATEFUL_SET)
    assert node_set["spec"]["replicas"] == 1
    [node] = world.pool().status.nodes
    assert (node.state, node.pending) == ("leavingpool", "leave")
    world.api.change(TASK, NAMESPACE, raw["metadata"]["name"], {"status": {"state": "completed"}})
    await settle()
    world.api.remove(TASK, NAMESPACE, "busy")
    await settle()
    await world.reconcile()
    [node_set] = world.api.all(STATEFUL_SET)
    assert node_set["spec"]["replicas"] == 0
