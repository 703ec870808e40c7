"""What pods may do to their machine, and what the operator and users may do to the cluster."""

from collections.abc import Iterator
from typing import Any

import pytest

from packhorse.operator.secrets import AUTHORITY_SECRET
from tests.unit.chart.rendering import MANIFESTS, Object, find, hooks, keys, kustomize, lasting, pod_templates, render

RENDERINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "namespaces": {"watchNamespaces": ["render", "genomics"]},
    "linked": {"azurite": {"enabled": False}, "storage": {"existingSecret": "storage-account"}},
    "unlinked": {"azurite": {"enabled": False}},
}
KINDS = {"applications", "applicationpackages", "pools", "tasks"}


def rules(objects: list[Object], *kinds: str) -> Iterator[tuple[Object, dict[str, Any]]]:
    for item in objects:
        if item["kind"] in kinds:
            for rule in item["rules"]:
                yield item, rule


@pytest.mark.parametrize("values", RENDERINGS.values(), ids=RENDERINGS.keys())
def test_pods_keep_to_the_restricted_standard(values: dict[str, Any]) -> None:
    folders = (MANIFESTS / "install", MANIFESTS / "uninstall")
    templates = [*pod_templates(render(values)), *(each for path in folders for each in pod_templates(kustomize(path)))]
    assert templates
    for _, pod in templates:
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert all("hostPort" not in port for port in container.get("ports", ()))
            assert container["resources"]["limits"]["memory"]
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            probes = {"livenessProbe", "readinessProbe", "startupProbe"}
            assert probes & container.keys() == (set() if "restartPolicy" in spec else probes)


def test_only_the_operator_and_what_cleans_up_after_it_have_a_token() -> None:
    templates = dict(pod_templates(render()))
    assert templates.keys() == {"packhorse-azurite", "packhorse-operator", "packhorse-uninstall"}
    assert templates["packhorse-uninstall"]["spec"]["serviceAccountName"] == "packhorse-uninstall"
    assert templates["packhorse-azurite"]["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in templates["packhorse-azurite"]["spec"]
    assert templates["packhorse-operator"]["spec"]["serviceAccountName"] == "packhorse-operator"


@pytest.mark.parametrize("values", RENDERINGS.values(), ids=RENDERINGS.keys())
def test_no_wildcards_and_no_way_to_more_rights(values: dict[str, Any]) -> None:
    for item, rule in rules(render(values), "Role", "ClusterRole"):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], item["metadata"]["name"]
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert "nonResourceURLs" not in rule
        assert not {"pods/exec", "pods/attach", "pods/ephemeralcontainers"} & set(rule["resources"])
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"]


@pytest.mark.parametrize(
    ("rendering", "account"),
    [("default", ["packhorse-azurite"]), ("linked", ["storage-account"]), ("unlinked", [])],
)
def test_nobody_lists_secrets_and_the_operator_reads_its_own_alone(rendering: str, account: list[str]) -> None:
    readable = []
    for item, rule in rules(render(RENDERINGS[rendering]), "Role", "ClusterRole"):
        if "secrets" in rule["resources"]:
            assert not {"list", "watch"} & set(rule["verbs"])
            if "get" in rule["verbs"]:
                readable.append((item["metadata"].get("namespace"), rule["resourceNames"]))
    assert readable == [(None, ["packhorse-storage"]), ("packhorse-system", [AUTHORITY_SECRET, *account])]


@pytest.mark.parametrize(("namespaces", "wheres"), [([], [None]), (["render", "genomics"], ["render", "genomics"])])
def test_secrets_of_namespaces_are_read_only_where_they_may_link_accounts(
    namespaces: list[str], wheres: list[str | None]
) -> None:
    def readable(wanted: bool) -> list[tuple[str | None, list[str]]]:
        objects = render({"watchNamespaces": namespaces, "storage": {"namespaceSecrets": wanted}})
        return [
            (item["metadata"].get("namespace"), rule["resourceNames"])
            for item, rule in rules(objects, "Role", "ClusterRole")
            if item["metadata"]["name"] == "packhorse-operator"
            and "secrets" in rule["resources"]
            and "get" in rule["verbs"]
        ]

    assert readable(True) == [(where, ["packhorse-storage"]) for where in wheres]
    assert readable(False) == []


def allowed(objects: list[Object], name: str) -> dict[str, set[str]]:
    """The verbs of each resource in the roles of that name, which have to agree."""
    verbs: dict[str, set[str]] = {}
    for item, rule in rules(objects, "Role", "ClusterRole"):
        if item["metadata"]["name"] == name:
            for resource in rule["resources"]:
                verbs.setdefault(resource, set()).update(rule["verbs"])
    return verbs


@pytest.mark.parametrize("values", RENDERINGS.values(), ids=RENDERINGS.keys())
def test_rights_of_the_operator(values: dict[str, Any]) -> None:
    read = {"get", "list", "watch"}
    assert allowed(render(values), "packhorse-operator") == {
        "pools": read,
        "tasks": read,
        "applications": read | {"create", "patch"},
        "applicationpackages": read | {"patch"},
        **{f"{kind}/status": {"patch"} for kind in KINDS},
        **{f"{kind}/finalizers": {"update"} for kind in ("applications", "applicationpackages", "pools")},
        "pools/scale": {"patch"},
        "statefulsets": read | {"create", "patch"},
        "pods": read | {"create", "patch", "delete"},
        "persistentvolumeclaims": {"get", "delete"},
        "configmaps": {"create", "patch"},
        "networkpolicies": {"create", "patch", "delete"},
        "secrets": {"create", "patch", "delete", "get"},  # get: of one name, see above
        "namespaces": {"get"},
        "events": {"create"},
    }
    let_go = {"get", "list", "patch"}
    assert allowed(render(values), "packhorse-uninstall") == {"applications": let_go, "applicationpackages": let_go}
    assert allowed(render(values), "packhorse-operator-tokenreviews") == {"tokenreviews": {"create"}}
    assert allowed(render(values), "packhorse-operator-own-namespace") == {
        "secrets": {"get", "create"},
        "leases": {"get", "create", "update"},
    }


def test_with_a_list_of_namespaces_the_operator_has_rights_in_these_alone() -> None:
    objects = render({"watchNamespaces": ["render", "genomics"]})
    served = [item for item in objects if item["metadata"]["name"] == "packhorse-operator"]
    roles = {(item["kind"], item["metadata"]["namespace"]) for item in served if item["kind"].startswith("Role")}
    assert roles == {(kind, space) for kind in ("Role", "RoleBinding") for space in ("render", "genomics")}
    across = [item["metadata"]["name"] for item in lasting(objects) if item["kind"] == "ClusterRoleBinding"]
    assert across == ["packhorse-operator-tokenreviews"]
    assert ("ClusterRole", "packhorse-operator") not in keys(objects)


@pytest.mark.parametrize("values", RENDERINGS.values(), ids=RENDERINGS.keys())
def test_bindings_name_roles_and_accounts_that_are_there(values: dict[str, Any]) -> None:
    objects = render(values)
    bindings = [item for item in objects if item["kind"].endswith("RoleBinding")]
    assert bindings
    for item in bindings:
        find(
            [other for other in objects if other["metadata"].get("namespace") == item["metadata"].get("namespace")],
            item["roleRef"]["kind"],
            item["roleRef"]["name"],
        )
        name = "packhorse-uninstall" if item in hooks(objects) else "packhorse-operator"
        assert item["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "packhorse-system"}]
        find(objects, "ServiceAccount", name)


def test_rights_of_users() -> None:
    objects = render()
    view, edit = (find(objects, "ClusterRole", f"packhorse-{name}") for name in ("view", "edit"))
    to = "rbac.authorization.k8s.io/aggregate-to-"
    assert {label.removeprefix(to) for label in view["metadata"]["labels"] if label.startswith(to)} == {
        "view",
        "edit",
        "admin",
    }
    assert {label.removeprefix(to) for label in edit["metadata"]["labels"] if label.startswith(to)} == {"edit", "admin"}
    read, write = {"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}
    assert allowed(objects, "packhorse-view") == dict.fromkeys(KINDS | {"pools/scale"}, read)
    others = {"pools/scale": {"update", "patch"}, "pods": {"get", "list", "watch", "patch"}}
    assert allowed(objects, "packhorse-edit") == dict.fromkeys(KINDS, write) | others


def test_users_rights_can_stay_out_of_the_clusters_roles() -> None:
    for item in render({"rbac": {"aggregateClusterRoles": False}}):
        labels = item["metadata"].get("labels", {})
        assert not [label for label in labels if label.startswith("rbac.authorization.k8s.io/")]


def test_uploaders_reach_the_embedded_storage_account_and_nothing_else() -> None:
    role = find(render(), "Role", "packhorse-uploader")
    assert role["metadata"]["namespace"] == "packhorse-system"
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["services/proxy"],
            "resourceNames": ["https:packhorse-azurite:10000"],
            "verbs": ["get", "update"],
        }
    ]
