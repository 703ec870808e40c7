"""A kind cluster of our own: made, found again, mended or made anew, and removed."""

import dataclasses
import json
import time
from pathlib import Path

from tests.cluster import tools
from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError, CommandError, run, succeeds
from tests.cluster.engine import Engine, lacks_sys_resource
from tests.cluster.progress import say

WORKERS = 2
_READY_TIMEOUT = 120.0  # seconds for all nodes to be ready, from a cold page cache
_CLUSTER_LABEL = "io.x-k8s.kind.cluster"
_ROLE_LABEL = "io.x-k8s.kind.role"


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of a kind cluster: a container."""

    container: str  # its id
    name: str
    running: bool
    control_plane: bool


def nodes(engine: Engine, name: str) -> list[Node]:
    """The nodes of the cluster `name`, running or not, in the order of their names."""
    form = f'{{{{.ID}}}} {{{{.Names}}}} {{{{.State}}}} {{{{.Label "{_ROLE_LABEL}"}}}}'
    lines = engine.docker(
        "ps", "--all", "--no-trunc", "--filter", f"label={_CLUSTER_LABEL}={name}", "--format", form, timeout=60
    ).splitlines()
    found = [
        Node(container, node, state == "running", role == "control-plane")
        for container, node, state, role in (line.split() for line in lines)
    ]
    return sorted(found, key=lambda node: node.name)


def wait_answering(engine: Engine, found: list[Node]) -> bool:
    """Wait until containerd and the kubelet answer on these nodes; whether they do.

    The API server calls a node ready for some time after it has stopped, so its word is not enough after a start.
    """
    check = "crictl info >/dev/null && curl --silent --fail http://127.0.0.1:10248/healthz"
    deadline = time.monotonic() + _READY_TIMEOUT
    for node in found:
        while not succeeds(["docker", "exec", node.container, "sh", "-c", check], env=engine.env, timeout=30):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
    return True


def schedulable(found: list[Node]) -> list[Node]:
    """Those of a cluster's nodes that ordinary pods run on: its workers, or all if it has none."""
    return [node for node in found if not node.control_plane] or found


def kubeconfig_path(cache: Cache, name: str) -> Path:
    """Where the kubeconfig of our cluster `name` is, or will be."""
    return cache.root / ("kubeconfig" if name == "packhorse" else f"kubeconfig-{name}")


def any_cluster(engine: Engine) -> bool:
    """Whether the engine holds a node of any kind cluster."""
    return bool(engine.docker("ps", "--all", "--quiet", "--filter", f"label={_CLUSTER_LABEL}", timeout=60))


def config(engine: Engine) -> str:
    """The configuration of a cluster on this engine, for `kind create cluster`."""
    lines = ["kind: Cluster", "apiVersion: kind.x-k8s.io/v1alpha4"]
    if engine.cgroup_v1:
        lines += [
            "kubeadmConfigPatches:",
            "- |",
            "  kind: KubeletConfiguration",
            "  apiVersion: kubelet.config.k8s.io/v1beta1",
            "  failCgroupV1: false",
        ]
    if engine.own and lacks_sys_resource(Path("/proc/self/status").read_text()):
        lines += [
            "containerdConfigPatches:",
            "- |",  # no process here may lower another's oom_score_adj
            '  [plugins."io.containerd.grpc.v1.cri"]',
            "    restrict_oom_score_adj = true",
        ]
    lines += ["nodes:", "- role: control-plane", *["- role: worker"] * WORKERS]
    return "\n".join(lines) + "\n"


class KindCluster:
    """The kind cluster of one name, if it is ours.

    A record in the cache tells which clusters we made. No other is ever changed or removed.
    """

    def __init__(self, cache: Cache, engine: Engine, name: str) -> None:
        self.name = name
        self.kubeconfig = kubeconfig_path(cache, name)
        self._cache = cache
        self._engine = engine
        self._record = cache.root / "clusters" / f"{name}.json"

    def healthy(self) -> bool:
        """Whether it is ours and all of its nodes run and are ready."""
        found = nodes(self._engine, self.name)
        whole = len(found) == WORKERS + 1 and all(node.running for node in found)
        return whole and self._ours(found) and self.kubeconfig.exists() and self._ready_nodes() == WORKERS + 1

    def mend(self) -> bool:
        """Bring a damaged one back to health by starting what stopped; whether that was enough."""
        found = nodes(self._engine, self.name)
        if not found:
            return False
        self._refuse_foreign(found)
        if len(found) != WORKERS + 1 or self._state() != "made":
            say(f"Cluster {self.name} is half made: it is made anew.")
            return False
        if stopped := [node.container for node in found if not node.running]:
            say(f"Starting {len(stopped)} stopped node(s) of cluster {self.name}.")
            try:
                self._engine.docker("start", *stopped, timeout=120)
            except CommandError as error:
                say(f"A node does not start: {error}")
                return False
        self._write_kubeconfig()
        if wait_answering(self._engine, found) and self._wait_ready():
            return True
        say(f"Cluster {self.name} does not become ready: it is made anew.")
        return False

    def create(self, image: str) -> None:
        """Make it from a node image, in place of whatever of it is there.

        Raises:
            ClusterError: A cluster of this name is not ours, or the new one does not come up.
        """
        self.delete()
        say(f"Making cluster {self.name}: one control plane and {WORKERS} workers (about half a minute).")
        self._write_record("making")
        try:
            run(
                [tools.kind(self._cache), "create", "cluster", "--name", self.name, "--image", image, "--config", "-",
                 "--kubeconfig", self.kubeconfig, "--wait", "120s"],
                env=self._engine.env, stdin=config(self._engine), timeout=600,
            )  # fmt: skip
        except CommandError as error:
            raise ClusterError(f"kind could not make cluster {self.name}.\n{error}") from error
        self.kubeconfig.chmod(0o600)
        self._write_record("made")
        if not self._wait_ready():
            raise ClusterError(
                f"The nodes of the new cluster {self.name} are not ready after {_READY_TIMEOUT:.0f} s. See: kubectl "
                f"--kubeconfig {self.kubeconfig} describe nodes. A common cause are low limits: sysctl "
                "fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288"
            )

    def delete(self) -> bool:
        """Remove it; whether there was any.

        Raises:
            ClusterError: A cluster of this name is not ours.
        """
        found = nodes(self._engine, self.name)
        if found:
            self._refuse_foreign(found)
            say(f"Removing cluster {self.name}.")
            # --volumes: each node has a volume of gigabytes
            self._engine.docker("rm", "--force", "--volumes", *[node.container for node in found], timeout=120)
        self._record.unlink(missing_ok=True)
        self.kubeconfig.unlink(missing_ok=True)
        return bool(found)

    def _ready_nodes(self) -> int:
        template = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
        try:
            states = run(
                [tools.kubectl(self._cache), "--kubeconfig", self.kubeconfig, "--request-timeout=5s", "get", "nodes",
                 "-o", f"jsonpath={template}"], timeout=10,
            )  # fmt: skip
        except CommandError:
            return 0  # an API server that does not answer has no ready node to show
        return states.split().count("True")

    def _wait_ready(self) -> bool:
        deadline = time.monotonic() + _READY_TIMEOUT
        while self._ready_nodes() != WORKERS + 1:
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        return True

    def _write_kubeconfig(self) -> None:
        run(
            [tools.kind(self._cache), "export", "kubeconfig", "--name", self.name, "--kubeconfig", self.kubeconfig],
            env=self._engine.env, timeout=60,
        )  # fmt: skip
        self.kubeconfig.chmod(0o600)

    def _write_record(self, state: str) -> None:
        ids = [node.container for node in nodes(self._engine, self.name)]
        self._record.parent.mkdir(parents=True, exist_ok=True)
        with self._cache.publish(self._record) as part:
            part.write_text(json.dumps({"state": state, "containers": ids}))

    def _state(self) -> str:
        return str(json.loads(self._record.read_text())["state"]) if self._record.exists() else ""

    def _ours(self, found: list[Node]) -> bool:
        """Whether these nodes are what we made; while they are being made, only the name can tell."""
        if not self._record.exists():
            return False
        record = json.loads(self._record.read_text())
        return record["state"] == "making" or bool(set(record["containers"]) & {node.container for node in found})

    def _refuse_foreign(self, found: list[Node]) -> None:
        if not self._ours(found):
            raise ClusterError(
                f"There is a kind cluster {self.name} that was not made here, so it is left alone. Remove it yourself "
                f"(kind delete cluster --name {self.name}), or choose another name: --name NAME."
            )
