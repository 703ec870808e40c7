"""What the chart makes, by default and with each of its values."""

from pathlib import Path
from typing import Any

import pytest

from packhorse.operator.settings import Settings
from tests.unit.chart.rendering import (
    Object,
    environment,
    find,
    forget,
    key,
    keys,
    lasting,
    notes,
    pod_templates,
    render,
    template,
)

CLIENT = "0a1b2c3d-0000-4444-8888-123456789abc"
OPERATOR = ("Deployment", "packhorse-operator")
AZURITE = {
    ("Deployment", "packhorse-azurite"),
    ("NetworkPolicy", "packhorse-azurite"),
    ("PersistentVolumeClaim", "packhorse-azurite"),
    ("Role", "packhorse-uploader"),
    ("Service", "packhorse-azurite"),
}


def pod(objects: list[Object], name: str) -> Any:
    return find(objects, "Deployment", name)["spec"]["template"]


def container(objects: list[Object], name: str) -> Any:
    [only] = pod(objects, name)["spec"]["containers"]
    return only


def test_default_installation() -> None:
    objects = render()
    assert keys(objects) == AZURITE | {
        OPERATOR,
        ("ClusterRole", "packhorse-edit"),
        ("ClusterRole", "packhorse-operator"),
        ("ClusterRole", "packhorse-operator-tokenreviews"),
        ("ClusterRole", "packhorse-uninstall"),
        ("ClusterRole", "packhorse-view"),
        ("ClusterRoleBinding", "packhorse-operator"),
        ("ClusterRoleBinding", "packhorse-operator-tokenreviews"),
        ("ClusterRoleBinding", "packhorse-uninstall"),
        ("CustomResourceDefinition", "applicationpackages.packhorse.dev"),
        ("CustomResourceDefinition", "applications.packhorse.dev"),
        ("CustomResourceDefinition", "pools.packhorse.dev"),
        ("CustomResourceDefinition", "tasks.packhorse.dev"),
        ("Job", "packhorse-uninstall"),
        ("NetworkPolicy", "packhorse-operator"),
        ("Role", "packhorse-operator-own-namespace"),
        ("RoleBinding", "packhorse-operator-own-namespace"),
        ("Service", "packhorse-node-service"),
        ("ServiceAccount", "packhorse-operator"),
        ("ServiceAccount", "packhorse-uninstall"),
        *(
            (kind, f"packhorse-{name}")
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            for name in ("allow-updates", "package-quota", "reference-quota")
        ),
    }
    assert environment(objects) == {
        "PACKHORSE_EMBEDDED_STORAGE": "packhorse-azurite.$(PACKHORSE_NAMESPACE).svc:10000",
        "PACKHORSE_IMAGE": "packhorse/packhorse:0.1.0",
        "PACKHORSE_IMAGE_PULL_POLICY": "IfNotPresent",
        "PACKHORSE_LOG_LEVEL": "info",
        "PACKHORSE_NODE_NETWORK_POLICY": "true",
        "PACKHORSE_NAMESPACE_STORAGE": "true",
        "PACKHORSE_NODE_SERVICE": "packhorse-node-service.$(PACKHORSE_NAMESPACE).svc:8443",
        "PACKHORSE_PACKAGES_PER_APPLICATION": "40",
        "PACKHORSE_PACKAGE_SIZE": "195Gi",
        "PACKHORSE_PACKAGE_FILES": "250000",
        "PACKHORSE_PACKAGE_FILE_SIZE": "64Gi",
        "PACKHORSE_PACKAGE_UNPACKED_SIZE": "256Gi",
        "PACKHORSE_PACKAGE_RATIO": "500",
        "PACKHORSE_STORAGE_ACCOUNT": "",
        "PACKHORSE_STORAGE_CONTAINER": "packhorse",
        "PACKHORSE_STORAGE_SECRET": "packhorse-azurite",
        "PACKHORSE_WATCH_NAMESPACES": "",
    }


def test_no_object_twice_and_no_secret_and_nothing_random() -> None:
    objects = render()
    assert len({key(item) for item in objects}) == len(objects)
    assert not [item for item in objects if item["kind"] == "Secret"]
    forget()
    assert objects == render()


def test_names_of_variables_in_values_are_set_before_they_are_used() -> None:
    names = [entry["name"] for entry in container(render(), "packhorse-operator")["env"]]
    assert names.index("PACKHORSE_NAMESPACE") < names.index("PACKHORSE_NODE_SERVICE")
    assert names.index("PACKHORSE_NAMESPACE") < names.index("PACKHORSE_EMBEDDED_STORAGE")


def test_selectors_and_ports_meet() -> None:
    objects = render()
    for service, deployment in (("packhorse-node-service", "packhorse-operator"), ("packhorse-azurite",) * 2):
        spec = find(objects, "Service", service)["spec"]
        template_ = pod(objects, deployment)
        assert spec["selector"] == find(objects, "Deployment", deployment)["spec"]["selector"]["matchLabels"]
        assert spec["selector"].items() <= template_["metadata"]["labels"].items()
        assert next(port["targetPort"] for port in spec["ports"]) in {
            port["name"] for port in container(objects, deployment)["ports"]
        }
        policy = find(objects, "NetworkPolicy", deployment)["spec"]
        assert policy["podSelector"]["matchLabels"] == spec["selector"]


def test_network_policy_opens_the_node_service_to_nodes_alone() -> None:
    nodes, health = find(render(), "NetworkPolicy", "packhorse-operator")["spec"]["ingress"]
    assert nodes["ports"] == [{"port": "node-service", "protocol": "TCP"}]
    [peer] = nodes["from"]
    assert peer["podSelector"]["matchExpressions"] == [{"key": "packhorse.dev/pool", "operator": "Exists"}]
    assert peer["namespaceSelector"] == {}
    assert health == {"ports": [{"port": "health", "protocol": "TCP"}]}


def test_azurite_takes_what_the_operator_makes() -> None:
    azurite = container(render(), "packhorse-azurite")
    [accounts] = azurite["env"]
    secret = {"name": "packhorse-azurite", "key": "AZURITE_ACCOUNTS"}
    assert accounts == {"name": "AZURITE_ACCOUNTS", "valueFrom": {"secretKeyRef": secret}}
    volumes = {volume["name"]: volume for volume in pod(render(), "packhorse-azurite")["spec"]["volumes"]}
    assert volumes["certificate"]["secret"]["secretName"] == "packhorse-azurite"
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "packhorse-azurite"}
    options = azurite["args"]
    for option, value in (
        ("--location", "/data"),
        ("--cert", "/etc/azurite/tls.crt"),
        ("--key", "/etc/azurite/tls.key"),
        ("--blobHost", "0.0.0.0"),
        ("--blobPort", "10000"),
    ):
        assert options[options.index(option) + 1] == value
    assert "--disableTelemetry" in options


def test_azurite_without_volume() -> None:
    objects = render({"azurite": {"persistence": {"enabled": False}}})
    assert keys(render()) - keys(objects) == {("PersistentVolumeClaim", "packhorse-azurite")}
    volumes = {volume["name"]: volume for volume in pod(objects, "packhorse-azurite")["spec"]["volumes"]}
    assert volumes["data"] == {"name": "data", "emptyDir": {}}


def test_azurite_volume_as_asked_for() -> None:
    persistence = {"size": "3Gi", "storageClassName": "fast", "keep": False}
    claim = find(render({"azurite": {"persistence": persistence}}), "PersistentVolumeClaim", "packhorse-azurite")
    assert claim["spec"]["resources"] == {"requests": {"storage": "3Gi"}}
    assert claim["spec"]["storageClassName"] == "fast"
    assert "annotations" not in claim["metadata"]
    kept = find(render(), "PersistentVolumeClaim", "packhorse-azurite")
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "storageClassName" not in kept["spec"]


@pytest.mark.parametrize("secret", ["", "storage-account"])
def test_without_azurite(secret: str) -> None:
    objects = render({"azurite": {"enabled": False}, "storage": {"existingSecret": secret, "container": "apps"}})
    assert keys(render()) - keys(objects) == AZURITE
    variables = environment(objects)
    assert variables["PACKHORSE_STORAGE_SECRET"] == secret
    assert variables["PACKHORSE_STORAGE_CONTAINER"] == "apps"
    assert variables["PACKHORSE_EMBEDDED_STORAGE"] == ""


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"repository": "registry:5000/ph", "tag": "1.2"}, "registry:5000/ph:1.2"),
        ({"tag": "1.2", "digest": "sha256:" + "a" * 64}, "packhorse/packhorse@sha256:" + "a" * 64),
    ],
)
def test_image(image: dict[str, str], reference: str) -> None:
    objects = render({"image": {**image, "pullPolicy": "Always"}})
    operator = container(objects, "packhorse-operator")
    assert (operator["image"], operator["imagePullPolicy"]) == (reference, "Always")
    variables = environment(objects)
    assert (variables["PACKHORSE_IMAGE"], variables["PACKHORSE_IMAGE_PULL_POLICY"]) == (reference, "Always")


def test_azurite_image() -> None:
    image = {"repository": "mirror/azurite", "tag": "1", "digest": "sha256:" + "b" * 64, "pullPolicy": "Never"}
    azurite = container(render({"azurite": {"image": image}}), "packhorse-azurite")
    assert (azurite["image"], azurite["imagePullPolicy"]) == ("mirror/azurite@sha256:" + "b" * 64, "Never")


@pytest.mark.parametrize("name", ["packhorse-operator", "packhorse-azurite"])
def test_scheduling_and_metadata_of_pods(name: str) -> None:
    settings = {
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}},
        "podAnnotations": {"a": "1"},
        "podLabels": {"team": "render", "app.kubernetes.io/component": "not-this"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
    }
    secrets = [{"name": "registry"}]
    own = settings if name == "packhorse-operator" else {"azurite": settings}
    objects = render({**own, "imagePullSecrets": secrets})
    made = pod(objects, name)
    expected = {field: settings[field] for field in ("nodeSelector", "tolerations", "affinity", "priorityClassName")}
    assert expected.items() <= made["spec"].items()
    assert made["spec"]["imagePullSecrets"] == secrets
    assert made["metadata"]["annotations"] == {"a": "1"}
    assert made["metadata"]["labels"]["team"] == "render"
    assert made["metadata"]["labels"]["app.kubernetes.io/component"] == name.removeprefix("packhorse-")
    merged = container(objects, name)["resources"]
    assert (merged["requests"]["cpu"], merged["limits"]["memory"]) == ("2", "1Gi")
    [other] = {other for other, _ in pod_templates(lasting(objects))} - {name}
    assert "nodeSelector" not in pod(objects, other)["spec"]


def test_no_empty_lists_in_pods_by_default() -> None:
    for _, made in pod_templates(render()):
        assert "imagePullSecrets" not in made["spec"]
        assert "annotations" not in made["metadata"]


def test_a_new_chart_version_alone_restarts_nothing() -> None:
    for _, made in pod_templates(render()):
        assert "helm.sh/chart" not in made["metadata"]["labels"]


def test_more_environment_and_log_level_and_annotations() -> None:
    objects = render(
        {
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "logLevel": "debug",
            "serviceAccount": {"annotations": {"id": "x"}},
        }
    )
    assert environment(objects)["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment(objects)["PACKHORSE_LOG_LEVEL"] == "debug"
    assert find(objects, "ServiceAccount", "packhorse-operator")["metadata"]["annotations"] == {"id": "x"}


def test_without_network_policies() -> None:
    gone = keys(render()) - keys(render({"networkPolicy": {"enabled": False}}))
    assert gone == {("NetworkPolicy", "packhorse-azurite"), ("NetworkPolicy", "packhorse-operator")}


@pytest.mark.parametrize("wanted", [True, False])
def test_the_operator_is_told_whether_nodes_get_network_policies(wanted: bool) -> None:
    variables = environment(render({"nodes": {"networkPolicy": wanted}}))
    settings = Settings.from_environment({**variables, "PACKHORSE_NAMESPACE": "system"})
    assert settings.node_network_policy is wanted


@pytest.mark.parametrize(
    ("release", "values", "fullname"),
    [
        ("packhorse", {}, "packhorse"),
        ("my-packhorse", {}, "my-packhorse"),
        ("batch", {}, "batch-packhorse"),
        ("batch", {"fullnameOverride": "ph"}, "ph"),
    ],
)
def test_names_follow_the_release(release: str, values: dict[str, Any], fullname: str) -> None:
    objects = render(values, release=release)
    names = {item["metadata"]["name"] for item in objects if item["kind"] != "CustomResourceDefinition"}
    assert {name for name in names if not name.startswith(f"{fullname}-")} == set()
    uploader = find(objects, "Role", f"{fullname}-uploader")
    assert uploader["rules"][0]["resourceNames"] == [f"https:{fullname}-azurite:10000"]
    [operator] = find(objects, "Deployment", f"{fullname}-operator")["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in operator["env"]}
    assert variables["PACKHORSE_STORAGE_SECRET"] == f"{fullname}-azurite"
    assert variables["PACKHORSE_NODE_SERVICE"] == f"{fullname}-node-service.$(PACKHORSE_NAMESPACE).svc:8443"
    assert variables["PACKHORSE_EMBEDDED_STORAGE"] == f"{fullname}-azurite.$(PACKHORSE_NAMESPACE).svc:10000"


def test_a_long_release_name_still_makes_legal_names() -> None:
    for item in render(release="r" * 53):
        assert len(item["metadata"]["name"]) <= 63


def test_an_old_cluster_is_refused() -> None:
    done = template(kube_version="1.30.9")
    assert done.returncode != 0
    assert ">=1.31" in done.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["embedded storage account", "on a volume of 10Gi", "--role=packhorse-uploader"]),
        ({"azurite": {"persistence": {"enabled": False}}}, ["WARNING: it has no volume"]),
        ({"azurite": {"enabled": False}}, ["No storage account is linked", "--set storage.existingSecret="]),
        (
            {"azurite": {"enabled": False}, "storage": {"existingSecret": "account"}},
            ["create secret generic account", 'container "packhorse"', "connectionString="],
        ),
        (
            {
                "azurite": {"enabled": False},
                "storage": {
                    "account": "acct",
                    "workloadIdentity": {"enabled": True, "clientId": CLIENT},
                },
            },
            [
                "of the account acct",
                "system:serviceaccount:packhorse-system:packhorse-operator",
                "Storage Blob Delegator",
                "by a Secret packhorse-storage",
            ],
        ),
        ({"watchNamespaces": ["render", "genomics"]}, ["in one of the namespaces render, genomics"]),
    ],
)
def test_notes_tell_what_to_do_next(values: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    text = notes(values, tmp_path)
    for words in [*said, "packhorse package upload", "kind: Pool", "rollout status -n packhorse-system"]:
        assert words in text
