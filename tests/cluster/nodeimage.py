"""The image of a kind node: kind's own where a registry answers, else built here, once.

Built here means: every binary from the Go module proxy, the file system from Debian's packages, and the image by
`kind build node-image` itself. Of kind's own parts only the network daemon is replaced (see `files/kindnetd`).
"""

import os
import shutil
from pathlib import Path

from tests.cluster import apt, debootstrap, dockerarchive, golang, nodebase, registry, systemimages
from tests.cluster.cache import Cache, content_key, remove
from tests.cluster.command import ClusterError, run
from tests.cluster.engine import Engine
from tests.cluster.progress import say

COMPONENTS = (
    golang.KIND, golang.KUBERNETES, golang.ETCD, golang.COREDNS, golang.CONTAINERD, golang.RUNC, golang.CNI_PLUGINS,
    golang.CRI_TOOLS, golang.LOCAL_PATH,
)  # fmt: skip
_HERE = Path(__file__).parent
# What decides the image's contents; a change elsewhere does not make it anew.
_RECIPE = [
    Path(nodebase.__file__), Path(systemimages.__file__), Path(dockerarchive.__file__), Path(debootstrap.__file__),
    _HERE / "files" / "kindnetd", _HERE / "files" / "pause.c",
]  # fmt: skip
_BUILD_PACKAGES: dict[str, str | Path] = {
    "gcc": "gcc",
    "libc6-dev": Path("/usr/include/stdlib.h"),
    "libseccomp-dev": Path("/usr/include/seccomp.h"),
    "pkg-config": "pkg-config",
}
# What kind v0.33.0 was released with for this minor version of Kubernetes.
PUBLISHED = "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d"


def key() -> str:
    """The key of the image that is built here: its recipe and all of its binaries."""
    return content_key([*_RECIPE, *(component.key for component in COMPONENTS)])


def ensure(cache: Cache, engine: Engine) -> str:
    """The name of a node image that the engine has, fetched or built if need be.

    Raises:
        ClusterError: It can be neither pulled nor built.
    """
    version, recipe = golang.KUBERNETES.version, key()
    name = f"packhorse/node:{version}-{recipe}"
    if engine.has_image(name):
        return name
    archive = cache.root / "images" / f"node-{version}-{recipe}.tar.gz"
    # The published image's systemd refuses version 1 of control groups; the one built here does not.
    if not archive.exists() and not engine.cgroup_v1 and registry.pull(engine, PUBLISHED):
        return PUBLISHED
    with cache.lock("node-image"):
        if not archive.exists():
            _build(cache, engine, name, archive)
        if not engine.has_image(name):
            registry.load(engine, archive)
    return name


def _build(cache: Cache, engine: Engine, name: str, archive: Path) -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            f"{PUBLISHED} cannot be pulled here, and building a node image takes root. Run this as root, or name a "
            "cluster of your own by --kubeconfig."
        )
    if engine.has_image(name):
        registry.save(cache, engine, [name], archive)
        return
    waiting = sum(part.seconds for part in COMPONENTS if not golang.built(cache, part).exists())
    say(f"Building a kind node image. That is done once, and takes about {(waiting + 150) // 60} minutes now.")
    apt.install(cache, _BUILD_PACKAGES, "Building a node image")
    for component in COMPONENTS:
        golang.build(cache, component)
    work = cache.root / "work" / "node-image"
    remove(work)
    work.mkdir(parents=True)
    say("Making its file system from Debian's packages (about 60 s).")
    debian_root = work / "debian"
    debootstrap.make(cache, debian_root, nodebase.PACKAGES)
    say("Making its base image (about 20 s).")
    base = f"packhorse/node-base:{archive.name.split('.tar')[0].removeprefix('node-')}"
    nodebase.make(cache, engine, work, debian_root, base)
    say("Making the images of Kubernetes (about 20 s).")
    release = systemimages.release(cache, work, debian_root)
    say("Building the node image of these (about 60 s).")
    run(
        [golang.build(cache, golang.KIND) / "kind", "build", "node-image", "--type", "file", release,
         "--base-image", base, "--image", name],
        env=engine.env, log=cache.log("kind-build-node-image"),
    )  # fmt: skip
    say("Keeping it as an archive (about 30 s).")
    registry.save(cache, engine, [name], archive)
    engine.docker("image", "rm", base)
    shutil.rmtree(work)
