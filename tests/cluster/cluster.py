"""The cluster that tests and demo run on: `ensure` gives one with all images, `sync` brings changed sources to it."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tests.cluster import engine as engines
from tests.cluster import images, kind, loading, nodeimage, tools
from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError, CommandError, run
from tests.cluster.engine import Engine
from tests.cluster.progress import say

NAME = "packhorse"
RELEASE, NAMESPACE, DEPLOYMENT = "packhorse", "packhorse-system", "packhorse-operator"
_CHART = images.ROOT / "helm" / "packhorse"
_KIND_CONTEXT = "kind-"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that is ready for use.

    Attributes:
        kubeconfig: The file to reach it by.
        own: Whether it was made here, as kind cluster `name`; nodes of such a cluster may be stopped and started.
        name: The kind cluster's name; empty where it is none that we know.
        engine: The Docker engine that its nodes are containers of; None where it is no kind cluster.
        operator_image: Packhorse's image, as of the sources at the time of `ensure` or `sync`.
        azurite_image: Azurite's image.
        task_image: An image for pools.
        kubectl: The program.
        helm: The program.
    """

    kubeconfig: Path
    own: bool
    name: str
    engine: Engine | None
    operator_image: str
    azurite_image: str
    task_image: str
    kubectl: Path
    helm: Path

    def run_kubectl(self, *args: str | Path, stdin: str | None = None, timeout: float | None = None) -> str:
        """Run kubectl on it and return what it prints."""
        return run([self.kubectl, "--kubeconfig", self.kubeconfig, *args], stdin=stdin, timeout=timeout)

    def run_helm(self, *args: str | Path, timeout: float | None = None) -> str:
        """Run helm on it and return what it prints."""
        return run([self.helm, "--kubeconfig", self.kubeconfig, *args], timeout=timeout)

    def stop_machine(self, node: str) -> None:
        """Turn a machine of this cluster off, at once; only where the cluster is our own."""
        self._machine("kill", node)

    def start_machine(self, node: str) -> None:
        """Turn it on again; one that runs is left as it is."""
        self._machine("start", node)

    def _machine(self, verb: str, node: str) -> None:
        if not self.own or self.engine is None:
            raise RuntimeError(f"machine {node} is not ours to {verb}")
        self.engine.docker(verb, node, timeout=120)

    @property
    def image_values(self) -> list[str]:
        """The chart's values, as `--set` takes them, that make it run the operator's image of this cluster."""
        repository, tag = self.operator_image.rsplit(":", 1)
        return [f"image.repository={repository}", f"image.tag={tag}"]


def choose_kubeconfig(named: str | None, env: Mapping[str, str]) -> tuple[Path | None, str]:
    """Which cluster to use, and what there is to say about it.

    Args:
        named: A path that the user gave for this purpose.
        env: The environment. PACKHORSE_KUBECONFIG counts as given for this purpose; KUBECONFIG does not, since it may
            well point to a cluster that no test should ever touch.

    Returns:
        The path to use, or None for a kind cluster of our own; and a remark, which may be empty.
    """
    if chosen := named or env.get("PACKHORSE_KUBECONFIG"):
        return Path(chosen).expanduser().absolute(), ""
    if other := env.get("KUBECONFIG"):
        return None, (
            f"KUBECONFIG={other} in the environment is not used: a kind cluster of our own is. To use that one: "
            "--kubeconfig PATH, or make ... KUBECONFIG=PATH."
        )
    return None, ""


def ensure(name: str = NAME, kubeconfig: str | None = None) -> Cluster:
    """A cluster that runs and has all images: found, mended or made, or the one of a kubeconfig named for this purpose.

    Args:
        name: The name of the kind cluster of our own.
        kubeconfig: The kubeconfig of a cluster to use instead; by default PACKHORSE_KUBECONFIG, if it is set.

    Raises:
        ClusterError: It cannot be had; the message says what to do.
    """
    cache = Cache()
    path, remark = choose_kubeconfig(kubeconfig, os.environ)
    if remark and Path(os.environ["KUBECONFIG"]).absolute() != kind.kubeconfig_path(cache, name):
        say(remark)
    return _given(cache, path) if path else _own(cache, name)


def sync(name: str = NAME, kubeconfig: str | None = None) -> Cluster:
    """Bring the sources as they are now to the nodes of the cluster, and to its pods where the chart is installed."""
    began = time.monotonic()
    cluster = ensure(name, kubeconfig)
    try:
        cluster.run_helm("status", RELEASE, "--namespace", NAMESPACE, timeout=60)
    except CommandError:
        say(f"{cluster.operator_image} is on the nodes. There is no release {RELEASE} in {NAMESPACE} to upgrade.")
        return cluster
    values = [word for value in cluster.image_values for word in ("--set-string", value)]
    say(f"Upgrading release {RELEASE} to {cluster.operator_image}.")
    cluster.run_helm(
        "upgrade", RELEASE, _CHART, "--namespace", NAMESPACE, "--reset-then-reuse-values", *values, timeout=120
    )
    cluster.run_kubectl(
        "--namespace", NAMESPACE, "rollout", "status", f"deployment/{DEPLOYMENT}", "--timeout=120s", timeout=130
    )
    say(f"The new operator runs, {time.monotonic() - began:.0f} s after the start of this.")
    return cluster


def remove(name: str = NAME) -> None:
    """Remove the kind cluster of our own, and stop the Docker engine if it is ours and holds no other cluster."""
    cache = Cache()
    engine = engines.find(cache)
    ours = engines.OwnEngine(cache)
    if engine is None and ours.used():
        engine = engines.ensure(cache)  # a stopped engine of ours may hold the cluster's remains
    if engine is None:
        say("There is no Docker engine that answers, so no cluster.")
        return
    with cache.lock(f"cluster-{name}"):
        if not kind.KindCluster(cache, engine, name).delete():
            say(f"There is no cluster {name}.")
    if engine.own and not kind.any_cluster(engine):
        ours.stop()


def _own(cache: Cache, name: str) -> Cluster:
    engine = engines.ensure(cache)
    cluster = kind.KindCluster(cache, engine, name)
    if not cluster.healthy():
        with cache.lock(f"cluster-{name}"):
            if not cluster.healthy() and not cluster.mend():
                cluster.create(nodeimage.ensure(cache, engine))
    made = images.ensure(cache, engine)
    loading.load(cache, engine, kind.schedulable(kind.nodes(engine, name)), made.names)
    return Cluster(
        kubeconfig=cluster.kubeconfig,
        own=True,
        name=name,
        engine=engine,
        operator_image=made.operator,
        azurite_image=made.azurite,
        task_image=made.task,
        kubectl=tools.kubectl(cache),
        helm=tools.helm(cache),
    )


def _given(cache: Cache, kubeconfig: Path) -> Cluster:
    """The cluster of a kubeconfig that the user named, as it is; images are brought to it if it is a kind cluster."""
    if not kubeconfig.is_file():
        raise ClusterError(f"There is no kubeconfig {kubeconfig}.")
    kubectl = tools.kubectl(cache)
    base: list[str | Path] = [kubectl, "--kubeconfig", kubeconfig]
    context = run([*base, "config", "current-context"]).strip()
    try:
        listed = json.loads(run([*base, "--request-timeout=15s", "get", "nodes", "--output=json"], timeout=60))
    except CommandError as error:
        raise ClusterError(f"The cluster of {kubeconfig} (context {context}) does not answer.\n{error}") from error
    say(f"Using the cluster of {kubeconfig}, context {context}.")
    name = context.removeprefix(_KIND_CONTEXT) if context.startswith(_KIND_CONTEXT) else ""
    engine = engines.find(cache) if name else None
    nodes = kind.nodes(engine, name) if engine else []
    if engine and {node.name for node in nodes} == {node["metadata"]["name"] for node in listed["items"]}:
        made = images.ensure(cache, engine)
        loading.load(cache, engine, kind.schedulable(nodes), made.names)
    else:
        engine, name = None, ""
        made = images_given(os.environ)
    return Cluster(
        kubeconfig=kubeconfig,
        own=False,
        name=name,
        engine=engine,
        operator_image=made.operator,
        azurite_image=made.azurite,
        task_image=made.task,
        kubectl=kubectl,
        helm=tools.helm(cache),
    )


def images_given(env: Mapping[str, str]) -> images.Images:
    """The images for a cluster that takes none from here: PACKHORSE_IMAGE's, and public ones or what replaces them.

    Raises:
        ClusterError: PACKHORSE_IMAGE is not set.
    """
    if not (operator := env.get("PACKHORSE_IMAGE")):
        raise ClusterError(
            "This is no kind cluster of this machine's Docker engine, so images cannot be brought to it. Build one "
            "(docker build --tag REGISTRY/packhorse:TAG .), push it to where the cluster can pull it from, and set "
            "PACKHORSE_IMAGE=REGISTRY/packhorse:TAG; AZURITE_IMAGE and TASK_IMAGE likewise if it cannot pull "
            f"{images.AZURITE_IMAGE} and {images.TASK_IMAGE}."
        )
    if ":" not in operator.rsplit("/", 1)[-1]:
        raise ClusterError(f"PACKHORSE_IMAGE={operator} has no tag: write it as REPOSITORY:TAG.")
    return images.Images(
        operator, env.get("AZURITE_IMAGE") or images.AZURITE_IMAGE, env.get("TASK_IMAGE") or images.TASK_IMAGE
    )
