"""The linked storage account of a namespace: what is said of each trouble, and that it heals without a restart."""

import base64
import json

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import SYSTEM, Namespace, eventually, pack, resource

pytestmark = pytest.mark.cluster

Account = dict[str, str]


@pytest.fixture(scope="module")
def account(installed: Cluster) -> Account:
    """The embedded account, as a namespace's own Secret links it: in a container of its own."""
    text = installed.run_kubectl("-n", SYSTEM, "get", "secret", "packhorse-azurite", "-o", "json")
    data = {key: base64.b64decode(value).decode() for key, value in json.loads(text)["data"].items()}
    return {"connectionString": data["connectionString"], "ca.crt": data["ca.crt"], "container": "of-its-own"}


def link(namespace: Namespace, data: Account) -> None:
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "packhorse-storage"}, "stringData": data}
    )


def linked(namespace: Namespace, status: str, reason: str) -> str:
    """Wait until the package says this of its account; in which words."""

    def look() -> dict[str, str] | None:
        found = namespace.condition("phpkg", "tool.1", "StorageLinked")
        return found if (found.get("status"), found.get("reason")) == (status, reason) else None

    return (eventually(look, f"StorageLinked={status}, {reason}") or {})["message"]


def test_every_trouble_is_told_apart_and_heals_by_itself(
    namespace: Namespace, account: Account, installed: Cluster
) -> None:
    pods = installed.run_kubectl("-n", SYSTEM, "get", "pods", "-o", "name")
    wrong_key = base64.b64encode(b"another key").decode()
    before, _, rest = account["connectionString"].partition("AccountKey=")
    link(namespace, {**account, "connectionString": f"{before}AccountKey={wrong_key};{rest.partition(';')[2]}"})
    namespace.apply(resource("ApplicationPackage", "tool.1", applicationId="tool", version="1"))
    assert "credential" in linked(namespace, "Unknown", "StorageAccessDenied")

    nowhere = "DefaultEndpointsProtocol=https;AccountName=nowhere;AccountKey={};BlobEndpoint=https://storage.invalid/;"
    link(namespace, {**account, "connectionString": nowhere.format(wrong_key)})
    assert "storage.invalid" in linked(namespace, "Unknown", "StorageUnreachable")

    link(namespace, {**account, "connectionString": "nonsense"})
    assert "packhorse-storage" in linked(namespace, "False", "NoLinkedStorageAccount")

    link(namespace, account)
    assert linked(namespace, "True", "Linked").endswith(f"/of-its-own/{namespace.name}/")
    everything = namespace.kubectl("get", "phpkg,phapp,events", "-o", "json")
    log = installed.run_kubectl("-n", SYSTEM, "logs", "deploy/packhorse-operator")
    for text in (everything, log):
        assert wrong_key not in text
        assert account["connectionString"].partition("AccountKey=")[2].partition(";")[0] not in text
        assert "sig=" not in text
    assert installed.run_kubectl("-n", SYSTEM, "get", "pods", "-o", "name") == pods


def test_packages_of_the_namespace_lie_in_its_own_account(namespace: Namespace, tmp_path_factory: object) -> None:
    """After the test above: uploaded from outside the cluster, the namespace's own container has it."""
    file = tmp_path_factory.mktemp("zip") / "tool.zip"  # type: ignore[attr-defined]
    pack(file, {"bin/tool": "#!/bin/sh\necho tool\n"})
    done = namespace.cli("package", "upload", "tool", "1", str(file))
    assert "applicationpackage/tool.1 active" in done.stdout
    status = namespace.cli("storage", "status").stdout
    assert f"/of-its-own/{namespace.name}/" in status
