"""Bad input: refused by the API server with words that say what to write, or waiting with words that say for what."""

from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pool, resource, task

pytestmark = pytest.mark.cluster

POOL: dict[str, Any] = {"image": "debian:bookworm-slim"}
TASK: dict[str, Any] = {"pool": "work", "commandLine": "true"}

REFUSED = [
    ("another name than the id's", resource("Application", "blender", id="Blender_X"), 'must be "blender-x"'),
    ("an id with a period", resource("Application", "a.b"), "no periods"),
    ("an id with a space", resource("Application", "a-b", id="a b"), "should match"),
    (
        "a package under a wrong name",
        resource("ApplicationPackage", "blender", applicationId="Blender", version="2.7_B"),
        'metadata.name must be "blender.2.7-b"',
    ),
    (
        "a version that begins with a period",
        resource("ApplicationPackage", "blender..2", applicationId="blender", version=".2"),
        "should match",
    ),
    (
        "a blob outside the namespace's folder",
        resource("ApplicationPackage", "b.1", applicationId="b", version="1", blob="../other/b.zip"),
        "spec.blob must be a path such as",
    ),
    (
        "a digest that is none",
        resource("ApplicationPackage", "b.1", applicationId="b", version="1", sha256="abc"),
        "should match",
    ),
    ("a pool with periods", resource("Pool", "a.b", **POOL), "no periods"),
    ("a pool with no image", resource("Pool", "work", targetNodes=1), "image"),
    ("too many slots", resource("Pool", "work", **POOL, taskSlotsPerNode=257), "less than or equal to 256"),
    (
        "eleven references",
        resource("Pool", "work", **POOL, applicationPackageReferences=[{"applicationId": f"a{n}"} for n in range(11)]),
        "refers to 11 packages, and the quota referencesPerPool is 10",
    ),
    (
        "a storage class for what has none",
        resource("Pool", "work", **POOL, nodeStorage={"ephemeral": True, "storageClassName": "fast"}),
        "remove one of them",
    ),
    (
        "one of the service's own variables",
        resource("Task", "t", **TASK, environmentSettings=[{"name": "AZ_BATCH_TASK_ID", "value": "x"}]),
        "are set by the service",
    ),
    ("a time that is none", resource("Task", "t", **TASK, constraints={"maxWallClockTime": "soon"}), "should match"),
    ("a field that there is not", resource("Task", "t", **TASK, comandLine="true"), 'unknown field "spec.comandLine"'),
]


@pytest.mark.parametrize(("body", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_breaks_a_rule_is_refused_in_words(namespace: Namespace, body: dict[str, Any], words: str) -> None:
    assert words in namespace.refused(body)


def test_what_may_not_change_does_not(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(
        resource("ApplicationPackage", "fixed.1", applicationId="fixed", version="1"),
        pool("fixed", 0, installed.task_image),
        task("fixed", "nowhere", "true"),
    )
    # ids that differ in case alone give the same name: only their own rule can hold them
    package = resource("ApplicationPackage", "fixed.1", applicationId="FIXED", version="1")
    assert "cannot be changed" in namespace.refused(package)
    assert "cannot be changed" in namespace.refused(pool("fixed", 0, installed.task_image, taskSlotsPerNode=2))
    assert "nodeStorage cannot be changed" in namespace.refused(
        {**pool("fixed", 0, "x"), "spec": {"image": "x", "nodeStorage": {"size": "2Gi"}}}
    )
    assert "cannot be changed" in namespace.refused(task("fixed", "nowhere", "false"))


def test_a_package_without_its_blob_is_pending_and_says_so(namespace: Namespace) -> None:
    namespace.apply(resource("ApplicationPackage", "absent.1.0", applicationId="absent", version="1.0"))
    eventually(lambda: namespace.condition("phpkg", "absent.1.0", "Ready"), "a condition")
    condition = namespace.condition("phpkg", "absent.1.0", "Ready")
    assert (condition["status"], condition["reason"]) == ("False", "ApplicationPackageBlobNotFound")
    assert "packhorse package upload absent 1.0" in condition["message"]
    assert f"{namespace.name}/absent.1.0.zip" in condition["message"]
    assert namespace.get("phpkg", "absent.1.0")["status"]["state"] == "Pending"
    assert namespace.condition("phpkg", "absent.1.0", "StorageLinked")["status"] == "True"


def test_a_pool_that_refers_to_nothing_says_so_and_makes_no_nodes(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("dreams", 1, installed.task_image, [{"applicationId": "unheard-of"}]))
    eventually(lambda: namespace.condition("phpool", "dreams", "PackagesResolved"), "a condition")
    for kind in ("PackagesResolved", "Ready"):
        condition = namespace.condition("phpool", "dreams", kind)
        assert (condition["status"], condition["reason"]) == ("False", "InvalidApplicationPackageReferences")
        assert "there is no application 'unheard-of'" in condition["message"]
    assert namespace.list("pod", "packhorse.dev/pool=dreams") == []
    events = namespace.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert "InvalidApplicationPackageReferences" in events


def test_a_task_fails_in_batchs_words_where_its_package_is_unknown(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(
        pool("plain", 1, installed.task_image),
        task("lost", "plain", "true", applicationPackageReferences=[{"applicationId": "nothing", "version": "9"}]),
        task("vague", "plain", "true", applicationPackageReferences=[{"applicationId": "nothing"}]),
    )
    for name, reference in (("lost", "nothing:9"), ("vague", "nothing:None")):
        failure = namespace.finished(name)["executionInfo"]["failureInfo"]
        assert failure["category"] == "ServerError"
        assert failure["code"] == "ApplicationPackageError"
        assert failure["message"] == "One or more application packages specified for the task are invalid"
        details = {detail["name"]: detail["value"] for detail in failure["details"]}
        assert details["ApplicationPackageReference"] == reference
        assert "there is no application 'nothing'" in details["Cause"]


def test_a_task_waits_for_its_pool_and_says_so(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(task("early", "later", "echo here"))
    eventually(lambda: namespace.condition("phtask", "early", "Scheduled"), "a condition")
    condition = namespace.condition("phtask", "early", "Scheduled")
    assert (condition["status"], condition["reason"]) == ("False", "PoolNotFound")
    assert "there is no Pool 'later'" in condition["message"]
    assert namespace.get("phtask", "early")["status"]["state"] == "active"
    namespace.apply(pool("later", 1, installed.task_image))
    assert namespace.finished("early")["output"]["stdout"] == "here\n"


def test_a_task_that_fits_no_node_says_so(namespace: Namespace, installed: Cluster) -> None:
    namespace.apply(pool("narrow", 0, installed.task_image), task("wide", "narrow", "true", requiredSlots=4))
    eventually(lambda: namespace.condition("phtask", "wide", "Scheduled"), "a condition")
    condition = namespace.condition("phtask", "wide", "Scheduled")
    assert condition["reason"] == "NotEnoughSlots"
    assert "needs 4 slots" in condition["message"]


def test_a_file_that_is_no_package_never_becomes_active(namespace: Namespace, tmp_path: Any) -> None:
    (tmp_path / "bad.zip").write_text("this is no ZIP file")
    done = namespace.cli("package", "upload", "bad", "1", str(tmp_path / "bad.zip"), check=False)
    assert done.returncode != 0
    assert "ZIP" in done.stderr
    assert namespace.kubectl("get", "phpkg", "bad.1", "--ignore-not-found") == "", "nothing was created"
