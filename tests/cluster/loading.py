"""Bringing images from the Docker engine to the nodes of a kind cluster: only what a node lacks is sent to it.

`kind load` sends whole images to every node. Here an image is sent as an OCI layout from which the layers are left out
that the node's containerd holds already, so a change in the topmost layer travels in a second.
"""

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.cache import Cache, remove
from tests.cluster.command import ClusterError, environment
from tests.cluster.dockerarchive import add, architecture
from tests.cluster.engine import Engine
from tests.cluster.kind import Node, wait_answering
from tests.cluster.progress import say
from tests.cluster.registry import registry_of

_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class Blob:
    """A part of an image: where it lies in a docker-archive, and how an OCI manifest speaks of it."""

    member: str
    descriptor: Mapping[str, str | int]

    @property
    def digest(self) -> str:
        """Its digest, as sha256:..."""
        return str(self.descriptor["digest"])


@dataclasses.dataclass(frozen=True)
class SavedImage:
    """An image in a docker-archive."""

    names: Sequence[str]
    config: Blob
    layers: Sequence[Blob]

    @property
    def manifest(self) -> bytes:
        """Its OCI manifest."""
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.config.descriptor,
            "layers": [layer.descriptor for layer in self.layers],
        }
        return json.dumps(document).encode()


def full_name(name: str) -> str:
    """An image's name with nothing left out, as containerd has it."""
    if registry_of(name):
        return name
    return f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"


def load(cache: Cache, engine: Engine, nodes: Sequence[Node], names: Sequence[str]) -> None:
    """Bring those of the images to each node that it has not got.

    Raises:
        ClusterError: A node does not take them.
    """
    identities = dict(zip(names, engine.docker("image", "inspect", "--format", "{{.Id}}", *names).split(), strict=True))
    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
        present = dict(zip(nodes, pool.map(lambda node: _images(engine, node), nodes), strict=True))
        lacking = [
            name for name in names if any(present[node].get(full_name(name)) != identities[name] for node in nodes)
        ]
        if not lacking:
            return
        say(f"Bringing {', '.join(lacking)} to {len(nodes)} nodes.")
        with cache.lock("loading"):
            archive = cache.root / "work" / "loading.tar"
            archive.parent.mkdir(exist_ok=True)
            engine.docker("save", "--output", archive, *lacking, timeout=600)
            try:
                images = read(archive)
                list(pool.map(lambda node: _send(engine, node, archive, images), nodes))
            finally:
                remove(archive)


def read(archive: Path) -> list[SavedImage]:
    """The images in an archive that `docker save` wrote."""
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar.getmembers()}

        def data(name: str, length: int = -1) -> bytes:
            file = tar.extractfile(members[name])
            assert file is not None, f"{name} is no file"
            return file.read(length)

        def layer(name: str, diff_id: str) -> Blob:
            member = members[name]
            while member.issym():  # Docker writes a layer that images share once
                name = str((Path(name).parent / member.linkname).as_posix())
                name = re.sub(r"[^/]+/\.\./", "", name)
                member = members[name]
            packed = data(name, 2) == _GZIP
            digest = f"sha256:{Path(name).name}" if name.startswith("blobs/sha256/") else diff_id
            kind = f"application/vnd.oci.image.layer.v1.tar{'+gzip' if packed else ''}"
            return Blob(name, {"mediaType": kind, "digest": digest, "size": member.size})

        images = []
        entries: list[dict[str, Any]] = json.loads(data("manifest.json"))
        for entry in entries:
            text = data(entry["Config"])
            config = Blob(
                entry["Config"],
                {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": f"sha256:{hashlib.sha256(text).hexdigest()}",
                    "size": len(text),
                },
            )
            layers = [
                layer(name, diff_id)
                for name, diff_id in zip(entry["Layers"], json.loads(text)["rootfs"]["diff_ids"], strict=True)
            ]
            images.append(SavedImage([full_name(name) for name in entry["RepoTags"]], config, layers))
    return images


def layout(archive: Path, images: Sequence[SavedImage], present: set[str]) -> bytes:
    """The images as a tar of an OCI layout, without the layers whose digests are `present`."""
    buffer = io.BytesIO()
    index = []
    with tarfile.open(archive) as source, tarfile.open(fileobj=buffer, mode="w") as target:
        written = set(present)
        add(target, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        for image in images:
            digest = f"sha256:{hashlib.sha256(image.manifest).hexdigest()}"
            add(target, _path(digest), image.manifest)
            for blob in (image.config, *image.layers):
                if blob is image.config or blob.digest not in written:
                    file = source.extractfile(blob.member)
                    assert file is not None, f"{blob.member} is no file"
                    entry = tarfile.TarInfo(_path(blob.digest))
                    entry.size = int(blob.descriptor["size"])
                    target.addfile(entry, file)
                    written.add(blob.digest)
            index += [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest,
                    "size": len(image.manifest),
                    "platform": {"architecture": architecture(), "os": "linux"},
                    "annotations": {"io.containerd.image.name": name},
                }
                for name in image.names
            ]
        add(target, "index.json", json.dumps({"schemaVersion": 2, "manifests": index}).encode())
    return buffer.getvalue()


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _images(engine: Engine, node: Node) -> dict[str, str]:
    """The images that a node has: identity by full name."""
    if not wait_answering(engine, [node]):
        raise ClusterError(
            f"containerd or kubelet do not answer on node {node.name}: docker logs {node.container[:12]}"
        )
    listed = json.loads(engine.docker("exec", node.container, "crictl", "images", "--output", "json", timeout=60))
    return {name: image["id"] for image in listed["images"] for name in image["repoTags"]}


def _send(engine: Engine, node: Node, archive: Path, images: Sequence[SavedImage]) -> None:
    script = (
        "ctr --namespace k8s.io content list --quiet; "
        "sed -n 's/^ *snapshotter = \"\\(.*\\)\"/snapshotter \\1/p' /etc/containerd/config.toml"
    )
    lines = engine.docker("exec", node.container, "sh", "-c", script, timeout=60).splitlines()
    present = {line for line in lines if line.startswith("sha256:")}
    chosen = [line.split()[1] for line in lines if line.startswith("snapshotter ")]
    done = subprocess.run(
        ["docker", "exec", "--interactive", node.container, "ctr", "--namespace", "k8s.io", "images", "import",
         "--digests", "--snapshotter", chosen[0] if chosen else "overlayfs", "-"],
        input=layout(archive, images, present), env=environment(engine.env), capture_output=True, check=False,
        timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise ClusterError(f"Node {node.name} did not take the images: {done.stderr.decode(errors='replace')[-1000:]}")
