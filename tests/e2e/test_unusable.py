"""A deployment that fails makes its node unusable, says why, and heals: by a reboot, and by itself."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerClient

from tests.cluster import Cluster
from tests.cluster.storage import embedded_storage
from tests.e2e.conftest import (
    SYSTEM,
    Namespace,
    eventually,
    make_namespace,
    pack,
    pool,
    resource,
    task,
    without_operator,
)

pytestmark = pytest.mark.cluster

EPHEMERAL = {"size": "1Gi", "ephemeral": True}
FOR_POOL = "One or more application packages specified for the pool are invalid"


@pytest.fixture(scope="module")
def blobs(installed: Cluster) -> Iterator[ContainerClient]:
    """The storage account as its owner sees it."""
    with embedded_storage(installed, SYSTEM) as container:
        yield container


def archive(**files: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "/").replace("UP", ".."), content)
    return data.getvalue()


GOOD = archive(data=b"good")
OTHER = archive(data=b"other")
HOSTILE = archive(UP__escape=b"out")


def put(blobs: ContainerClient, namespace: Namespace, name: str, content: bytes) -> None:
    blobs.upload_blob(f"{namespace.name}/{name}.zip", content, overwrite=True)


def active(namespace: Namespace, blobs: ContainerClient, application: str) -> None:
    """A package whose blob another tool has put there."""
    put(blobs, namespace, f"{application}.1", GOOD)
    namespace.apply(resource("ApplicationPackage", f"{application}.1", applicationId=application, version="1"))
    namespace.wait(f"phpkg/{application}.1", "jsonpath={.status.state}=Active")


def one_node(namespace: Namespace, installed: Cluster, name: str, **spec: object) -> None:
    references = [{"applicationId": name, "version": "1"}]
    namespace.apply(pool(name, 1, installed.task_image, references, **{"nodeStorage": EPHEMERAL, **spec}))


def unusable(namespace: Namespace, name: str, *words: str) -> dict[str, str]:
    """Wait until the node is unusable for this reason; the details of its error."""

    def look() -> dict[str, Any] | None:
        node = namespace.nodes(name).get(f"{name}-0", {})
        error = next(iter(node.get("errors", ())), None)
        return error if node.get("state") == "unusable" and all(word in json.dumps(error) for word in words) else None

    error = eventually(look, f"{name}-0 is unusable: {words}") or {}
    return {"code": error["code"], "message": error["message"]} | {
        detail["name"]: detail["value"] for detail in error["errorDetails"]
    }


def events(namespace: Namespace, name: str) -> list[str]:
    """What events told of unusable nodes of a pool."""
    found = namespace.list("events")
    return [
        event["message"]
        for event in found
        if event["reason"] == "NodeUnusable" and event["involvedObject"]["name"] == name
    ]


def test_a_failed_deployment_makes_the_node_unusable_and_a_reboot_tries_again(
    namespace: Namespace, installed: Cluster, tmp_path: Path
) -> None:
    app = str(pack(tmp_path / "app.zip", {"bin/app": "#!/bin/sh\necho works\n"}))
    namespace.cli("package", "upload", "app", "1", app)
    namespace.apply(pool("fragile", 2, installed.task_image, [{"applicationId": "app", "version": "1"}]))
    namespace.idle("fragile", 2)

    namespace.kubectl("delete", "phpkg", "app.1")
    eventually(lambda: namespace.condition("phpool", "fragile", "PackagesResolved")["status"] == "False", "it is said")
    assert {node["state"] for node in namespace.nodes("fragile").values()} == {"idle"}, "no node is disturbed"
    namespace.kubectl("delete", "pod", "fragile-0")
    told = unusable(namespace, "fragile")
    assert (told["code"], told["message"]) == ("ApplicationPackageError", FOR_POOL)
    assert told["ApplicationPackageReference"] == "app:1"
    assert "application 'app' has no version '1'" in told["Cause"]
    ready = namespace.condition("phpool", "fragile", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplicationPackageError")
    assert "fragile-0" in ready["message"]
    assert "fragile-0" in " ".join(events(namespace, "fragile"))
    assert "unusable" in namespace.cli("pool", "show", "fragile").stdout

    namespace.apply(*[task(f"elsewhere-{number}", "fragile", "true") for number in range(3)])
    assert {namespace.finished(f"elsewhere-{number}")["nodeName"] for number in range(3)} == {"fragile-1"}

    namespace.cli("package", "upload", "app", "1", app)
    namespace.kubectl("delete", "pod", "fragile-0")
    namespace.idle("fragile", 2)
    namespace.apply(task("back", "fragile", "$AZ_BATCH_APP_PACKAGE_app/bin/app"))
    assert namespace.finished("back")["output"]["stdout"] == "works\n"


def test_a_blob_that_is_missing(namespace: Namespace, installed: Cluster, blobs: ContainerClient) -> None:
    active(namespace, blobs, "missing")
    blobs.delete_blob(f"{namespace.name}/missing.1.zip")
    one_node(namespace, installed, "missing")
    told = unusable(namespace, "missing", "missing.1")
    assert told["code"] == "ApplicationPackageError"
    assert told["ApplicationPackageReference"] == "missing:1"
    put(blobs, namespace, "missing.1", GOOD)
    namespace.cli("package", "activate", "missing", "1")
    namespace.idle("missing", 1)
    assert 1 <= len(events(namespace, "missing")) <= 2, "an event for the blob, perhaps one for the package then"


def test_a_blob_that_is_another_one(namespace: Namespace, installed: Cluster, blobs: ContainerClient) -> None:
    active(namespace, blobs, "changed")
    put(blobs, namespace, "changed.1", OTHER)
    one_node(namespace, installed, "changed")
    told = unusable(namespace, "changed", "replaced")
    assert told["code"] == "ApplicationPackageError"
    namespace.cli("package", "activate", "changed", "1")
    namespace.idle("changed", 1)
    namespace.apply(task("reads", "changed", "cat $AZ_BATCH_APP_PACKAGE_changed/data"))
    assert namespace.finished("reads")["output"]["stdout"] == "other"


@pytest.mark.alone
def test_content_that_is_damaged_and_content_that_is_hostile(
    namespace: Namespace, installed: Cluster, blobs: ContainerClient
) -> None:
    """Activation lets neither pass, so what it has pinned is forged here: the node trusts nobody."""
    active(namespace, blobs, "damaged")
    active(namespace, blobs, "hostile")
    with without_operator(installed):
        put(blobs, namespace, "hostile.1", HOSTILE)
        etag = blobs.get_blob_client(f"{namespace.name}/hostile.1.zip").get_blob_properties().etag
        forged = {"sha256": hashlib.sha256(HOSTILE).hexdigest(), "size": len(HOSTILE), "etag": etag}
        forge(namespace, "hostile.1", forged)
        forge(namespace, "damaged.1", {"sha256": "0" * 64})
    for name in ("damaged", "hostile"):
        one_node(namespace, installed, name)
    told = unusable(namespace, "damaged", "Sha256Mismatch")
    assert (told["code"], told["message"]) == ("ApplicationPackageError", FOR_POOL)
    assert told["Message"] == "Resource download failed"
    told = unusable(namespace, "hostile", "../escape")
    assert told["Message"] == "Resource Unzip failed"
    assert len(events(namespace, "hostile")) == 1, "one cause, one event"
    forge(namespace, "damaged.1", {"sha256": hashlib.sha256(GOOD).hexdigest()})
    namespace.idle("damaged", 1)
    put(blobs, namespace, "hostile.1", GOOD)
    namespace.cli("package", "activate", "hostile", "1")
    namespace.idle("hostile", 1)


def forge(namespace: Namespace, name: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    namespace.kubectl("patch", "phpkg", name, "--subresource=status", "--type=merge", "-p", patch)


def test_a_package_that_the_disk_has_no_room_for(
    namespace: Namespace, installed: Cluster, blobs: ContainerClient
) -> None:
    put(blobs, namespace, "large.1", archive(data=bytes(30 << 20)))
    namespace.apply(resource("ApplicationPackage", "large.1", applicationId="large", version="1"))
    namespace.wait("phpkg/large.1", "jsonpath={.status.state}=Active")
    one_node(namespace, installed, "large", nodeStorage={"size": "20Mi", "ephemeral": True, "medium": "Memory"})
    told = unusable(namespace, "large")
    assert (told["code"], told["message"]) == ("DiskFull", "There is not enough disk space on the node")
    assert told["ApplicationPackageReference"] == "large:1"
    namespace.kubectl("patch", "phpool", "large", "--type=merge", "-p", '{"spec":{"applicationPackageReferences":[]}}')
    namespace.idle("large", 1)


@pytest.mark.alone
def test_a_storage_account_that_is_away(namespace: Namespace, installed: Cluster, blobs: ContainerClient) -> None:
    active(namespace, blobs, "away")
    scale = ("-n", SYSTEM, "scale", "deployment/packhorse-azurite")
    installed.run_kubectl(*scale, "--replicas=0")
    try:
        selector = "app.kubernetes.io/component=azurite"
        installed.run_kubectl("-n", SYSTEM, "wait", "pod", "-l", selector, "--for=delete", "--timeout=120s")
        one_node(namespace, installed, "away")
        told = unusable(namespace, "away", "StorageUnreachable")
        assert told["Message"] == "Resource download failed"
    finally:
        installed.run_kubectl(*scale, "--replicas=1")
    namespace.idle("away", 1)


def test_a_storage_account_that_refuses(installed: Cluster, blobs: ContainerClient) -> None:
    """In a namespace with an account of its own, whose key is changed."""
    secret = installed.run_kubectl("-n", SYSTEM, "get", "secret", "packhorse-azurite", "-o", "json")
    data = {key: base64.b64decode(value).decode() for key, value in json.loads(secret)["data"].items()}
    account = {"connectionString": data["connectionString"], "ca.crt": data["ca.crt"]}
    before, _, rest = account["connectionString"].partition("AccountKey=")
    wrong = f"{before}AccountKey={base64.b64encode(b'another key').decode()};{rest.partition(';')[2]}"
    own = make_namespace(installed)
    try:
        link(own, account)
        active(own, blobs, "guarded")
        link(own, {**account, "connectionString": wrong})
        own.apply(resource("ApplicationPackage", "probe.1", applicationId="probe", version="1"))
        eventually(
            lambda: own.condition("phpkg", "probe.1", "StorageLinked").get("reason") == "StorageAccessDenied",
            "the operator has noticed",
        )
        one_node(own, installed, "guarded")
        told = unusable(own, "guarded", "StorageAccessDenied")
        assert told["code"] == "ApplicationPackageError"
        link(own, account)
        own.idle("guarded", 1)
    finally:
        installed.run_kubectl("delete", "namespace", own.name, "--wait=false")


def link(namespace: Namespace, data: dict[str, str]) -> None:
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "packhorse-storage"}, "stringData": data}
    )
