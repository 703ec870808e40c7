"""A deployment that fails makes its node unusable, and a reboot tries again."""

from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Namespace, eventually, pack, pool, task

pytestmark = pytest.mark.cluster


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
    eventually(lambda: namespace.nodes("fragile").get("fragile-0", {}).get("state") == "unusable", "it is unusable")

    error = namespace.nodes("fragile")["fragile-0"]["errors"][0]
    assert error["code"] == "ApplicationPackageError"
    assert error["message"] == "One or more application packages specified for the pool are invalid"
    details = {detail["name"]: detail["value"] for detail in error["errorDetails"]}
    assert details["ApplicationPackageReference"] == "app:1"
    assert "application 'app' has no version '1'" in details["Cause"]
    ready = namespace.condition("phpool", "fragile", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplicationPackageError")
    assert "fragile-0" in ready["message"]
    events = namespace.kubectl("get", "events", "-o", "jsonpath={.items[?(@.reason=='NodeUnusable')].message}")
    assert "fragile-0" in events
    shown = namespace.cli("pool", "show", "fragile").stdout
    assert "unusable" in shown

    namespace.apply(*[task(f"elsewhere-{number}", "fragile", "true") for number in range(3)])
    assert {namespace.finished(f"elsewhere-{number}")["nodeName"] for number in range(3)} == {"fragile-1"}

    namespace.cli("package", "upload", "app", "1", app)
    namespace.kubectl("delete", "pod", "fragile-0")
    namespace.idle("fragile", 2)
    namespace.apply(task("back", "fragile", "$AZ_BATCH_APP_PACKAGE_app/bin/app"))
    assert namespace.finished("back")["output"]["stdout"] == "works\n"
