"""A node's disk: old packages go when room is needed, and a full disk is nobody's end."""

import os
import zipfile
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pool, task

pytestmark = pytest.mark.cluster

MIB = 1 << 20
SHARED = "/mnt/batch/tasks/shared"


def upload(namespace: Namespace, folder: Path, name: str, size: int) -> None:
    """A package with one file that nothing makes smaller."""
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", os.urandom(size))
    namespace.cli("package", "upload", name, "1", str(path))


def own(name: str) -> dict[str, object]:
    return {"applicationPackageReferences": [{"applicationId": name, "version": "1"}]}


def test_room_is_made_and_a_full_disk_heals(namespace: Namespace, installed: Cluster, tmp_path: Path) -> None:
    for name, size in (("base", 10), ("one", 20), ("two", 20), ("three", 20), ("huge", 100)):
        upload(namespace, tmp_path, name, size * MIB)
    storage = {"size": "90Mi", "ephemeral": True, "medium": "Memory"}
    references = [{"applicationId": "base", "version": "1"}]
    namespace.apply(pool("small", 1, installed.task_image, references, nodeStorage=storage))
    namespace.idle("small", 1)

    def succeeds(name: str, package: str) -> None:
        command = f"test -s $AZ_BATCH_APP_PACKAGE_{package}/data && test -s $AZ_BATCH_APP_PACKAGE_base/data"
        namespace.apply(task(name, "small", command, **own(package)))
        status = namespace.finished(name)
        assert status["executionInfo"]["result"] == "success", status

    def there() -> set[str]:
        listing = namespace.kubectl("exec", "small-0", "-c", "node", "--", "ls", "/mnt/batch/tasks/applications")
        found = {name for name in listing.split() if name != "base"}
        contents = namespace.kubectl(
            "exec", "small-0", "-c", "node", "--", "sh", "-c", "ls -d /mnt/batch/tasks/applications/*/1/*"
        )
        return {name for name in found if f"/{name}/1/" in contents}

    succeeds("first", "one")
    succeeds("second", "two")
    assert there() == {"one", "two"}, "while there is room, everything stays"
    succeeds("third", "one")
    succeeds("fourth", "three")
    assert there() == {"one", "three"}, "the one that was not used for longest has gone, and no other"
    events = namespace.kubectl("get", "events", "-o", "jsonpath={.items[?(@.reason=='PackagesRemoved')].message}")
    assert "node small-0 removed two:1" in events

    # Now nothing that may go is left, since the tasks' own files fill the disk.
    namespace.kubectl(
        "exec", "small-0", "-c", "node", "--", "sh", "-c", f"head -c 62M /dev/zero > {SHARED}/ballast; true"
    )
    namespace.apply(task("squeezed", "small", "true", **own("two")))
    eventually(lambda: namespace.nodes("small")["small-0"]["state"] == "unusable", "the node is unusable")
    error = namespace.nodes("small")["small-0"]["errors"][0]
    assert error["code"] == "DiskFull"
    assert error["message"] == "There is not enough disk space on the node"
    status = namespace.get("phtask", "squeezed")["status"]
    assert (status["state"], status["executionInfo"]["retryCount"]) == ("active", 0), "the task is not at fault"
    namespace.kubectl("exec", "small-0", "-c", "node", "--", "rm", f"{SHARED}/ballast")
    assert namespace.finished("squeezed")["executionInfo"]["result"] == "success", "it heals by itself"

    namespace.apply(task("never", "small", "true", **own("huge")))
    info = namespace.finished("never")["executionInfo"]
    assert info["failureInfo"]["code"] == "DiskFull", "what can never fit is the package's fault"
    namespace.idle("small", 1)
