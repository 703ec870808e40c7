"""The status of a Pool."""

from dataclasses import replace
from typing import Any

import pytest

from packhorse.domain.nodes import Presence
from packhorse.domain.podstate import observe_pod
from packhorse.domain.pools import PoolView, fingerprint, observe_nodes, plan_pool, pool_status, resolve_pool
from packhorse.domain.references import Catalog
from packhorse.model import Pool, PoolStatus
from tests.unit.domain.test_nodes import FAILED, NEW, pod
from tests.unit.objects import LATER, NOW, application, catalog, deployed, package, raw_pool

CATALOG = catalog(
    [application("blender", default="2.7"), application("a"), application("a_b")],
    [package("blender", "2.7"), package("blender", "3.0"), package("a", "b_1"), package("a_b", "1")],
)
BLENDER = deployed("blender", "2.7", by_default=True)
IDLE, BUSY = Presence((BLENDER,), 0), Presence((BLENDER,), 1)
BY_DEFAULT = [{"applicationId": "blender"}]
UNUSABLE = pod({"state": {"terminated": FAILED}}, ready=False, name="render-0")


def make(target: int = 1, references: list[dict[str, str]] | None = None, status: PoolStatus | None = None) -> Pool:
    raw = raw_pool(targetNodes=target, applicationPackageReferences=references or [])
    raw["metadata"]["generation"] = 4
    return Pool.model_validate(raw | ({"status": status.dump()} if status else {}))


def status_of(
    pool: Pool,
    pods: list[dict[str, Any]],
    presence: dict[str, Presence] | None = None,
    *,
    catalog: Catalog = CATALOG,
    conflict: str = "",
    now: str = NOW,
) -> PoolStatus:
    presence = {name: replace(each, fingerprint=fingerprint(pool)) for name, each in (presence or {}).items()}
    view = PoolView(pool, resolve_pool(pool, catalog), [observe_pod(raw) for raw in pods], presence, "r1")
    nodes = observe_nodes(view, now)
    trouble = ("Conflict", conflict) if conflict else None
    return pool_status(view, nodes, plan_pool(view, nodes, now), now, trouble=trouble)


def ready(status: PoolStatus) -> tuple[str, str, str]:
    condition = status.condition("Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_references_resolved() -> None:
    resolution = resolve_pool(make(references=[{"applicationId": "Blender"}]), CATALOG)
    assert resolution.packages == (BLENDER,)
    assert resolution.problem is None


@pytest.mark.parametrize(
    ("references", "told", "cause"),
    [
        ([{"applicationId": "blender", "version": "9"}], "blender:9", "it has 2.7, 3.0"),
        ([{"applicationId": "maya"}], "maya:None", "no application 'maya'"),
        (
            [{"applicationId": "a", "version": "b_1"}, {"applicationId": "a_b", "version": "1"}],
            "a:b_1, a_b:1",
            "would both set AZ_BATCH_APP_PACKAGE_a_b_1",
        ),
    ],
)
def test_references_that_mean_nothing(references: list[dict[str, str]], told: str, cause: str) -> None:
    resolution = resolve_pool(make(references=references), CATALOG)
    assert resolution.packages is None
    assert resolution.problem is not None
    details = {detail.name: detail.value for detail in resolution.problem.details}
    assert resolution.problem.message == "One or more application packages specified for the pool are invalid"
    assert details["ApplicationPackageReference"] == told
    assert cause in details["Cause"]
    assert cause in resolution.message


def test_counts_and_nodes_in_order() -> None:
    pods = [pod(name="render-10"), pod(name="render-2"), UNUSABLE, pod(name="render-1")]
    presence = {"render-10": BUSY, "render-2": IDLE, "render-1": Presence((), 0)}
    status = status_of(make(11, BY_DEFAULT), pods, presence)
    assert [node.name for node in status.nodes] == ["render-0", "render-1", "render-2", "render-10"]
    assert (status.current_nodes, status.idle_nodes, status.running_nodes) == (4, 2, 1)
    assert (status.unusable_nodes, status.outdated_nodes) == (1, 1)
    assert status.selector == "packhorse.dev/pool=render"
    assert status.observed_generation == 4
    assert [(item.application_id, item.version) for item in status.packages] == [("blender", "2.7")]


@pytest.mark.parametrize(
    ("target", "pods", "state"),
    [
        (0, [], "steady"),
        (1, [], "resizing"),
        (1, [pod(name="render-0")], "resizing"),
        (2, [pod(name="render-0"), pod(name="render-1")], "resizing"),
        (0, [pod(name="render-0")], "resizing"),
        (0, [pod(name="render-0", deleting=True)], "resizing"),
        (1, [UNUSABLE], "steady"),
        (1, [pod(name="render-0", deleting=True)], "steady"),
    ],
)
def test_allocation_of_nodes_that_are_not_connected(target: int, pods: list[dict[str, Any]], state: str) -> None:
    assert status_of(make(target), pods).allocation_state == state


def test_allocation_of_nodes_that_work() -> None:
    pods = [pod(name="render-0"), pod(name="render-1")]
    assert status_of(make(2), pods, {"render-0": IDLE, "render-1": BUSY}).allocation_state == "steady"
    assert status_of(make(1), pods, {"render-0": IDLE, "render-1": BUSY}).allocation_state == "resizing"


def test_ready() -> None:
    pods = [pod(name="render-0"), pod(name="render-1")]
    status = status_of(make(2), pods, {"render-0": IDLE, "render-1": BUSY})
    assert ready(status)[:2] == ("True", "Steady")
    assert ready(status_of(make(0), []))[:2] == ("True", "Steady")
    assert ready(status_of(make(2), pods, {"render-0": IDLE})) == ("False", "Resizing", "1 of 2 node(s) can run tasks")
    assert ready(status_of(make(1), [NEW]))[:2] == ("False", "Resizing")


def test_not_ready_since_a_node_is_unusable() -> None:
    status, reason, message = ready(status_of(make(2), [UNUSABLE, pod()], {"render-1": IDLE}))
    assert (status, reason) == ("False", "ApplicationPackageError")
    for part in ("1 of 2 node(s) unusable", "render-0", "blender:2.7", "Resource download failed"):
        assert part in message


def test_not_ready_since_its_references_mean_nothing() -> None:
    broken = make(1, [{"applicationId": "maya"}])
    status = status_of(broken, [])
    assert ready(status)[:2] == ("False", "InvalidApplicationPackageReferences")
    resolved = status.condition("PackagesResolved")
    assert resolved is not None
    assert (resolved.status, resolved.reason) == ("False", "InvalidApplicationPackageReferences")
    assert status.packages == ()


def test_nodes_that_work_go_on_while_references_mean_nothing() -> None:
    status = status_of(make(1, [{"applicationId": "maya"}]), [pod(name="render-0")], {"render-0": IDLE})
    assert ready(status)[0] == "True"
    assert status.condition("PackagesResolved") is not None
    assert status.outdated_nodes == 1


def test_a_conflict_is_told_first() -> None:
    status = status_of(make(1, [{"applicationId": "maya"}]), [], conflict="there is a StatefulSet 'render' already")
    assert ready(status) == ("False", "Conflict", "there is a StatefulSet 'render' already")


def test_the_same_again_changes_nothing() -> None:
    pods, presence = [UNUSABLE, pod(name="render-1")], {"render-1": IDLE}
    first = status_of(make(2, BY_DEFAULT), pods, presence)
    assert status_of(make(2, BY_DEFAULT, first), pods, presence, now=LATER) == first


def test_a_changed_default_makes_nodes_outdated() -> None:
    newer = catalog([application("blender", default="3.0")], [package("blender", "2.7"), package("blender", "3.0")])
    pods, presence = [pod(name="render-0")], {"render-0": IDLE}
    assert status_of(make(1, BY_DEFAULT), pods, presence).outdated_nodes == 0
    assert status_of(make(1, BY_DEFAULT), pods, presence, catalog=newer).outdated_nodes == 1
