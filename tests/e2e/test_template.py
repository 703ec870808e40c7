"""A Pool's template on the cluster: what nodes' pods get of it, when, and what is refused in which words."""

import json
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pool, resource, task

pytestmark = pytest.mark.cluster

TOLERATION = {"key": "example.com/render", "operator": "Exists", "effect": "NoSchedule"}


def machine(cluster: Cluster) -> str:
    """The last machine that pods may run on."""
    nodes = json.loads(cluster.run_kubectl("get", "nodes", "-o", "json"))["items"]
    free = [node["metadata"]["name"] for node in nodes if not node["spec"].get("taints")]
    return str(max(free))


def template(where: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"example.com/team": "render"}, "annotations": {"example.com/note": "made by a test"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": where},
            "tolerations": [TOLERATION],
            "terminationGracePeriodSeconds": 20,
            "securityContext": {"supplementalGroups": [4711]},
            "volumes": [
                {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            ],
            "containers": [
                {
                    "name": "node",
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": "/data/scratch"},
                        {"name": "memory", "mountPath": "/dev/shm"},
                    ],
                }
            ],
            "initContainers": [
                {"name": "install-packages", "resources": {"limits": {"memory": "512Mi"}}},
                {"name": "agent", "resources": {"requests": {"memory": "80Mi"}}},
            ],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def shaped(namespace: Namespace, installed: Cluster) -> Namespace:
    """Two nodes with a template."""
    where = machine(installed)
    namespace.apply(pool("shaped", 2, installed.task_image, template=template(where)))
    namespace.idle("shaped", 2)
    return namespace


def pod(namespace: Namespace, name: str) -> dict[str, Any]:
    return namespace.get("pod", name)


def test_a_template_reaches_the_pods(shaped: Namespace, installed: Cluster) -> None:
    for name in ("shaped-0", "shaped-1"):
        found = pod(shaped, name)
        spec = found["spec"]
        assert found["metadata"]["labels"]["example.com/team"] == "render"
        assert found["metadata"]["labels"]["packhorse.dev/pool"] == "shaped"
        assert found["metadata"]["annotations"]["example.com/note"] == "made by a test"
        assert spec["nodeName"] == machine(installed)
        assert TOLERATION in spec["tolerations"]
        assert spec["terminationGracePeriodSeconds"] == 20
        resources = {each["name"]: each["resources"] for each in [*spec["initContainers"], *spec["containers"]]}
        assert resources["node"] == {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}}
        assert resources["install-packages"]["limits"] == {"memory": "512Mi"}
        assert resources["agent"]["requests"] == {"cpu": "10m", "memory": "80Mi"}


def test_tasks_find_what_the_template_gives_them(shaped: Namespace) -> None:
    look = [
        "echo kept > /data/scratch/file && cat /data/scratch/file",
        "echo fast > /dev/shm/file && cat /dev/shm/file",
        "id -G | tr ' ' '\\n' | grep -x 4711",
        "id -g",
        "grep -c ' /dev/shm tmpfs ' /proc/mounts",
    ]
    shaped.apply(task("looks", "shaped", "; ".join(look)))
    assert shaped.finished("looks")["output"] == {"stdout": "kept\nfast\n4711\n10001\n1\n", "stderr": ""}


def test_the_status_and_the_api_know_the_template(shaped: Namespace, installed: Cluster) -> None:
    assert shaped.get("phpool", "shaped")["spec"]["template"] == template(machine(installed))
    explained = shaped.kubectl("explain", "phpool.spec.template.spec.containers.volumeMounts.mountPath")
    assert "Where tasks find it" in explained


def test_a_network_policy_goes_with_the_pool(shaped: Namespace) -> None:
    policy = shaped.get("networkpolicy", "shaped-nodes")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert not policy["spec"].get("ingress")
    shaped.kubectl("patch", "phpool", "shaped", "--type=merge", "-p", '{"spec":{"enableInterNodeCommunication":true}}')
    own = {"matchLabels": {"packhorse.dev/pool": "shaped"}}
    eventually(
        lambda: (
            shaped.get("networkpolicy", "shaped-nodes")["spec"].get("ingress") == [{"from": [{"podSelector": own}]}]
        ),
        "nodes may reach each other",
    )
    assert shaped.get("phpool", "shaped")["status"]["outdatedNodes"] == 0, "it takes no reboot"


def refused(namespace: Namespace, **fields: Any) -> str:
    return namespace.refused(resource("Pool", "refused", targetNodes=0, image="debian", template=fields))


def test_what_is_no_business_of_a_template_is_refused_in_words(shaped: Namespace) -> None:
    node = {"name": "node"}
    cases = {
        "spec.environmentSettings": {"containers": [{**node, "env": [{"name": "A", "value": "1"}]}]},
        "spec.image": {"containers": [{**node, "image": "other"}]},
        "a node has no further containers": {"containers": [{"name": "sidecar"}]},
        "are the operator's own": {"containers": [{**node, "volumeMounts": [{"name": "token", "mountPath": "/t"}]}]},
        "user 65532 is the agent's own": {"securityContext": {"runAsUser": 65532}},
        'unknown field "spec.template.spec.hostNetwork"': {"hostNetwork": True},
        'unknown field "spec.template.spec.shareProcessNamespace"': {"shareProcessNamespace": True},
        'unknown field "spec.template.spec.automountServiceAccountToken"': {"automountServiceAccountToken": True},
    }
    for words, spec in cases.items():
        assert words in refused(shaped, spec=spec)
    assert "packhorse.dev/" in refused(shaped, metadata={"annotations": {"packhorse.dev/reboot": "requeue"}})


def patched(namespace: Namespace, fields: dict[str, Any]) -> None:
    namespace.kubectl("patch", "phpool", "shaped", "--type=merge", "-p", json.dumps({"spec": {"template": fields}}))


def rebooted(namespace: Namespace, name: str) -> dict[str, Any]:
    """The pod of a node after its reboot."""
    before = pod(namespace, name)["metadata"]["uid"]
    namespace.kubectl("delete", "pod", name)

    def another() -> bool:
        pods = [found for found in namespace.list("pod") if found["metadata"]["name"] == name]
        return bool(pods) and pods[0]["metadata"]["uid"] != before

    eventually(another, f"{name} is another pod")
    namespace.idle("shaped", 2)
    return pod(namespace, name)


def outdated(namespace: Namespace) -> int:
    found: int = namespace.get("phpool", "shaped")["status"]["outdatedNodes"]
    return found


def test_a_changed_template_reaches_rebooted_nodes_alone(shaped: Namespace) -> None:
    uids = {name: pod(shaped, name)["metadata"]["uid"] for name in ("shaped-0", "shaped-1")}
    patched(shaped, {"metadata": {"labels": {"example.com/team": "compositing"}}})
    eventually(lambda: outdated(shaped) == 2, "both nodes are outdated")
    assert {name: pod(shaped, name)["metadata"]["uid"] for name in uids} == uids, "no node is touched"
    assert rebooted(shaped, "shaped-1")["metadata"]["labels"]["example.com/team"] == "compositing"
    assert pod(shaped, "shaped-0")["metadata"]["labels"]["example.com/team"] == "render"
    assert pod(shaped, "shaped-0")["metadata"]["uid"] == uids["shaped-0"]
    eventually(lambda: outdated(shaped) == 1, "one node is outdated")
    assert [name for name, node in shaped.nodes("shaped").items() if node["upToDate"]] == ["shaped-1"]


@pytest.mark.parametrize(
    ("name", "broken", "mended", "words"),
    [
        (
            "priority-class",
            {"spec": {"priorityClassName": "no-such-class"}},
            {"spec": {"priorityClassName": None}},
            "no PriorityClass with name no-such-class was found",
        ),
        (
            "unknown-field",
            {"spec": {"affinity": {"nodeAfinity": {}}}},
            {"spec": {"affinity": None}},
            'unknown field "spec.affinity.nodeAfinity"',
        ),
        (
            "label",
            {"metadata": {"labels": {"example.com/bad": "no label!"}}},
            {"metadata": {"labels": {"example.com/bad": None}}},
            "a valid label must",
        ),
        (
            "runtime-class",
            {"spec": {"runtimeClassName": "no-such-runtime"}},
            {"spec": {"runtimeClassName": None}},
            'RuntimeClass "no-such-runtime" not found',
        ),
    ],
)
def test_a_template_that_no_node_can_be_made_of_is_told_and_costs_no_node(
    shaped: Namespace, name: str, broken: dict[str, Any], mended: dict[str, Any], words: str
) -> None:
    patched(shaped, broken)

    def told() -> dict[str, Any]:
        ready = shaped.condition("phpool", "shaped", "Ready")
        return ready if ready.get("reason") == "InvalidTemplate" else {}

    ready = eventually(told, "the condition says so")
    assert ready["status"] == "False"
    assert words in ready["message"]
    rebooted(shaped, "shaped-0")  # and comes back, as it was
    shaped.apply(task(f"works-{name}", "shaped", "true"))
    assert shaped.finished(f"works-{name}")["executionInfo"]["result"] == "success"
    patched(shaped, mended)
    eventually(lambda: shaped.condition("phpool", "shaped", "Ready").get("reason") != "InvalidTemplate", "it is mended")


# The last test of the file: it changes the number of nodes.
def test_what_the_namespace_forbids_is_told_and_the_pool_still_scales(shaped: Namespace) -> None:
    """Pod Security looks at pods only, when they are made: without a trial a node would be lost first."""
    patched(shaped, {"spec": {"volumes": [{"name": "machine", "hostPath": {"path": "/"}}], "containers": []}})
    ready = eventually(
        lambda: shaped.condition("phpool", "shaped", "Ready").get("message", "").partition("violates PodSecurity")[2],
        "the condition says so",
    )
    assert "hostPath" in ready
    events = shaped.kubectl("get", "events", "-o", "jsonpath={.items[?(@.reason=='InvalidTemplate')].message}")
    assert "violates PodSecurity" in events
    shaped.kubectl("scale", "phpool", "shaped", "--replicas=1")
    shaped.idle("shaped", 1)
    shaped.kubectl("scale", "phpool", "shaped", "--replicas=2")
    shaped.idle("shaped", 2)
