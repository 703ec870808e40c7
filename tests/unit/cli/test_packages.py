import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster
from tests.unit.cli.fake_operator import FOLDER, Operator, add_package, blob_path, condition, get, zipped


def test_packages_are_a_table_by_application_and_version(cluster: FakeCluster, packhorse: Run) -> None:
    for name in ("ffmpeg.10.0", "ffmpeg.9.1", "blender.4.2"):
        add_package(cluster, name)

    lines = packhorse("package", "list").stdout.splitlines()

    assert lines[0].split() == ["APPLICATION", "VERSION", "STATE", "SIZE", "AGE"]
    assert [line.split()[:5] for line in lines[1:]] == [
        ["blender", "4.2", "Active", "1.0", "kB"],
        ["ffmpeg", "9.1", "Active", "1.0", "kB"],
        ["ffmpeg", "10.0", "Active", "1.0", "kB"],
    ]


def test_packages_of_one_application(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.7")
    add_package(cluster, "blender.4.2", state="Failed", message="it is damaged")

    assert packhorse("package", "list", "Blender", "-o", "name").stdout == (
        "applicationpackage.packhorse.dev/blender.4.2\n"
    )
    assert packhorse("package", "list", "blender", "-o", "wide").stdout.splitlines()[1].endswith("it is damaged")
    assert packhorse("package", "list", "nothing").exit_code == 1


def test_no_packages_is_said_beside_the_result(cluster: FakeCluster, packhorse: Run) -> None:
    result = packhorse("package", "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "No packages in namespace default." in result.stderr


def test_package_is_shown_with_all_that_is_known(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, application={"defaultVersion": "7.0.2", "allowUpdates": False})

    lines = packhorse("package", "show", "FFmpeg", "7.0.2").stdout.splitlines()

    facts = {name.rstrip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert facts["Version"] == "7.0.2 (the default version)"
    assert facts["State"] == "Active"
    assert facts["SHA-256"] == "ab" * 32
    assert facts["Holds"] == "1 file, 2.0 kB unpacked"
    assert facts["Locked"] == "application ffmpeg does not allow updates"


def test_package_that_failed_says_why(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, state="Failed", message="it is damaged", reason="InvalidPackage")

    assert "Not ready:    InvalidPackage: it is damaged" in packhorse("package", "show", "ffmpeg", "7.0.2").stdout
    shown = packhorse("package", "show", "ffmpeg", "7.0.2", "-o", "json").stdout
    assert json.loads(shown)["status"]["state"] == "Failed"


def test_versions_are_deleted_and_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    for name in ("ffmpeg.1", "ffmpeg.2", "ffmpeg.3"):
        add_package(cluster, name)
        cluster.storage.put(blob_path(name), b"content")
    cluster.react(Operator())

    result = packhorse("package", "delete", "ffmpeg", "1", "2")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["applicationpackage/ffmpeg.1 deleted", "applicationpackage/ffmpeg.2 deleted"]
    assert list(cluster.storage.blobs) == [blob_path("ffmpeg.3")]


def test_deletion_that_takes_a_while_says_what_holds_it(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster)

    def hold(fake: FakeCluster) -> None:
        for message in ("the blob is still to be removed", "the account does not answer"):
            held = [condition("Ready", "False", message, "Deleting")]
            fake.update("applicationpackages", "ffmpeg.7.0.2", status={"state": "Pending", "conditions": held})
        fake.remove("applicationpackages", "ffmpeg.7.0.2")

    cluster.on_watch.append(hold)

    result = packhorse("package", "delete", "ffmpeg", "7.0.2")

    assert result.exit_code == 0, result.output
    assert result.stdout == "applicationpackage/ffmpeg.7.0.2 deleted\n"
    assert "applicationpackage/ffmpeg.7.0.2: the account does not answer" in result.stderr


def test_deletion_gives_up_in_time_and_need_not_be_awaited(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster)

    late = packhorse("package", "delete", "ffmpeg", "7.0.2", "--timeout", "1s")
    at_once = packhorse("package", "delete", "ffmpeg", "7.0.2", "--wait=false")

    assert late.exit_code == 1
    assert "ffmpeg.7.0.2 is still being deleted" in late.stderr
    assert (at_once.exit_code, at_once.stdout) == (0, "applicationpackage/ffmpeg.7.0.2 deleted\n")


def test_nothing_is_deleted_where_one_version_is_missing(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1")
    cluster.react(Operator())

    refused = packhorse("package", "delete", "ffmpeg", "1", "2")
    assert refused.exit_code == 1
    assert "There is no package ffmpeg.2 here." in refused.stderr
    assert get(cluster, "ffmpeg.1")

    assert packhorse("package", "delete", "ffmpeg", "1", "2", "--ignore-not-found").exit_code == 0
    assert cluster.find("applicationpackages", "ffmpeg.1") is None


def test_locked_versions_are_not_deleted(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1", state="Pending", spec={}, application={"allowUpdates": False})
    add_package(cluster, "ffmpeg.2")
    cluster.react(Operator())

    refused = packhorse("package", "delete", "ffmpeg", "1", "2")

    assert refused.exit_code == 1
    assert "ffmpeg.2 cannot be deleted: application ffmpeg has allowUpdates: false" in refused.stderr
    assert packhorse("package", "delete", "ffmpeg", "1").exit_code == 0


def test_blob_of_another_tool_is_activated(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, state="Pending", spec={})
    cluster.storage.put(blob_path(), zipped())
    cluster.react(Operator())

    result = packhorse("package", "activate", "ffmpeg", "7.0.2")

    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(zipped()).hexdigest()
    assert result.stdout == f"applicationpackage/ffmpeg.7.0.2 active ({len(zipped())} B, sha256 {digest[:12]})\n"


def test_activation_of_what_is_not_there(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, state="Pending", spec={})
    cluster.react(Operator())

    result = packhorse("package", "activate", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "ffmpeg.7.0.2 has no file yet. the account has no such blob" in result.stderr
    assert packhorse("package", "activate", "ffmpeg", "8").exit_code == 1


def test_good_package_is_verified(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, sha256=hashlib.sha256(zipped()).hexdigest())
    cluster.storage.put(blob_path(), zipped())
    cluster.react(Operator())

    result = packhorse("package", "verify", "ffmpeg", "7.0.2")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("applicationpackage/ffmpeg.7.0.2 verified (1.0 kB, sha256 ")


def test_bad_package_is_exit_code_1(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster)
    cluster.storage.put(blob_path(), b"something else")
    cluster.react(Operator())

    result = packhorse("package", "verify", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "ffmpeg.7.0.2 is no longer good. the blob was replaced" in result.stderr


def test_package_that_is_not_active_is_not_verified(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, state="Pending", message="the account has no such blob")

    result = packhorse("package", "verify", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "is not active. the account has no such blob" in result.stderr


@pytest.mark.parametrize("form", ["file", "folder"])
def test_file_or_folder_is_compared_here(form: str, cluster: FakeCluster, packhorse: Run, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "x.zip"
    folder.mkdir()
    (folder / "program").write_text("#!/bin/sh\n")
    packhorse("package", "pack", str(folder), "-o", str(file))
    add_package(cluster, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    path = file if form == "file" else folder
    cluster.requests.clear()

    same = packhorse("package", "verify", "ffmpeg", "7.0.2", str(path))
    with zipfile.ZipFile(file, "a") as package:
        package.writestr("another", "")
    (folder / "another").touch()
    other = packhorse("package", "verify", "ffmpeg", "7.0.2", str(path))

    assert same.exit_code == 0, same.output
    assert "is the content of applicationpackage/ffmpeg.7.0.2" in same.stdout
    assert other.exit_code == 1
    assert "is not the content of ffmpeg.7.0.2: it has sha256" in other.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_storage_is_told_by_its_packages(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1")
    add_package(cluster, "ffmpeg.2")
    add_package(cluster, "ffmpeg.3", state="Pending", spec={})

    lines = packhorse("storage", "status").stdout.splitlines()

    assert [line.split(maxsplit=1) for line in lines] == [
        ["Address:", FOLDER],
        ["Storage:", "linked"],
        ["Pending:", "1 package"],
        ["Active:", "2 packages, 2.0 kB"],
    ]


@pytest.mark.parametrize(("status", "words"), [("False", "not linked"), ("Unknown", "in trouble")])
def test_trouble_with_storage_is_told(status: str, words: str, cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, "ffmpeg.1", state="Pending", spec={})
    trouble = [condition("StorageLinked", status, "what is the matter")]
    cluster.update("applicationpackages", "ffmpeg.1", status={"conditions": trouble})

    assert f"Storage:  {words}: what is the matter" in packhorse("storage", "status").stdout
    told = json.loads(packhorse("storage", "status", "-o", "json").stdout)
    assert told["storage"] == [{"linked": status, "reason": "Said", "message": "what is the matter", "packages": 1}]
    assert told["packages"] == {"Pending": {"count": 1, "size": 0}}


def test_storage_without_packages_is_not_known(packhorse: Run) -> None:
    assert "the account is looked at with the first" in packhorse("storage", "status").stdout
