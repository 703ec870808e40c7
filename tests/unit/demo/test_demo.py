import zipfile
from pathlib import Path

import pytest
import yaml

from demo import ffmpeg, manifests
from packhorse.archive import inspect
from packhorse.model import Pool, Task
from tests.cluster import ClusterError
from tests.cluster.cache import Cache


def test_pool_is_what_the_models_say() -> None:
    pool = Pool.model_validate(yaml.safe_load(manifests.pool("debian:bookworm-slim")))

    assert pool.spec.target_nodes == 3
    assert [reference.version for reference in pool.spec.application_package_references] == [ffmpeg.VERSIONS[0]]


def test_every_frame_is_a_task_with_a_command_of_its_own() -> None:
    tasks = [Task.model_validate(item) for item in yaml.safe_load_all(manifests.tasks())]

    assert tuple(task.metadata.name for task in tasks) == manifests.FRAME_NAMES
    assert len({task.spec.command_line for task in tasks}) == manifests.FRAMES
    assert {task.spec.job_id for task in tasks} == {"mandelbrot"}
    assert "\n" not in tasks[0].spec.command_line.strip()


def test_package_is_good_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "imageio_ffmpeg-0.6.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("imageio_ffmpeg/binaries/README.md", "not this")
        file.writestr("imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2", b"\x7fELF")
    monkeypatch.setattr(ffmpeg, "_fetch", lambda *_: wheel)
    cache = Cache(tmp_path / "cache")

    first, second = (ffmpeg.package(cache, tmp_path / name, "7.0.2", "amd64") for name in ("one", "two"))

    assert first.read_bytes() == second.read_bytes()
    with first.open("rb") as stream:
        assert inspect(stream).files == 1
    with zipfile.ZipFile(first) as package:
        assert package.getinfo("bin/ffmpeg").external_attr >> 16 == 0o100755


def test_nodes_without_an_ffmpeg_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="s390x"):
        ffmpeg.package(Cache(tmp_path / "cache"), tmp_path, "7.0.2", "s390x")
