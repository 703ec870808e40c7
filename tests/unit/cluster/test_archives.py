"""Images written here are read back, and travel without the layers that are there already."""

import io
import json
import tarfile
from pathlib import Path

from tests.cluster.dockerarchive import Image, write
from tests.cluster.loading import layout, read


def image_folders(tmp_path: Path) -> list[Image]:
    for folder in ("one", "two"):
        (tmp_path / folder / "bin").mkdir(parents=True)
        (tmp_path / folder / "bin" / "program").write_text(folder)
    return [
        Image("example.com/one:1", tmp_path / "one", ["/bin/program"]),
        Image("two:2", tmp_path / "two"),
        Image("two:latest", tmp_path / "two"),
    ]


def names_in(data: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return set(tar.getnames())


def test_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    images = image_folders(tmp_path)
    write(tmp_path / "a.tar", images)
    (tmp_path / "one" / "bin" / "program").touch()
    write(tmp_path / "b.tar", images)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_archive_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", image_folders(tmp_path))
    images = read(tmp_path / "a.tar")
    assert [image.names for image in images] == [
        ["example.com/one:1"],
        ["docker.io/library/two:2", "docker.io/library/two:latest"],
    ]
    assert all(len(image.layers) == 1 for image in images)
    assert len({image.layers[0].digest for image in images}) == 2


def test_layout_holds_what_its_index_and_manifests_name(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    write(archive, image_folders(tmp_path))
    data = layout(archive, read(archive), present=set())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]
    index = json.loads(content["index.json"])
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "example.com/one:1",
        "docker.io/library/two:2",
        "docker.io/library/two:latest",
    ]
    for entry in index["manifests"]:
        manifest = json.loads(content["blobs/sha256/" + entry["digest"].removeprefix("sha256:")])
        for part in (manifest["config"], *manifest["layers"]):
            assert len(content["blobs/sha256/" + part["digest"].removeprefix("sha256:")]) == part["size"]


def test_layers_that_are_there_stay_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    write(archive, image_folders(tmp_path))
    images = read(archive)
    there, lacking = images[0].layers[0].digest, images[1].layers[0].digest
    names = names_in(layout(archive, images, present={there}))
    assert "blobs/sha256/" + there.removeprefix("sha256:") not in names
    assert "blobs/sha256/" + lacking.removeprefix("sha256:") in names
