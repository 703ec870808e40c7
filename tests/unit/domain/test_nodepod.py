"""The pods that are nodes: who may do and see what in them."""

from typing import Any

import pytest

from packhorse.domain.nodepod import NodeSettings, config_map, stateful_set
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
    for found in (made(), config_map(pool(), SETTINGS)):
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pool", "render", "uid-of-render")
        assert owner["controller"] is True
    assert made()["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Delete"}


def test_the_restricted_profile_of_pod_security() -> None:
    pod = pod_spec()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in containers().values():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["runAsUser"] > 0
    allowed = {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}
    assert all(volume.keys() & allowed for volume in pod["volumes"])


def test_the_agent_is_another_user_of_the_same_group() -> None:
    users = {name: container["securityContext"]["runAsUser"] for name, container in containers().items()}
    assert users["install-packages"] == users["agent"] != users["node"]
    assert pod_spec()["securityContext"]["runAsGroup"] == pod_spec()["securityContext"]["fsGroup"]
    assert containers()["agent"]["securityContext"]["readOnlyRootFilesystem"] is True


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


def test_packages_are_no_part_of_the_template() -> None:
    """A new node asks for them when it starts: a changed reference makes no new revision by itself."""
    with_references = made(applicationPackageReferences=[{"applicationId": "blender", "version": "2.7"}])
    assert with_references == made()
