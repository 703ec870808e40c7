import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import PROXY, FakeCluster
from tests.unit.cli.fake_operator import DOWNLOAD, Operator, add_package, blob_path, get, leave

CONTENT = os.urandom(40_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def add(cluster: FakeCluster, content: bytes = CONTENT, **fields: Any) -> None:
    add_package(cluster, sha256=DIGEST, **fields)
    cluster.storage.put(blob_path(), content)
    cluster.react(Operator())


def given_back(cluster: FakeCluster) -> bool:
    return not get(cluster)["metadata"]["annotations"] and cluster.find("secrets", "ffmpeg.7.0.2.download") is None


def test_package_is_downloaded_in_ranges(cluster: FakeCluster, packhorse: Run, here: Path) -> None:
    add(cluster)
    cluster.token = "mine"

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 0, result.output
    assert result.stdout == f"ffmpeg.7.0.2.zip (40.0 MB, sha256 {DIGEST[:12]})\n"
    assert (here / "ffmpeg.7.0.2.zip").read_bytes() == CONTENT
    assert cluster.storage.requests.count(("GET", blob_path(), "")) == 3
    assert given_back(cluster)


def test_file_is_named(cluster: FakeCluster, packhorse: Run, here: Path) -> None:
    add(cluster)
    (here / "folder").mkdir()
    (here / "x.zip").write_text("what was here before")

    assert packhorse("package", "download", "ffmpeg", "7.0.2", "-f", "x.zip").exit_code == 0
    assert packhorse("package", "download", "ffmpeg", "7.0.2", "-f", "folder").exit_code == 0

    assert (here / "x.zip").read_bytes() == CONTENT
    assert (here / "folder" / "ffmpeg.7.0.2.zip").read_bytes() == CONTENT


def test_other_content_is_not_published(cluster: FakeCluster, packhorse: Run, here: Path) -> None:
    add(cluster, b"other content")

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "The blob of ffmpeg.7.0.2 is not what was activated: it has sha256" in result.stderr
    assert "packhorse package verify ffmpeg 7.0.2" in result.stderr
    assert list(here.iterdir()) == []
    assert given_back(cluster)


@pytest.mark.usefixtures("abandoned")
def test_blob_that_is_replaced_meanwhile(cluster: FakeCluster, packhorse: Run, here: Path) -> None:
    add(cluster)
    cluster.storage.on_range.append(lambda: cluster.storage.put(blob_path(), CONTENT[::-1]))

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "refuses the download: ConditionNotMet" in result.stderr
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("abandoned")
def test_interruption_leaves_nothing(cluster: FakeCluster, packhorse: Run, here: Path) -> None:
    add(cluster)
    cluster.storage.on_range.append(lambda: os.kill(os.getpid(), signal.SIGINT))

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 130
    assert "Interrupted: ffmpeg.7.0.2.zip was not written." in result.stderr
    assert list(here.iterdir()) == []
    assert given_back(cluster)


def test_leave_of_an_earlier_download_is_asked_for_again(cluster: FakeCluster, packhorse: Run, here: Path) -> None:
    add(cluster, annotations={DOWNLOAD: "requested"})
    cluster.put("secrets", "ffmpeg.7.0.2.download", data=leave(hours=0.1, signature="old"))

    assert packhorse("package", "download", "ffmpeg", "7.0.2").exit_code == 0
    assert (here / "ffmpeg.7.0.2.zip").read_bytes() == CONTENT


def test_package_that_is_not_active(cluster: FakeCluster, packhorse: Run) -> None:
    add_package(cluster, state="Pending", message="the account has no such blob")

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "ffmpeg.7.0.2 is not active. the account has no such blob" in result.stderr
    assert {method for method, _ in cluster.requests} == {"GET"}


def test_refusal_shows_no_signature(cluster: FakeCluster, packhorse: Run) -> None:
    add(cluster)
    cluster.react(
        lambda fake, plural, item: (
            fake.put("secrets", "ffmpeg.7.0.2.download", data=leave(signature="secretive"))
            if item["metadata"].get("annotations", {}).get(DOWNLOAD)
            else None
        )
    )

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "AuthenticationFailed" in result.stderr or "HTTP 403" in result.stderr
    assert "secretive" not in result.output


def test_right_to_read_through_the_cluster_is_enough(cluster: FakeCluster, packhorse: Run) -> None:
    add(cluster)

    assert packhorse("package", "download", "ffmpeg", "7.0.2").exit_code == 0
    assert {method for method, path in cluster.requests if path.startswith(PROXY)} == {"GET", "HEAD"}


def test_missing_right_to_reach_the_storage(cluster: FakeCluster, packhorse: Run) -> None:
    add(cluster)
    cluster.proxy_allowed = False

    result = packhorse("package", "download", "ffmpeg", "7.0.2")

    assert result.exit_code == 1
    assert "packhorse-uploader" in result.stderr
    assert given_back(cluster)


def test_folder_that_is_not_there(cluster: FakeCluster, packhorse: Run) -> None:
    add(cluster)

    result = packhorse("package", "download", "ffmpeg", "7.0.2", "-f", "nowhere/x.zip")

    assert result.exit_code == 1
    assert "nowhere/x.zip cannot be written: No such file or directory." in result.stderr
    assert given_back(cluster)
