"""The storage account: each way to link one, and what cannot be meant."""

from typing import Any

import pytest

from tests.unit.chart.rendering import Object, environment, find, refusal, render

CLIENT = "0a1b2c3d-0000-4444-8888-123456789abc"
IDENTITY = {"enabled": True, "clientId": CLIENT}
ANNOTATION = "azure.workload.identity/client-id"
LABEL = "azure.workload.identity/use"


def account_and_pod(objects: list[Object]) -> tuple[dict[str, str], dict[str, str]]:
    """Annotations of the operator's service account, and labels of its pod."""
    account = find(objects, "ServiceAccount", "packhorse-operator")["metadata"]
    pod = find(objects, "Deployment", "packhorse-operator")["spec"]["template"]["metadata"]
    return account.get("annotations", {}), pod["labels"]


def linked(**storage: Any) -> dict[str, Any]:
    return {"azurite": {"enabled": False}, "storage": storage}


@pytest.mark.parametrize("account", ["acct", "https://acct.blob.core.usgovcloudapi.net"])
def test_an_account_with_no_key(account: str) -> None:
    objects = render(linked(account=account, workloadIdentity=IDENTITY))
    variables = environment(objects)
    assert variables["PACKHORSE_STORAGE_ACCOUNT"] == account
    assert variables["PACKHORSE_STORAGE_SECRET"] == variables["PACKHORSE_EMBEDDED_STORAGE"] == ""
    annotations, labels = account_and_pod(objects)
    assert annotations == {ANNOTATION: CLIENT}
    assert labels[LABEL] == "true"


def test_a_secret_may_name_an_account_with_no_key() -> None:
    objects = render(linked(existingSecret="storage-account", workloadIdentity=IDENTITY))
    assert environment(objects)["PACKHORSE_STORAGE_SECRET"] == "storage-account"
    assert account_and_pod(objects)[1][LABEL] == "true"


def test_the_client_id_joins_other_annotations() -> None:
    values = linked(account="acct", workloadIdentity=IDENTITY) | {"serviceAccount": {"annotations": {"a": "1"}}}
    assert account_and_pod(render(values))[0] == {"a": "1", ANNOTATION: CLIENT}


def test_the_client_id_may_be_annotated_by_hand() -> None:
    given = {"serviceAccount": {"annotations": {ANNOTATION: CLIENT}}}
    objects = render(linked(account="acct", workloadIdentity={"enabled": True}) | given)
    assert account_and_pod(objects)[0] == {ANNOTATION: CLIENT}


def test_without_workload_identity_nothing_speaks_of_it() -> None:
    for values in ({}, linked(existingSecret="storage-account"), linked()):
        annotations, labels = account_and_pod(render(values))
        assert annotations == {}
        assert LABEL not in labels


def test_azurite_gets_no_identity() -> None:
    """The label makes the identity's webhook put a token into the pod."""
    pods = [item for item in render() if item["kind"] == "Deployment" and "azurite" in item["metadata"]["name"]]
    assert [LABEL in item["spec"]["template"]["metadata"]["labels"] for item in pods] == [False]


@pytest.mark.parametrize("wanted", [True, False])
def test_accounts_of_namespaces(wanted: bool) -> None:
    variables = environment(render({"storage": {"namespaceSecrets": wanted}}))
    assert variables["PACKHORSE_NAMESPACE_STORAGE"] == str(wanted).lower()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"storage": {"existingSecret": "storage-account"}}, "Set azurite.enabled=false"),
        ({"storage": {"account": "acct", "workloadIdentity": IDENTITY}}, "Set azurite.enabled=false"),
        (linked(account="acct", existingSecret="x", workloadIdentity=IDENTITY), "Set one of them"),
        (linked(account="acct"), "Set storage.workloadIdentity.enabled=true"),
        (linked(workloadIdentity=IDENTITY), "Set storage.account"),
        ({"storage": {"workloadIdentity": IDENTITY}}, "Set storage.account"),
        (linked(account="acct", workloadIdentity={"enabled": True}), "Set storage.workloadIdentity.clientId"),
        ({"storage": {"workloadIdentity": {"clientId": CLIENT}}}, "of no use without"),
        (
            linked(account="acct", workloadIdentity=IDENTITY)
            | {"serviceAccount": {"annotations": {ANNOTATION: "another"}}},
            "differ. Remove one of them",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    assert words in refusal(values)
