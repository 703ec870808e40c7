import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from packhorse.cli.grant import Grant
from packhorse.cli.upload import divide
from tests.unit.cli.conftest import Run, await_transfers
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


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return make_zip(tmp_path / "large.zip", os.urandom(40_000_000))


def time_passes() -> None:
    """Let a block pass as it is."""


@pytest.mark.usefixtures("abandoned")
def test_interrupted_upload_goes_on(cluster: FakeCluster, packhorse: Run, tmp_path: Path) -> None:
    large = make_zip(tmp_path / "large.zip", os.urandom(60_000_000))
    blocks = len(divide(large.stat().st_size, hashlib.sha256(large.read_bytes()).hexdigest()))
    cluster.react(Operator())
    answered = threading.Event()

    def interrupt() -> None:
        assert cluster.storage.taken.wait_for(2)
        os.kill(os.getpid(), signal.SIGINT)
        answered.wait(30)

    def hang() -> None:
        answered.wait(30)

    cluster.storage.on_block = [time_passes, time_passes, interrupt, hang, hang, hang]

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(large))
    answered.set()
    await_transfers()

    assert result.exit_code == 130
    assert "Interrupted: the upload of ffmpeg.7.0.2 is not complete" in result.stderr
    assert "Run the same command again: it goes on where it ended." in result.stderr
    assert get(cluster)["metadata"]["annotations"][UPLOAD] == "requested"
    assert cluster.storage.blobs == {}
    there = len(cluster.storage.blocks[BLOB])
    assert 2 <= there < blocks

    cluster.storage.on_block.clear()
    cluster.storage.requests.clear()
    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(large))

    assert result.exit_code == 0, result.output
    assert "Going on with an earlier upload: " in result.stderr
    assert cluster.storage.count("block") == blocks - there
    assert cluster.storage.blobs == {BLOB: large.read_bytes()}


@pytest.mark.usefixtures("abandoned")
def test_interrupted_process_ends_at_once(cluster: FakeCluster, kubeconfig: Path, large: Path) -> None:
    cluster.react(Operator())
    begun, answered = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        answered.wait(60)

    cluster.storage.on_block = [hang]
    command = [sys.executable, "-m", "packhorse.cli", "package", "upload", "ffmpeg", "7.0.2", str(large)]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": "operator"}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert begun.wait(60)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)  # the block is not answered until afterwards
        finally:
            answered.set()

    assert process.returncode == 130
    assert "Interrupted: the upload of ffmpeg.7.0.2 is not complete" in said
    assert "Traceback" not in said


def test_blocks_of_other_content_are_not_taken(cluster: FakeCluster, packhorse: Run, large: Path, file: Path) -> None:
    cluster.react(Operator())
    blocks = divide(large.stat().st_size, hashlib.sha256(large.read_bytes()).hexdigest())
    names = [base64.b64encode(block.id.encode()).decode() for block in blocks]
    sizes = [block.size for block in blocks]
    # What another file left, and of this file one block that is whole and one that is cut.
    other = base64.b64encode(divide(8, "cd" * 32)[0].id.encode()).decode()
    content = large.read_bytes()
    cluster.storage.blocks[BLOB] = {
        other: content[: sizes[0]],
        names[1]: content[sizes[0] :][: sizes[1]],
        names[2]: b"x",
    }

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(large))

    assert result.exit_code == 0, result.output
    assert "Going on with an earlier upload: 8.4 MB of 40.0 MB are there already." in result.stderr
    assert cluster.storage.count("block") == len(blocks) - 1
    assert cluster.storage.blobs == {BLOB: content}


def test_failed_package_is_sent_again_as_a_whole(cluster: FakeCluster, packhorse: Run, large: Path) -> None:
    cluster.react(Operator())
    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(large)).exit_code == 0
    cluster.update("applicationpackages", "ffmpeg.7.0.2", status={"state": "Failed"})
    cluster.storage.requests.clear()

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(large)).exit_code == 0
    assert cluster.storage.count("block") == 5


def test_what_was_written_but_not_told_is_not_sent_again(cluster: FakeCluster, packhorse: Run, large: Path) -> None:
    cluster.react(Operator())
    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(large)).exit_code == 0
    add_package(cluster, state="Pending", annotations={UPLOAD: "requested"}, spec={})
    cluster.storage.requests.clear()

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(large)).exit_code == 0
    assert cluster.storage.count("block") == 0


@pytest.mark.parametrize("size", [1, 8 << 20, (8 << 20) + 1, 195 << 30, 4 << 40, 190 << 40])
def test_blocks_suffice_for_every_size(size: int) -> None:
    blocks = divide(size, "ab" * 32)

    assert len(blocks) <= 50_000
    assert sum(block.size for block in blocks) == size
    assert [block.offset for block in blocks] == [number * blocks[0].size for number in range(len(blocks))]
    assert len({block.id for block in blocks}) == len(blocks)
    assert {len(block.id) for block in blocks} == {54}
    assert all(block.id.startswith("ab" * 21) for block in blocks)


@pytest.mark.usefixtures("abandoned")
def test_leave_that_ends_is_renewed(cluster: FakeCluster, packhorse: Run, large: Path) -> None:
    asked: list[str] = []

    def note(_: FakeCluster, plural: str, item: dict[str, Any]) -> None:
        if plural == "applicationpackages":
            asked.append(item["metadata"].get("annotations", {}).get(UPLOAD, ""))

    cluster.react(note)
    cluster.react(Operator())
    ends = [False, True]  # after the first block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Grant, "ending", property(lambda _: ends.pop(0) if ends else False))
        result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(large))

    assert result.exit_code == 0, result.output
    assert asked[:3] == ["requested", "", "requested"]
    assert cluster.storage.blobs == {BLOB: large.read_bytes()}


def test_busy_account_is_asked_again(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator())
    cluster.storage.throttle = 1

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0
    assert cluster.storage.count("block") == 2


def test_folder_is_packed_on_the_way(
    cluster: FakeCluster, packhorse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ffmpeg" / "bin").mkdir(parents=True)
    (tmp_path / "ffmpeg" / "bin" / "ffmpeg").write_text("#!/bin/sh\n")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    cluster.react(Operator())

    first = packhorse("package", "upload", "ffmpeg", "7.0.2", str(tmp_path / "ffmpeg"))
    os.utime(tmp_path / "ffmpeg" / "bin" / "ffmpeg", (0, 0))
    second = packhorse("package", "upload", "ffmpeg", "7.0.2", str(tmp_path / "ffmpeg"))

    assert first.exit_code == 0, first.output
    with zipfile.ZipFile(io.BytesIO(cluster.storage.blobs[BLOB])) as package:
        assert package.namelist() == ["bin/", "bin/ffmpeg"]
    assert "unchanged (this very content is active)" in second.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_damaged_data_are_found_before_anything_is_sent(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"echo", b"ECHO"))

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert "its checksum is not the promised one" in result.stderr
    assert cluster.requests == []


def test_other_content_takes_replace(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    add_package(cluster)
    cluster.react(Operator())

    refused = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))
    wrote = {method for method, _ in cluster.requests} - {"GET"}
    replaced = packhorse("package", "upload", "FFmpeg", "7.0.2", str(file), "--replace")

    assert refused.exit_code == 1
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"it has sha256 {'ab' * 6}, ffmpeg.zip has {digest[:12]}" in refused.stderr
    assert "--replace" in refused.stderr
    assert wrote == set()
    assert replaced.exit_code == 0, replaced.output
    assert get(cluster)["spec"] == {"applicationId": "ffmpeg", "version": "7.0.2", "sha256": digest}


def test_replaced_version_stays_what_it_is_until_the_content_is_there(
    cluster: FakeCluster, packhorse: Run, large: Path
) -> None:
    add_package(cluster)
    cluster.react(Operator())
    seen: list[dict[str, Any]] = []
    cluster.storage.on_block = [lambda: seen.append(get(cluster))]

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(large), "--replace").exit_code == 0
    assert seen[0]["spec"]["sha256"] == "ab" * 32
    assert seen[0]["status"]["state"] == "Active"


def test_locked_package_is_refused_before_anything_is_sent(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    add_package(cluster, application={"allowUpdates": False})

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "--replace")

    assert result.exit_code == 1
    assert "ffmpeg.7.0.2 cannot be updated: application ffmpeg has allowUpdates: false" in result.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_name_that_another_version_has(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    add_package(cluster, "ffmpeg.7-0")

    result = packhorse("package", "upload", "ffmpeg", "7_0", str(file))

    assert result.exit_code == 1
    assert "The name ffmpeg.7-0 is taken by version 7-0 of application ffmpeg" in result.stderr


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"packageSize": 100}, "This installation's quota packageSize allows 100 B (100 bytes)"),
        ({"file_size": 10}, "cannot be a package of this installation. Entry 'bin/ffmpeg' is 21 bytes long unpacked"),
        ({"pathLength": 5, "newLimit": 1}, "has a path of 10 bytes, the limit is 5"),
    ],
)
def test_nothing_remains_of_what_this_installation_refuses(
    limits: dict[str, int], message: str, cluster: FakeCluster, packhorse: Run, file: Path
) -> None:
    cluster.react(Operator(limits=limits))

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert message in result.stderr
    assert cluster.find("applicationpackages", "ffmpeg.7.0.2") is None
    assert cluster.find("applications", "ffmpeg") is None
    assert cluster.storage.count("block") == 0


def test_refused_file_leaves_what_was_there_before(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    before = add_package(cluster)
    cluster.react(Operator(limits={"packageSize": 100}))

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file), "--replace").exit_code == 1
    after = get(cluster)
    assert after["spec"] == before["spec"]
    assert after["status"] == before["status"]
    assert after["metadata"]["annotations"] == {}


def test_limits_that_allow_it_and_no_limit(cluster: FakeCluster, packhorse: Run, file: Path) -> None:
    cluster.react(Operator(limits={"packageSize": 0, "file_size": 1 << 20}))

    assert packhorse("package", "upload", "ffmpeg", "7.0.2", str(file)).exit_code == 0


@pytest.mark.parametrize(
    ("said", "shown", "hint"),
    [
        (
            'applicationpackages.packhorse.dev "ffmpeg.7.0.2" is forbidden: ValidatingAdmissionPolicy'
            " 'packhorse-package-quota' with binding 'packhorse-package-quota' denied request: application ffmpeg has"
            " 40 packages, and the quota packagesPerApplication is 40",
            "error: application ffmpeg has 40 packages, and the quota packagesPerApplication is 40",
            "",
        ),
        (
            'applicationpackages.packhorse.dev "ffmpeg.7.0.2" is forbidden: exceeded quota: packhorse, requested:'
            " count/applicationpackages.packhorse.dev=1, used: count/applicationpackages.packhorse.dev=8k, limited:"
            " count/applicationpackages.packhorse.dev=8k",
            "error: This namespace's ResourceQuota packhorse is used up",
            "kubectl edit resourcequota packhorse",
        ),
    ],
)
def test_policies_speak_for_themselves(
    said: str, shown: str, hint: str, *, cluster: FakeCluster, packhorse: Run, file: Path
) -> None:
    status = {"kind": "Status", "reason": "Forbidden", "message": said}
    cluster.refusals["PATCH", "applicationpackages"] = (403, status)

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(file))

    assert result.exit_code == 1
    assert result.stderr.startswith(shown)
    assert hint in result.stderr
    assert "Ask the cluster's administrator for this right" not in result.stderr


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
