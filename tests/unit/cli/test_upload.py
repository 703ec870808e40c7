import base64
import hashlib
import json
import os
import signal
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.fake_operator import UPLOAD, Operator, add_package, blob_path, condition, get, leave

BLOB = blob_path()
CONFLICT = {
    "kind": "Status",
    "reason": "Conflict",
    "message": 'conflict with "argocd": .spec.sha256',
    "details": {"name": "ffmpeg.7.0.2", "causes": [{"reason": "FieldManagerConflict", "field": ".spec.sha256"}]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_zip(tmp_path / "ffmpeg.zip", b"#!/bin/sh\necho 7.0.2\n")


def make_zip(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("bin/ffmpeg", content)
    return path


def test_package_is_uploaded_and_active(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator())
    cluster.token = "mine"

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 0, result.output
    assert cluster.storage.blobs == {BLOB: file.read_bytes()}
    assert get(cluster)["spec"] == {
        "applicationId": "ffmpeg",
        "version": "7.0.2",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    assert result.stdout.startswith("applicationpackage/ffmpeg.7.0.2 active (")
    assert "1 file" in result.stdout
    assert "Uploading ffmpeg.zip" in result.stderr


def test_large_package_goes_in_blocks(cluster: FakeCluster, packhorse: Run, tmp_path: Path) -> None:
    file = make_zip(tmp_path / "large.zip", os.urandom(20_000_000))
    cluster.react(Operator())

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0

    assert cluster.storage.blobs == {BLOB: file.read_bytes()}
    assert cluster.storage.count("block") == 3
    assert cluster.storage.count("blocklist") == 2  # read once, written once


def test_blocks_of_another_tool_are_left_out(cluster: FakeCluster, packhorse: Run, tmp_path: Path) -> None:
    file = make_zip(tmp_path / "large.zip", os.urandom(20_000_000))
    foreign = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    cluster.storage.blocks[BLOB] = {foreign: b"half"}
    cluster.react(Operator())

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0

    assert cluster.storage.blobs == {BLOB: file.read_bytes()}


def test_blocks_with_short_names_are_cleared_away(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.storage.blocks[BLOB] = {base64.b64encode(b"1").decode(): b"half"}
    cluster.react(Operator())

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0

    assert cluster.storage.blobs == {BLOB: file.read_bytes()}


def test_blocks_in_the_way_of_a_blob_that_is_there(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.storage.put(BLOB, b"what is there")
    cluster.storage.blocks[BLOB] = {base64.b64encode(b"1").decode(): b"half"}
    cluster.react(Operator())

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert "Another tool began to upload" in result.stderr
    assert cluster.storage.blobs == {BLOB: b"what is there"}


def test_set_default_comes_after_activation(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator())

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "--set-default")

    assert result.stdout.splitlines()[1] == "application/ffmpeg default version 7.0.2"
    application = cluster.find("applications", "ffmpeg")
    assert application is not None
    assert application["spec"] == {"id": "ffmpeg", "defaultVersion": "7.0.2"}


def test_default_is_not_set_where_activation_fails(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator(failure="it is no good"))

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "--set-default").exit_code == 1
    application = cluster.find("applications", "ffmpeg")
    assert application is not None
    assert "defaultVersion" not in application["spec"]


def test_same_content_again_sends_nothing(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator())
    packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "--set-default")
    cluster.requests.clear()

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "--set-default")

    assert "unchanged (this very content is active)" in result.stdout
    assert "application/ffmpeg unchanged" in result.stdout
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_reason_of_a_failed_activation_is_told(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator(failure="entry 'x' leads out of the package"))

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert "ffmpeg.7.0.2 was uploaded, and cannot be used. entry 'x' leads out" in result.stderr


def test_failure_of_an_earlier_upload_is_not_this_ones(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    add_package(cluster, state="Failed", annotations={UPLOAD: "2026-01-01T00:00:00Z"}, message="an old complaint")
    cluster.on_watch.append(lambda fake: Operator()(fake, "applicationpackages", get(fake)))
    cluster.put("secrets", "ffmpeg.7.0.2.upload", data=leave())

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("annotation", ["requested", "2026-01-01T00:00:00Z"])
def test_interrupted_upload_is_asked_for_again(
    annotation: str, cluster: FakeCluster, packhorse: Run, file: Path
) -> None:
    add_package(cluster, state="Pending", annotations={UPLOAD: annotation}, spec={})
    cluster.put("secrets", "ffmpeg.7.0.2.upload", data=leave(hours=0.1, signature="old"))
    cluster.react(Operator())
    asked: list[str | None] = []
    cluster.react(lambda _, plural, item: asked.append(item["metadata"].get("annotations", {}).get(UPLOAD)))

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0
    assert asked[:2] == [None, "requested"]
    assert cluster.storage.blobs == {BLOB: file.read_bytes()}


def test_interruption_says_how_to_go_on(cluster: FakeCluster, packhorse: Run, tmp_path: Path) -> None:
    file = make_zip(tmp_path / "large.zip", os.urandom(20_000_000))
    cluster.react(Operator())
    cluster.storage.on_block.append(lambda: os.kill(os.getpid(), signal.SIGINT))

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 130
    assert "Interrupted: the upload of ffmpeg.7.0.2 is not complete" in result.stderr
    assert "Run the same command again" in result.stderr
    assert get(cluster)["metadata"]["annotations"][UPLOAD] == "requested"
    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0


def test_no_linked_storage_is_told_at_once(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    unlinked = [condition("StorageLinked", "False", "no storage account is linked")]
    cluster.react(
        lambda fake, plural, item: fake.update(plural, item["metadata"]["name"], status={"conditions": unlinked})
    )

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert "no storage account is linked" in result.stderr
    assert "storage.existingSecret" in result.stderr


def test_refused_upload_shows_no_signature(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator(data=leave(signature="secretive")))

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert "AuthenticationFailed" in result.stderr
    assert "secretive" not in result.output


def test_missing_right_to_reach_the_storage(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator())
    cluster.proxy_allowed = False

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert "packhorse-uploader" in result.stderr


def test_package_that_somebody_else_manages_is_not_taken_over(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.refusals["PATCH", "applicationpackages"] = (409, CONFLICT)

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert 'conflict with "argocd"' in result.stderr
    assert "--force-conflicts" in result.stderr


@pytest.mark.parametrize(
    ("application", "version", "message"),
    [
        ("ff mpeg", "7", "'ff mpeg' is no application id"),
        ("ffmpeg", ".7", "'.7' is no version"),
        ("ffmpeg", "7-", "gives no name that Kubernetes allows"),
    ],
)
def test_bad_names_are_refused_first(application: str, version: str, message: str, packhorse: Run, file: Path) -> None:
    result = packhorse("package", "upload", application, version, str(file))

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_what_is_no_zip_file_is_refused_first(packhorse: Run, tmp_path: Path, cluster: FakeCluster) -> None:
    (tmp_path / "text.zip").write_text("not a ZIP file")

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(tmp_path / "text.zip"))

    assert result.exit_code == 1
    assert "text.zip cannot be a package. The ZIP file" in result.stderr
    assert cluster.requests == []


def test_missing_file(packhorse: Run, tmp_path: Path) -> None:
    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(tmp_path / "nothing.zip"))

    assert result.exit_code == 1
    assert "nothing.zip cannot be read: No such file or directory." in result.stderr


def test_manifests_for_a_repository(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    result = packhorse("package", "upload", "FFmpeg", "7.0_2", str(file), "--set-default", "-o", "yaml")

    application, package_ = yaml.safe_load_all(result.stdout)
    assert application["metadata"]["name"] == "ffmpeg"
    assert application["spec"] == {"id": "FFmpeg", "defaultVersion": "7.0_2"}
    assert package_["metadata"] == {"name": "ffmpeg.7.0-2"}
    assert package_["spec"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "Nothing was uploaded" in result.stderr
    assert cluster.requests == []


def test_manifest_as_json(packhorse: Run, file: Path) -> None:
    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "-o", "json")

    assert json.loads(result.stdout)["kind"] == "ApplicationPackage"
