"""Admission policies and quotas: whom they bind, and with which numbers. What they do is seen on a cluster."""

from typing import Any

import pytest

from packhorse.model import Application
from packhorse.model.package import UPLOAD_ANNOTATION
from tests.unit.chart.rendering import Object, environment, find, keys, refusal, render

POLICY = "ValidatingAdmissionPolicy"
BINDING = "ValidatingAdmissionPolicyBinding"
POLICIES = {"packhorse-allow-updates", "packhorse-package-quota", "packhorse-reference-quota"}


def named(objects: list[Object], kind: str) -> set[str]:
    return {name for found, name in keys(objects) if found == kind}


def number(objects: list[Object], policy: str) -> str:
    """The quota that a policy keeps."""
    variables = find(objects, POLICY, policy)["spec"]["variables"]
    return next(str(each["expression"]) for each in variables if each["name"] == "quota")


def test_each_policy_is_bound_and_denies() -> None:
    objects = render()
    assert named(objects, POLICY) == named(objects, BINDING) == POLICIES
    for name in POLICIES:
        policy, binding = (find(objects, kind, name)["spec"] for kind in (POLICY, BINDING))
        assert binding["policyName"] == name
        assert binding["validationActions"] == ["Deny"]
        assert policy["failurePolicy"] == "Fail"
        assert "matchResources" not in binding
        if "paramKind" in policy:
            assert policy["paramKind"] == {"apiVersion": "packhorse.dev/v1alpha1", "kind": Application.kind}
            assert binding["paramRef"] == {"selector": {}, "parameterNotFoundAction": "Allow"}
        else:
            assert "paramRef" not in binding


def test_status_is_nobodys_business_but_the_operators() -> None:
    """Policies do not look at the status subresource, which the operator writes all the time."""
    for name in POLICIES:
        [rule] = find(render(), POLICY, name)["spec"]["matchConstraints"]["resourceRules"]
        assert all("/" not in resource for resource in rule["resources"])


def test_the_policy_speaks_of_the_annotation_that_the_operator_reads() -> None:
    conditions = find(render(), POLICY, "packhorse-allow-updates")["spec"]["matchConditions"]
    assert f"'{UPLOAD_ANNOTATION}'" in conditions[-1]["expression"]


@pytest.mark.parametrize(
    ("release", "account"),
    [
        ("packhorse", "system:serviceaccount:packhorse-system:packhorse-operator"),
        ("batch", "system:serviceaccount:packhorse-system:batch-packhorse-operator"),
    ],
)
def test_the_operator_and_the_clusters_own_controllers_are_exempt(release: str, account: str) -> None:
    objects = render(release=release)
    [name] = [name for name in named(objects, POLICY) if name.endswith("-allow-updates")]
    exempt = find(objects, POLICY, name)["spec"]["matchConditions"][0]["expression"]
    users = {account, "system:serviceaccount:kube-system:namespace-controller", "system:kube-controller-manager",
             "system:serviceaccount:kube-system:generic-garbage-collector"}  # fmt: skip
    assert {word.strip("',)] \n") for word in exempt.partition("[")[2].split(",")} == users


def test_with_a_list_of_namespaces_policies_hold_in_these_alone() -> None:
    objects = render({"watchNamespaces": ["render", "genomics"]})
    for name in POLICIES:
        selector = find(objects, BINDING, name)["spec"]["matchResources"]["namespaceSelector"]
        [expression] = selector["matchExpressions"]
        assert expression == {
            "key": "kubernetes.io/metadata.name",
            "operator": "In",
            "values": ["render", "genomics"],
        }


def test_numbers_reach_policies_and_operator() -> None:
    quotas = {"packagesPerApplication": 7, "referencesPerPool": 3, "packageSize": "5Mi"}
    objects = render({"quotas": quotas})
    assert number(objects, "packhorse-package-quota") == "7"
    assert number(objects, "packhorse-reference-quota") == "3"
    variables = environment(objects)
    assert variables["PACKHORSE_PACKAGES_PER_APPLICATION"] == "7"
    assert variables["PACKHORSE_PACKAGE_SIZE"] == "5Mi"


@pytest.mark.parametrize("none", [0, None])
def test_no_quota_no_policy(none: int | None) -> None:
    quotas = {"packagesPerApplication": none, "referencesPerPool": none, "packageSize": None}
    objects = render({"quotas": quotas})
    assert named(objects, POLICY) == named(objects, BINDING) == {"packhorse-allow-updates"}
    variables = environment(objects)
    assert variables["PACKHORSE_PACKAGES_PER_APPLICATION"] == variables["PACKHORSE_PACKAGE_SIZE"] == "0"


def resource_quotas(values: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Namespace and numbers of each ResourceQuota."""
    found = [item for item in render(values) if item["kind"] == "ResourceQuota"]
    assert {item["metadata"]["name"] for item in found} <= {"packhorse"}
    return {item["metadata"]["namespace"]: item["spec"]["hard"] for item in found}


DEFAULT = {"count/applications.packhorse.dev": "200", "count/applicationpackages.packhorse.dev": "8000"}


@pytest.mark.parametrize(
    ("watched", "listed", "namespaces"),
    [
        ([], [], []),
        ([], ["render"], ["render"]),
        (["render", "genomics"], [], ["render", "genomics"]),
        (["render", "genomics"], ["genomics"], ["render", "genomics"]),
    ],
)
def test_resource_quotas_are_where_they_are_asked_for(
    watched: list[str], listed: list[str], namespaces: list[str]
) -> None:
    values = {"watchNamespaces": watched, "quotas": {"namespaces": listed}}
    assert resource_quotas(values) == dict.fromkeys(namespaces, DEFAULT)


def test_resource_quotas_have_the_numbers_that_are_limits() -> None:
    large = {"namespaces": ["render"], "applications": 12345678, "packages": 0}
    assert resource_quotas({"quotas": large}) == {"render": {"count/applications.packhorse.dev": "12345678"}}
    none = {"namespaces": ["render"], "applications": None, "packages": None}
    assert resource_quotas({"quotas": none}) == {}


def test_a_quota_where_nothing_is_served_is_refused() -> None:
    words = refusal({"watchNamespaces": ["render"], "quotas": {"namespaces": ["genomics"]}})
    assert "quotas.namespaces names genomics, which is not served" in words
