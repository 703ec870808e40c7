"""The pods that are nodes: who may do and see what in them."""

from typing import Any

import pytest

from packhorse.domain import podstate
from packhorse.domain.environment import NODE_ROOT
from packhorse.domain.nodepod import NodeSettings, config_map, network_policy, stateful_set
from packhorse.model import template as names
from packhorse.protocol import AUDIENCE
from tests.unit.objects import pool

SETTINGS = NodeSettings("registry.example/packhorse:1", "Always", "packhorse.system.svc:8443", "-----BEGIN ...")
ROOT = "/mnt/batch/tasks"


def made(**spec: Any) -> dict[str, Any]:
    return stateful_set(pool(**spec), SETTINGS)


def pod_spec(**spec: Any) -> dict[str, Any]:
    template: dict[str, Any] = made(**spec)["spec"]["template"]["spec"]
    return template


def containers(**spec: Any) -> dict[str, dict[str, Any]]:
    pod = pod_spec(**spec)
    return {container["name"]: container for container in [*pod["initContainers"], *pod["containers"]]}


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def test_batchs_rules_by_a_stateful_set() -> None:
    found = made(targetNodes=7)
    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "StatefulSet")
    assert found["metadata"]["name"] == "render"
    assert found["metadata"]["namespace"] == "team"
    spec = found["spec"]
    assert spec["replicas"] == 7
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_all_goes_with_the_pool() -> None:
    for found in (made(), config_map(pool(), SETTINGS), network_policy(pool())):
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pool", "render", "uid-of-render")
        assert owner["controller"] is True
    assert made()["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Delete"}


def test_the_restricted_profile_of_pod_security() -> None:
    pod = pod_spec()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["runAsUser"] > 0
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in containers().values():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security.get("runAsUser") != 0
        assert "privileged" not in security
        assert not any("hostPort" in port for port in container.get("ports", ()))
    allowed = {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}
    assert all(volume.keys() & allowed for volume in pod["volumes"])


def test_the_agent_is_another_user_of_the_same_group() -> None:
    users = {name: container["securityContext"].get("runAsUser") for name, container in containers().items()}
    assert users == {"install-packages": 65532, "agent": 65532, "node": None}
    assert pod_spec()["securityContext"]["runAsUser"] == 10002, "of all that do not say otherwise"
    assert pod_spec()["securityContext"]["runAsGroup"] == pod_spec()["securityContext"]["fsGroup"]
    assert containers()["agent"]["securityContext"]["readOnlyRootFilesystem"] is True


def test_no_task_sees_the_agents_process() -> None:
    assert pod_spec()["shareProcessNamespace"] is False


def test_our_containers_keep_their_seccomp_profile_whatever_the_template_says() -> None:
    security = {"seccompProfile": {"type": "Unconfined"}}
    found = containers(template={"spec": {"securityContext": security}})
    for name in ("install-packages", "agent"):
        assert found[name]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "seccompProfile" not in found["node"]["securityContext"], "the pod's counts"


def test_only_our_own_containers_have_the_token() -> None:
    pod = pod_spec()
    assert pod["automountServiceAccountToken"] is False
    (token,) = (volume for volume in pod["volumes"] if "projected" in volume)
    (source,) = token["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == AUDIENCE
    holders = {
        name
        for name, container in containers().items()
        if any(mount["name"] == token["name"] for mount in container["volumeMounts"])
    }
    assert holders == {"install-packages", "agent"}


def test_the_users_container_sees_packages_to_read_and_nothing_of_the_agents() -> None:
    node = mounts(containers()["node"])
    assert {path.removeprefix(f"{ROOT}/"): mount["readOnly"] for path, mount in node.items()} == {
        "applications": True,
        ".packhorse/bin": True,
        ".packhorse/run": False,
        "shared": False,
        "startup": False,
        "fsmounts": False,
        "workitems": False,
    }
    for path, mount in node.items():
        assert path == f"{ROOT}/{mount['subPath']}"
        assert mount["name"] == "node"


def test_our_containers_see_the_whole_volume() -> None:
    for name in ("install-packages", "agent"):
        found = mounts(containers()[name])
        assert found[ROOT] == {"name": "node", "mountPath": ROOT}
        assert found["/etc/packhorse/node-service"]["readOnly"] is True


def test_the_users_container_is_started_by_our_own_busybox() -> None:
    node = containers(image="alpine:3")["node"]
    assert node["image"] == "alpine:3"
    assert node["command"] == [
        f"{ROOT}/.packhorse/bin/busybox",
        "sh",
        f"{ROOT}/.packhorse/bin/start",
    ]
    assert pod_spec()["enableServiceLinks"] is False


def test_our_containers() -> None:
    pod = pod_spec()
    install, agent = pod["initContainers"]
    assert install["command"] == ["packhorse-node", "install"]
    assert agent["command"] == ["packhorse-node", "agent"]
    assert "restartPolicy" not in install
    assert agent["restartPolicy"] == "Always"
    for container in (install, agent):
        assert (container["image"], container["imagePullPolicy"]) == (SETTINGS.image, "Always")
        environment = {variable["name"]: variable for variable in container["env"]}
        assert environment["PACKHORSE_NODE_SERVICE"]["value"] == SETTINGS.service
        assert environment["PACKHORSE_POOL"]["value"] == "render"


def test_whom_nodes_trust() -> None:
    found = config_map(pool(), SETTINGS)
    assert found["data"] == {"ca.crt": SETTINGS.authority}
    (authority,) = (volume for volume in pod_spec()["volumes"] if volume["name"] == "authority")
    assert authority["configMap"]["name"] == found["metadata"]["name"]


@pytest.mark.parametrize("storage_class", [None, "fast"])
def test_a_claim_for_each_node(storage_class: str | None) -> None:
    storage = {"size": "5Gi"} | ({"storageClassName": storage_class} if storage_class else {})
    (claim,) = made(nodeStorage=storage)["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "node"
    assert claim["spec"]["resources"] == {"requests": {"storage": "5Gi"}}
    assert claim["spec"].get("storageClassName") == storage_class
    assert "node" not in {volume["name"] for volume in pod_spec(nodeStorage=storage)["volumes"]}


def test_a_volume_that_goes_with_the_pod() -> None:
    storage = {"size": "5Gi", "ephemeral": True}
    assert made(nodeStorage=storage)["spec"]["volumeClaimTemplates"] == []
    volumes = {volume["name"]: volume for volume in pod_spec(nodeStorage=storage)["volumes"]}
    assert volumes["node"]["emptyDir"] == {"sizeLimit": "5Gi"}


def test_every_mount_has_its_volume() -> None:
    for storage in ({}, {"ephemeral": True}):
        found = made(nodeStorage=storage)["spec"]
        volumes = {volume["name"] for volume in found["template"]["spec"]["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in found["volumeClaimTemplates"]}
        for container in containers(nodeStorage=storage).values():
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_the_model_knows_what_is_ours() -> None:
    """Its rules refuse what has these names."""
    ephemeral = pod_spec(nodeStorage={"ephemeral": True})
    assert {volume["name"] for volume in ephemeral["volumes"]} == set(names.OWN_VOLUMES)
    assert names.NODE_VOLUME == podstate.VOLUME
    assert str(NODE_ROOT) == names.OWN_ROOT
    own = [container["name"] for container in pod_spec()["initContainers"]]
    assert own == [podstate.INSTALL_CONTAINER, podstate.AGENT_CONTAINER] == list(names.OWN_CONTAINERS)
    (node,) = pod_spec()["containers"]
    assert node["name"] == names.NODE_CONTAINER == podstate.NODE_CONTAINER
    assert made()["spec"]["template"]["metadata"]["labels"].keys() == {*names.OWN_LABELS, "packhorse.dev/pool"}


@pytest.mark.parametrize(("number", "replicas"), [(None, 3), (0, 0), (5, 5)])
def test_there_may_be_more_nodes_than_the_target_while_some_leave(number: int | None, replicas: int) -> None:
    assert stateful_set(pool(targetNodes=3), SETTINGS, replicas=number)["spec"]["replicas"] == replicas


def test_nobody_connects_to_nodes() -> None:
    policy = network_policy(pool())
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert (policy["metadata"]["namespace"], policy["metadata"]["name"]) == ("team", "render-nodes")
    spec = policy["spec"]
    assert spec["podSelector"]["matchLabels"].items() <= made()["spec"]["template"]["metadata"]["labels"].items()
    assert spec["ingress"] == []
    assert spec["policyTypes"] == ["Ingress"], "where tasks connect to is open"


def test_nodes_of_one_pool_connect_to_each_other_where_it_says_so() -> None:
    spec = network_policy(pool(enableInterNodeCommunication=True))["spec"]
    assert spec["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}]}]


def test_a_changed_template_makes_a_new_revision() -> None:
    changed = made(template={"metadata": {"labels": {"team": "a"}}})
    assert changed["spec"]["template"] != made()["spec"]["template"]
    assert changed["spec"]["selector"] == made()["spec"]["selector"]


def test_packages_are_no_part_of_the_template() -> None:
    """A new node asks for them when it starts: a changed reference makes no new revision by itself."""
    with_references = made(applicationPackageReferences=[{"applicationId": "blender", "version": "2.7"}])
    assert with_references == made()
