"""A template that no node can be made of: found out before a node is lost by it, and told in the API server's words."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from packhorse.cluster.client import CONFIG_MAP, EVENT, NETWORK_POLICY, POD, STATEFUL_SET, ApiError, kind_of
from packhorse.cluster.events import EventRecorder
from packhorse.domain.conditions import READY
from packhorse.domain.nodepod import NodeSettings, stateful_set
from packhorse.model import Pool
from packhorse.operator.controllers.pools import PoolController
from packhorse.operator.trial import at_fault, refusal
from tests.unit.objects import NAMESPACE, pool, raw_pool
from tests.unit.operator.fake_api import FakeApi
from tests.unit.operator.world import Operator

SETTINGS = NodeSettings("registry.example/packhorse:1", "Always", "packhorse.system.svc:8443", "-----BEGIN ...")
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/render"
POOL = kind_of(Pool)
RESTRICTED = ApiError(
    403, "Forbidden", 'pods "render-trial" is forbidden: violates PodSecurity "restricted:latest": no'
)
NO_CLASS = ApiError(403, "Forbidden", 'pods "render-trial" is forbidden: no PriorityClass with name x was found')
UNKNOWN = ApiError(400, "BadRequest", 'strict decoding error: unknown field "spec.affinity.nodeAfinity"')
INVALID = ApiError(422, "Invalid", 'Pod "render-trial" is invalid: spec.tolerations[0].operator: Unsupported value')
UNREADABLE = ApiError(500, "", "failed to create typed patch object (team/render; ...): field not declared in schema")


def refusing(path: str, error: Exception) -> Callable[[str, str], Exception | None]:
    return lambda method, asked: error if asked == path and method in {"POST", "PATCH"} else None


def once(path: str, error: Exception) -> Callable[[str, str], Exception | None]:
    """Refuse the first request to create or apply what is there; what is patched later is fine."""
    errors = [error]
    return lambda method, asked: errors.pop() if errors and asked == path and method in {"POST", "PATCH"} else None


@pytest.mark.parametrize("error", [RESTRICTED, NO_CLASS, UNKNOWN, INVALID])
async def test_what_is_wrong_with_a_template_is_told(error: ApiError) -> None:
    api = FakeApi()
    api.refuse = refusing(PODS, error)
    assert await refusal(api, stateful_set(pool(), SETTINGS)) == str(error).replace("render-trial", "render")


@pytest.mark.parametrize(
    "error",
    [
        ApiError(403, "Forbidden", 'pods "render-trial" is forbidden: exceeded quota: compute, requested: cpu=1'),
        ApiError(403, "Forbidden", 'pods "render-trial" is forbidden: failed quota: compute: must specify cpu'),
        ApiError(400, "BadRequest", 'admission webhook "a.b.c" does not support dry run'),
        ApiError(403, "Forbidden", 'pods is forbidden: User "x" cannot create resource "pods" in API group ""'),
        ApiError(403, "Forbidden", "unable to create new content in namespace team because it is being terminated"),
        ApiError(500, "InternalError", "failed calling webhook a.b.c"),
        ApiError(429, "TooManyRequests", "too many requests"),
    ],
)
async def test_what_says_nothing_of_a_template_is_no_refusal(error: ApiError) -> None:
    api = FakeApi()
    api.refuse = refusing(PODS, error)
    assert await refusal(api, stateful_set(pool(), SETTINGS)) is None


@pytest.mark.parametrize("storage", [{}, {"ephemeral": True}])
async def test_a_trial_is_a_pod_as_a_node_would_be_and_leaves_nothing(storage: dict[str, Any]) -> None:
    api, node_set = FakeApi(), stateful_set(pool(nodeStorage=storage), SETTINGS)
    asked: list[Any] = []
    request = api.request

    async def listen(method: str, path: str, **more: Any) -> Any:
        asked.append((method, path, more["query"], more["body"]))
        return await request(method, path, **more)

    api.request = listen  # type: ignore[method-assign]
    assert await refusal(api, node_set) is None
    [(method, path, query, body)] = asked
    assert (method, path, query["dryRun"]) == ("POST", PODS, "All")
    template = node_set["spec"]["template"]
    assert body["metadata"]["labels"] == template["metadata"]["labels"]
    assert body["metadata"]["name"] == "render-trial", "no node has that name"
    assert body["spec"] | {"volumes": []} == template["spec"] | {"volumes": []}
    node = next(volume for volume in body["spec"]["volumes"] if volume["name"] == "node")
    assert node.keys() == {"name", "emptyDir" if storage else "persistentVolumeClaim"}
    assert api.all(POD) == []


@pytest.mark.parametrize(("status", "fault"), [(400, True), (403, True), (422, True), (409, False), (503, False)])
def test_whose_fault_a_refusal_is(status: int, fault: bool) -> None:
    assert at_fault(ApiError(status, "", "no")) is fault
    assert at_fault(UNREADABLE)
    assert not at_fault(ApiError(500, "InternalError", "etcdserver: request timed out"))


# --- the controller ----------------------------------------------------------------------------------------------


class World:
    """A pool without packages, and the controller that looks after it."""

    def __init__(self, settings: NodeSettings = SETTINGS, **spec: Any) -> None:
        self.api = FakeApi()
        self.api.put(POOL, raw_pool(**spec))
        self.operator = Operator(self.api)
        self.operator.start()
        events = EventRecorder(self.api, "packhorse-0")
        self.controller = PoolController(self.api, self.operator.caches, events, settings, self.operator.dispatcher)

    async def reconcile(self) -> float | None:
        return await self.controller.reconcile((NAMESPACE, "render"))

    def ready(self) -> tuple[str, str]:
        found = Pool.model_validate(self.api.all(POOL)[0]).status.condition(READY)
        assert found is not None
        return found.reason, found.message


@pytest.fixture
async def world() -> World:
    return World()


NODE_SELECTOR: dict[str, Any] = {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}


@pytest.mark.parametrize(("path", "error"), [(PODS, RESTRICTED), (SETS, INVALID), (SETS, UNREADABLE)])
async def test_a_refused_template_leaves_the_nodes_as_they_were(world: World, path: str, error: ApiError) -> None:
    await world.reconcile()
    [before] = world.api.all(STATEFUL_SET)
    world.api.change(POOL, NAMESPACE, "render", {"spec": {"targetNodes": 3, **NODE_SELECTOR}})
    world.api.refuse = once(path, error)
    again = await world.reconcile()
    assert again is not None, "it is tried again"
    reason, message = world.ready()
    assert reason == "InvalidTemplate"
    assert str(error).partition(": ")[2] in message
    [after] = world.api.all(STATEFUL_SET)
    assert after["spec"]["template"] == before["spec"]["template"]
    [event] = [raw for raw in world.api.all(EVENT) if raw["reason"] == "InvalidTemplate"]
    assert event["type"] == "Warning"


async def test_nodes_of_a_refused_template_are_as_many_as_there_shall_be(world: World) -> None:
    await world.reconcile()
    world.api.refuse = refusing(PODS, RESTRICTED)
    world.api.change(POOL, NAMESPACE, "render", {"spec": {"targetNodes": 3, **NODE_SELECTOR}})
    await world.reconcile()
    [node_set] = world.api.all(STATEFUL_SET)
    assert node_set["spec"]["replicas"] == 3
    assert "nodeSelector" not in node_set["spec"]["template"]["spec"]
    world.api.refuse = lambda method, path: None
    await world.reconcile()
    [node_set] = world.api.all(STATEFUL_SET)
    assert node_set["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert world.ready()[0] != "InvalidTemplate"


async def test_a_pool_that_is_refused_from_the_start_has_no_nodes() -> None:
    world = World(**NODE_SELECTOR)
    world.api.refuse = refusing(PODS, RESTRICTED)
    await world.reconcile()
    assert world.api.all(STATEFUL_SET) == []
    assert world.ready()[0] == "InvalidTemplate"


async def test_each_pool_gets_what_its_nodes_need(world: World) -> None:
    await world.reconcile()
    names = {kind: [raw["metadata"]["name"] for raw in world.api.all(kind)] for kind in (CONFIG_MAP, NETWORK_POLICY)}
    assert names == {CONFIG_MAP: ["render-node-service"], NETWORK_POLICY: ["render-nodes"]}


async def test_network_policies_go_where_they_are_not_wanted_any_more(world: World) -> None:
    await world.reconcile()
    settings = dataclasses.replace(SETTINGS, network_policy=False)
    events = EventRecorder(world.api, "packhorse-0")
    other = PoolController(world.api, world.operator.caches, events, settings, world.operator.dispatcher)
    await other.reconcile((NAMESPACE, "render"))
    assert world.api.all(NETWORK_POLICY) == []
    await other.reconcile((NAMESPACE, "render"))
