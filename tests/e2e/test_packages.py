"""Packages from their creation to their end, on the cluster and with the embedded storage."""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from tests.cluster import Cluster
from tests.cluster.command import ClusterError
from tests.cluster.storage import embedded_storage
from tests.e2e.conftest import SYSTEM, Namespace, eventually, make_namespace, pack, pool, resource

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def container(installed: Cluster) -> Iterator[ContainerClient]:
    """The container for packages, as its owner sees it."""
    with embedded_storage(installed, SYSTEM) as client:
        yield client


def content(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("version.txt", (2024, 1, 1, 0, 0, 0)), text)
    return file.getvalue()


def sha256(text: str) -> str:
    return hashlib.sha256(content(text)).hexdigest()


def put(container: ContainerClient, namespace: Namespace, name: str, text: str) -> None:
    """Write a blob past Packhorse, as a pipeline does."""
    container.upload_blob(f"{namespace.name}/{name}", content(text), overwrite=True)


def there(container: ContainerClient, namespace: Namespace, name: str) -> bool:
    try:
        container.get_blob_client(f"{namespace.name}/{name}").get_blob_properties()
    except ResourceNotFoundError:
        return False
    return True


def package(application: str, version: str, **spec: object) -> dict[str, object]:
    name = f"{application}.{version}".lower().replace("_", "-")
    return resource("ApplicationPackage", name, applicationId=application, version=version, **spec)


def reason(namespace: Namespace, name: str, wanted: str) -> dict[str, str]:
    """Wait until a package's Ready condition has this reason."""

    def look() -> dict[str, str] | None:
        found = namespace.condition("phpkg", name, "Ready")
        return found if found.get("reason") == wanted else None

    return eventually(look, f"{name}: {wanted}") or {}


def active(namespace: Namespace, name: str, text: str) -> dict[str, object]:
    """Wait until a package is active with this content; its status."""

    def look() -> dict[str, object] | None:
        status: dict[str, object] = namespace.get("phpkg", name).get("status", {})
        return status if (status.get("state"), status.get("sha256")) == ("Active", sha256(text)) else None

    return eventually(look, f"{name} active with {text!r}") or {}


def test_a_blob_that_a_pipeline_put_there_becomes_a_package(namespace: Namespace, container: ContainerClient) -> None:
    namespace.apply(package("Maya", "2025_1", blob="tools/maya.zip"))
    waiting = reason(namespace, "maya.2025-1", "ApplicationPackageBlobNotFound")
    assert f"{namespace.name}/tools/maya.zip" in waiting["message"]
    put(container, namespace, "tools/maya.zip", "maya")
    status = active(namespace, "maya.2025-1", "maya")
    assert (status["blob"], status["files"], status["size"]) == (
        f"{namespace.name}/tools/maya.zip",
        1,
        len(content("maya")),
    )
    linked = namespace.condition("phpkg", "maya.2025-1", "StorageLinked")
    assert linked["status"] == "True"
    assert linked["message"].endswith(f"/packhorse/{namespace.name}/")
    application = namespace.get("phapp", "maya")
    assert application["spec"]["id"] == "Maya"
    eventually(lambda: namespace.get("phapp", "maya")["status"]["versions"], "the version is listed")


def test_what_is_replaced_behind_our_back_reaches_no_node(
    namespace: Namespace, container: ContainerClient, installed: Cluster
) -> None:
    put(container, namespace, "nuke.1.zip", "first")
    namespace.apply(package("nuke", "1"))
    active(namespace, "nuke.1", "first")
    put(container, namespace, "nuke.1.zip", "replaced")
    # the node that asks for it is what notices: the next look of the operator would be minutes away
    namespace.apply(pool("nuke", 1, installed.task_image, [{"applicationId": "nuke", "version": "1"}]))
    replaced = reason(namespace, "nuke.1", "BlobReplaced")
    assert sha256("replaced") in replaced["message"]
    eventually(
        lambda: "was replaced" in json.dumps(namespace.get("phpool", "nuke")["status"].get("conditions", ())),
        "the pool says why its node cannot be used",
    )
    put(container, namespace, "nuke.1.zip", "first")
    active(namespace, "nuke.1", "first")
    namespace.kubectl("delete", "pod", "nuke-0", "--wait=false")
    namespace.idle("nuke", 1)
    namespace.kubectl("delete", "phpool", "nuke")


def test_an_update_is_announced_by_its_digest(namespace: Namespace, container: ContainerClient) -> None:
    put(container, namespace, "houdini.20.zip", "first")
    namespace.apply(package("houdini", "20"))
    active(namespace, "houdini.20", "first")
    namespace.apply(package("houdini", "20", sha256=sha256("second")))
    reason(namespace, "houdini.20", "DigestMismatch")
    put(container, namespace, "houdini.20.zip", "second")
    active(namespace, "houdini.20", "second")


def test_deleting_takes_the_blob_and_the_default_setting(namespace: Namespace, container: ContainerClient) -> None:
    for version in ("1", "2"):
        put(container, namespace, f"katana.{version}.zip", version)
    namespace.apply(
        resource("Application", "katana", defaultVersion="2"), package("katana", "1"), package("katana", "2")
    )
    for version in ("1", "2"):
        active(namespace, f"katana.{version}", version)
    namespace.kubectl("delete", "phpkg", "katana.2")
    assert not there(container, namespace, "katana.2.zip")
    assert "defaultVersion" not in namespace.get("phapp", "katana")["spec"]
    namespace.kubectl("delete", "phapp", "katana", "--wait=false")

    def held() -> bool:
        ready = namespace.condition("phapp", "katana", "Ready")
        return ready.get("reason") == "ApplicationPackagesNotEmpty" and "katana.1" in ready["message"]

    eventually(held, "the application says what it waits for")
    namespace.kubectl("delete", "phpkg", "katana.1")
    eventually(
        lambda: "katana" not in namespace.kubectl("get", "phapp", "-o", "name"), "the application goes by itself"
    )
    assert not there(container, namespace, "katana.1.zip")


def test_with_a_namespace_go_its_packages_and_their_blobs(installed: Cluster, container: ContainerClient) -> None:
    gone = make_namespace(installed)
    put(container, gone, "arnold.1.zip", "arnold")
    gone.apply(resource("Application", "arnold", allowUpdates=False), package("arnold", "1"))
    active(gone, "arnold.1", "arnold")
    installed.run_kubectl("delete", "namespace", gone.name, timeout=150)
    assert not there(container, gone, "arnold.1.zip")


def test_an_application_beyond_its_quota_gets_no_package(namespace: Namespace, container: ContainerClient) -> None:
    """All at once, so that admission cannot have heard of the others: the operator counts again."""
    for number in range(43):
        put(container, namespace, f"many.{number:02}.zip", str(number))
    with contextlib.suppress(ClusterError):  # some may be refused at once, if the operator is quick
        namespace.apply(*(package("many", f"{number:02}") for number in range(43)))

    def settled() -> bool:
        mine = [item for item in namespace.list("phpkg") if item["spec"]["applicationId"] == "many"]
        states = [item.get("status", {}).get("state") for item in mine]
        return states.count("Active") == 40 and states.count("Failed") == len(states) - 40

    eventually(settled, "forty packages are active, and all beyond them have failed")
    said = namespace.refused(package("many", "99"))
    assert "packagesPerApplication" in said
    assert "quotas.packagesPerApplication" in said


def test_a_bad_package_is_refused_with_the_entry_named(
    namespace: Namespace, container: ContainerClient, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.zip"
    pack(bad, {"../evil.sh": "#!/bin/sh\n"})
    with bad.open("rb") as file:
        container.upload_blob(f"{namespace.name}/bad.1.zip", file, overwrite=True)
    namespace.apply(package("bad", "1"))
    assert "../evil.sh" in reason(namespace, "bad.1", "InvalidPackage")["message"]
