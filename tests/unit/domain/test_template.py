"""A Pool's template: what becomes of a node's pod, and what never does, whatever gets past the API server's rules."""

import copy
import posixpath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.domain.nodepod import NodeSettings, stateful_set
from packhorse.domain.template import merged
from packhorse.model.template import OWN_ROOT, OWN_VOLUMES, PodTemplate
from packhorse.protocol import AUDIENCE
from tests.unit.objects import pool

SETTINGS = NodeSettings("registry.example/packhorse:1", "Always", "packhorse.system.svc:8443", "-----BEGIN ...")
Body = dict[str, Any]


def base(**spec: Any) -> Body:
    template: Body = stateful_set(pool(**spec), SETTINGS)["spec"]["template"]
    return template


def made(template: Body, **spec: Any) -> Body:
    """The pod template of a pool with this template."""
    return base(template=template, **spec)


def node(template: Body) -> Body:
    (container,) = template["spec"]["containers"]
    found: Body = container
    return found


# --- whatever a template says ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["node", "agent", "install-packages", *OWN_VOLUMES, "data", "sidecar", "packhorse"])
LABELS = st.dictionaries(
    st.sampled_from(
        [
            "packhorse.dev/pool",
            "packhorse.dev/reboot",
            "packhorse.dev/x",
            "app.kubernetes.io/name",
            "app.kubernetes.io/component",
            "kubectl.kubernetes.io/default-container",
            "team",
        ]
    ),
    st.sampled_from(["render", "other", "requeue"]),
)
PATHS = st.one_of(
    st.sampled_from(["", "/", "//", "mnt", "/data", "/proc", "/mnt/batch", "/mnt/batch/tasks/shared", "/tmp"]),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "/", "//", "/data/..", "/./"]),
        st.sampled_from(["mnt/batch/tasks", "mnt//batch/./tasks", "mnt/batch/x/../tasks"]),
        st.sampled_from(["", "/", "/applications", "/.packhorse/run", "/../tasks/shared", "2"]),
    ),
).filter(bool)
NUMBERS = st.sampled_from([0, 1, 1000, 10001, 10002, 65532])
QUANTITIES = st.dictionaries(st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]), st.sampled_from([1, "2Gi", "10m"]))
RESOURCES = st.fixed_dictionaries({}, optional={"requests": QUANTITIES, "limits": QUANTITIES})
ANY = st.dictionaries(
    st.sampled_from(["a", "name", "drop", "add", "type", "command"]), st.one_of(st.none(), st.text(max_size=3))
)
VOLUMES = st.one_of(
    st.fixed_dictionaries({"name": NAMES}, optional={"emptyDir": st.just({}), "hostPath": ANY}),
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "projected": st.fixed_dictionaries(
                {
                    "sources": st.lists(
                        st.fixed_dictionaries(
                            {}, optional={"serviceAccountToken": st.sampled_from([{}, {"audience": AUDIENCE}])}
                        ),
                        max_size=3,
                    )
                }
            ),
        }
    ),
)
SECURITY = st.fixed_dictionaries(
    {},
    optional={
        "runAsUser": NUMBERS,
        "runAsGroup": NUMBERS,
        "fsGroup": NUMBERS,
        "runAsNonRoot": st.booleans(),
        "privileged": st.booleans(),
        "capabilities": ANY,
        "seccompProfile": ANY,
        "unheard": ANY,
    },
)
POD_SECURITY = st.fixed_dictionaries(
    {},
    optional={
        "runAsUser": NUMBERS.filter(bool),
        "runAsGroup": NUMBERS,
        "fsGroup": NUMBERS,
        "runAsNonRoot": st.booleans(),
        "supplementalGroups": st.lists(NUMBERS, max_size=2),
        "seccompProfile": ANY,
    },
)
CONTAINERS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "resources": RESOURCES,
        "volumeMounts": st.lists(st.fixed_dictionaries({"name": NAMES, "mountPath": PATHS}), max_size=4),
        "volumeDevices": st.lists(st.fixed_dictionaries({"name": NAMES, "devicePath": PATHS}), max_size=2),
        "securityContext": SECURITY,
        "ports": st.lists(ANY, max_size=2),
        "lifecycle": ANY,
        "imagePullPolicy": st.sampled_from(["Always", "Never"]),
        "image": st.just("other"),
        "env": st.just([{"name": "PACKHORSE_POOL", "value": "other"}]),
        "envFrom": st.just([{"secretRef": {"name": "a"}}]),
        "command": st.just(["/bin/other"]),
        "args": st.just(["--other"]),
        "restartPolicy": st.just("Never"),
    },
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": LABELS, "annotations": LABELS}),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "nodeSelector": LABELS,
                "affinity": ANY,
                "serviceAccountName": st.just("tasks"),
                "terminationGracePeriodSeconds": st.sampled_from([1, 600]),
                "securityContext": POD_SECURITY,
                "volumes": st.lists(VOLUMES, max_size=4),
                "containers": st.lists(CONTAINERS, max_size=3),
                "initContainers": st.lists(CONTAINERS, max_size=3),
                "automountServiceAccountToken": st.just(True),
                "shareProcessNamespace": st.just(True),
                "hostPID": st.just(True),
                "hostNetwork": st.just(True),
                "restartPolicy": st.just("Never"),
            },
        ),
    },
)
STORAGES = st.sampled_from([{}, {"ephemeral": True}])


def without(body: Body, *names: str) -> Body:
    return {name: value for name, value in body.items() if name not in names}


@given(TEMPLATES, STORAGES)
def test_what_a_node_relies_on_is_never_changed(template: Body, storage: Body) -> None:
    before, after = base(nodeStorage=storage), made(template, nodeStorage=storage)
    old, new = before["spec"], after["spec"]
    for name in ("automountServiceAccountToken", "shareProcessNamespace", "enableServiceLinks"):
        assert new[name] is False
    assert not {"hostPID", "hostIPC", "hostNetwork", "restartPolicy", "nodeName"} & new.keys()
    for name in ("runAsGroup", "fsGroup", "runAsNonRoot"):
        assert new["securityContext"][name] == old["securityContext"][name]
    for one, other in zip(old["initContainers"], new["initContainers"], strict=True):
        assert without(other, "resources") == without(one, "resources")
    one, other = node(before), node(after)
    for name in ("name", "image", "command"):
        assert other[name] == one[name]
    assert not {"env", "envFrom", "args", "restartPolicy"} & other.keys()


@given(TEMPLATES, STORAGES)
def test_our_volumes_stay_ours(template: Body, storage: Body) -> None:
    before, after = base(nodeStorage=storage), made(template, nodeStorage=storage)
    volumes = after["spec"]["volumes"]
    own = len(before["spec"]["volumes"])
    assert volumes[:own] == before["spec"]["volumes"]
    assert not {volume["name"] for volume in volumes[own:]} & set(OWN_VOLUMES)
    assert len({volume["name"] for volume in volumes}) == len(volumes)
    assert AUDIENCE not in str(volumes[own:])
    mounts = node(after)["volumeMounts"]
    own = len(node(before)["volumeMounts"])
    assert mounts[:own] == node(before)["volumeMounts"]
    assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
    for mount in mounts[own:]:
        assert mount["name"] not in OWN_VOLUMES
        plain = posixpath.normpath(posixpath.join("/", mount["mountPath"])).replace("//", "/")
        assert posixpath.commonpath([plain, OWN_ROOT]) != OWN_ROOT
    assert not {device["name"] for device in node(after).get("volumeDevices", ())} & set(OWN_VOLUMES)


@given(TEMPLATES)
def test_tasks_are_never_the_agents_user_and_always_of_its_group(template: Body) -> None:
    after = made(template)["spec"]
    (container,) = after["containers"]
    users = [context.get("runAsUser") for context in (after["securityContext"], container["securityContext"])]
    agents = {entry["securityContext"]["runAsUser"] for entry in after["initContainers"]}
    assert not agents & set(users)
    assert not {"runAsGroup", "fsGroup"} & container["securityContext"].keys()


@given(TEMPLATES)
def test_names_that_are_ours_keep_their_values(template: Body) -> None:
    before, after = base()["metadata"], made(template)["metadata"]
    for field in ("labels", "annotations"):
        assert before[field].items() <= after[field].items()
        added = after[field].keys() - before[field].keys()
        assert not [name for name in added if name.startswith("packhorse.dev/")]


def turned(value: Any) -> Any:
    """The same with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {name: turned(inner) for name, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


@given(TEMPLATES)
def test_the_order_of_keys_does_not_matter(template: Body) -> None:
    assert made(turned(template)) == made(template)
    assert merged(turned(base()), PodTemplate.model_validate(template)) == made(template)


@given(TEMPLATES)
def test_what_is_joined_is_left_as_it_was(template: Body) -> None:
    before, overlay = base(), PodTemplate.model_validate(template)
    copies = copy.deepcopy(before), overlay.model_copy(deep=True)
    result = merged(before, overlay)
    assert (before, overlay) == copies
    result["spec"]["containers"][0]["volumeMounts"].clear()
    assert (before, overlay) == copies


@pytest.mark.parametrize(
    "empty",
    [
        {},
        {"metadata": {}, "spec": {}},
        {"metadata": {"labels": {}, "annotations": {}}},
        {"spec": {"containers": [{"name": "node"}], "initContainers": [{"name": "agent"}], "volumes": []}},
        {"spec": {"containers": [{"name": "node", "volumeMounts": [], "ports": [], "resources": {}}]}},
        {"spec": {"securityContext": {}, "containers": [{"name": "node", "securityContext": {"capabilities": {}}}]}},
    ],
)
def test_an_empty_template_changes_nothing(empty: Body) -> None:
    assert made(empty) == base()


# --- examples ----------------------------------------------------------------------------------------------------


def test_labels_and_annotations_are_added() -> None:
    metadata = made({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}})["metadata"]
    assert metadata["labels"] == {**base()["metadata"]["labels"], "team": "a"}
    assert metadata["annotations"] == {**base()["metadata"]["annotations"], "note": "b"}


SPEC: Body = {
    "nodeSelector": {"disk": "ssd"},
    "affinity": {"podAntiAffinity": {"x": [{"weight": 1}]}},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}],
    "topologySpreadConstraints": [{"maxSkew": 1, "labelSelector": {"matchLabels": {"a": "b"}}}],
    "serviceAccountName": "tasks",
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "low",
    "runtimeClassName": "gvisor",
    "schedulerName": "other",
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["license"]}],
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.0.0.2"]},
    "terminationGracePeriodSeconds": 600,
}


def test_plain_fields_reach_the_pod_as_they_are() -> None:
    after = made({"spec": SPEC})["spec"]
    assert {name: after[name] for name in SPEC} == SPEC
    assert without(after, *SPEC) == without(base()["spec"], *SPEC)


def test_volumes_are_added_with_whatever_they_are() -> None:
    volumes = [
        {"name": "scenes", "nfs": {"server": "files", "path": "/scenes", "readOnly": True}},
        {"name": "identity", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "cloud"}}]}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
    ]
    mounts = [
        {"name": "scenes", "mountPath": "/scenes", "readOnly": True, "subPath": "2026"},
        {"name": "identity", "mountPath": "/var/run/identity"},
    ]
    template = {"spec": {"volumes": volumes, "containers": [{"name": "node", "volumeMounts": mounts}]}}
    after = made(template)
    assert after["spec"]["volumes"] == [*base()["spec"]["volumes"], *volumes]
    assert node(after)["volumeMounts"] == [*node(base())["volumeMounts"], *mounts]


def test_resources_of_tasks_and_of_our_own_containers() -> None:
    limits = {"limits": {"memory": "1Gi"}}
    template = {
        "spec": {
            "containers": [{"name": "node", "resources": {"requests": {"cpu": 4}, "limits": {"nvidia.com/gpu": 1}}}],
            "initContainers": [{"name": "install-packages", "resources": {"requests": {"cpu": "1"}, **limits}}],
        }
    }
    after = made(template)
    assert node(after)["resources"] == {"requests": {"cpu": 4}, "limits": {"nvidia.com/gpu": 1}}
    install, agent = after["spec"]["initContainers"]
    assert install["resources"] == {"requests": {"cpu": "1", "memory": "64Mi"}, **limits}
    assert agent == base()["spec"]["initContainers"][1]


def test_what_tasks_may_do() -> None:
    security = {"capabilities": {"add": ["SYS_PTRACE"]}, "runAsUser": 0, "runAsNonRoot": False, "procMount": "Unmasked"}
    after = made({"spec": {"containers": [{"name": "node", "securityContext": security}]}})
    assert node(after)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]},
        "runAsUser": 0,
        "runAsNonRoot": False,
        "procMount": "Unmasked",
    }


def test_as_whom_tasks_run() -> None:
    security = {"runAsUser": 1234, "supplementalGroups": [5], "sysctls": [{"name": "a", "value": "1"}]}
    after = made({"spec": {"securityContext": security}})["spec"]
    assert after["securityContext"] == {**base()["spec"]["securityContext"], **security}
    assert "runAsUser" not in after["containers"][0]["securityContext"], "the pod's counts"


def test_of_two_entries_with_one_key_the_last_counts() -> None:
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "data", "secret": {"secretName": "a"}}]
    assert made({"spec": {"volumes": volumes}})["spec"]["volumes"][-1] == volumes[1]


@given(PATHS)
def test_nothing_is_mounted_on_the_nodes_own_directories_however_it_is_written(path: str) -> None:
    mount = {"name": "data", "mountPath": path}
    found = node(made({"spec": {"containers": [{"name": "node", "volumeMounts": [mount]}]}}))["volumeMounts"]
    plain = posixpath.normpath(posixpath.join("/", path)).replace("//", "/")
    assert (mount in found) == (posixpath.commonpath([plain, OWN_ROOT]) != OWN_ROOT)


@pytest.mark.parametrize(("audience", "there"), [(None, True), ("cloud", True), (AUDIENCE, False)])
def test_tasks_get_no_token_for_the_node_service(audience: str | None, there: bool) -> None:
    token = {"path": "token"} | ({"audience": audience} if audience else {})
    sources = [{"configMap": {"name": "a"}}, {"serviceAccountToken": token}]
    volume = {"name": "identity", "projected": {"sources": sources}}
    assert (volume in made({"spec": {"volumes": [volume]}})["spec"]["volumes"]) == there


@pytest.mark.parametrize("name", OWN_VOLUMES)
def test_our_volumes_are_not_mounted_elsewhere(name: str) -> None:
    given_mounts = {"volumeMounts": [{"name": name, "mountPath": "/data"}]}
    assert made({"spec": {"containers": [{"name": "node", **given_mounts}]}}) == base()
