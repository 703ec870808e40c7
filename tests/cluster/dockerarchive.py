"""Images without a Docker engine: a file system in a folder becomes a docker-archive, the same bytes every time."""

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclasses.dataclass(frozen=True)
class Image:
    """An image of one layer.

    Attributes:
        name: Repository and tag.
        root: The folder that becomes its file system.
        entrypoint: What it runs, if anything.
    """

    name: str
    root: Path
    entrypoint: Sequence[str] = ()


def architecture() -> str:
    """This machine's processor, as images call it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def layer(root: Path) -> bytes:
    """The folder as an uncompressed layer: everything root's, without times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(root, arcname=".", filter=_plain)
    return buffer.getvalue()


def write(target: Path, images: Sequence[Image]) -> None:
    """Write the images into one docker-archive; images of one folder share its layer.

    "repositories" comes first: kind reads the names of all images from there.
    """
    layers: dict[Path, tuple[str, bytes]] = {}
    configs: dict[str, bytes] = {}
    manifest: dict[str, tuple[str, list[str]]] = {}  # by config: the layer and the names
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        if image.root not in layers:
            data = layer(image.root)
            layers[image.root] = (hashlib.sha256(data).hexdigest(), data)
        digest, _ = layers[image.root]
        config = json.dumps(
            {
                "architecture": architecture(),
                "os": "linux",
                "created": "1970-01-01T00:00:00Z",
                "config": {"Entrypoint": list(image.entrypoint), "Env": [_PATH]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        ).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        configs[name] = config
        manifest.setdefault(name, (digest, []))[1].append(image.name)
        repository, tag = image.name.rsplit(":", 1)
        repositories.setdefault(repository, {})[tag] = digest
    with tarfile.open(target, "w") as tar:
        add(tar, "repositories", json.dumps(repositories).encode())
        for digest, data in layers.values():
            add(tar, f"{digest}/layer.tar", data)
        for name, config in configs.items():
            add(tar, name, config)
        entries = [
            {"Config": name, "RepoTags": names, "Layers": [f"{digest}/layer.tar"]}
            for name, (digest, names) in manifest.items()
        ]
        add(tar, "manifest.json", json.dumps(entries).encode())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file of this content to a tar."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
