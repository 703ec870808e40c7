"""The story, chapter by chapter. Each can be told again: what an earlier run left is taken up or cleared away."""

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from demo import ffmpeg, manifests
from demo.terminal import Terminal
from tests.cluster import Cluster, ClusterError, ensure
from tests.cluster.cache import Cache

NAMESPACE = "packhorse-demo"
SYSTEM = "packhorse-system"
_ROOT = Path(__file__).parents[1]
_CHART = _ROOT / "helm" / "packhorse"
_VERSION_TASKS = tuple(f"version-{number}" for number in range(1, 7))  # one for each slot
_FFMPEG = '"$AZ_BATCH_APP_PACKAGE_ffmpeg/bin/ffmpeg"'


def tell(terminal: Terminal, output: Path, kubeconfig: str | None) -> None:
    """Tell all of it.

    Args:
        terminal: Where.
        output: Where the picture goes.
        kubeconfig: Of a cluster of the user's; None for the test cluster.

    Raises:
        ClusterError: A step failed.
    """
    cache = Cache()
    folder = cache.root / "demo"
    folder.mkdir(exist_ok=True)
    with terminal.chapter("A cluster, and Packhorse in it"):
        cluster = ensure(kubeconfig=kubeconfig)
        _prepare(terminal, cluster, folder)
        _install(terminal, cluster)
        _clear(terminal)
    with terminal.chapter("Two versions of an application, uploaded"):
        _upload(terminal, cache, folder)
    with terminal.chapter("A pool of three nodes that have ffmpeg 4.2.2"):
        _make_pool(terminal, cluster, folder)
    with terminal.chapter(f"{manifests.FRAMES} tasks that find it by its variable"):
        _render(terminal, folder, output)
    with terminal.chapter("Another version: nodes get it when they are rebooted"):
        _update(terminal)
    _farewell(terminal, cluster, folder, output)


def _prepare(terminal: Terminal, cluster: Cluster, folder: Path) -> None:
    """Put the programs that the story uses into one folder, so that anybody can type its commands."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, path in (("kubectl", cluster.kubectl), ("helm", cluster.helm)):
        link = programs / f".{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        link.rename(programs / name)
    source = shlex.quote(str(_ROOT / "operator"))
    wrapper = programs / ".packhorse"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {shlex.quote(sys.executable)} -m packhorse.cli "$@"\n')
    wrapper.chmod(0o755)
    wrapper.rename(programs / "packhorse")
    terminal.prepare(folder, programs, cluster.kubeconfig)


def _install(terminal: Terminal, cluster: Cluster) -> None:
    repository, tag = cluster.azurite_image.rsplit(":", 1)
    images = [*cluster.image_values, f"azurite.image.repository={repository}", f"azurite.image.tag={tag}"]
    values = [word for value in images for word in ("--set-string", value)]
    terminal.note("The chart brings the operator, and Azurite as the storage account.")
    terminal.run(
        *("helm", "upgrade", "--install", "packhorse", str(_CHART), "-n", SYSTEM, "--create-namespace"),
        *values,
        *("--wait", "--timeout", "5m"),
        lines=2,
    )
    terminal.run("kubectl", "-n", SYSTEM, "get", "pods")
    terminal.console.print(f"Ready {terminal.seconds:.0f} s after the beginning.")


def _clear(terminal: Terminal) -> None:
    """Make the namespace; clear away the tasks of an earlier run."""
    if not terminal.read("kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"):
        terminal.run("kubectl", "create", "namespace", NAMESPACE)
        return
    if terminal.read("kubectl", "-n", NAMESPACE, "get", "tasks", "-o", "name"):
        terminal.note("The demo ran here before: its tasks go.")
        terminal.run("kubectl", "-n", NAMESPACE, "delete", "tasks", "--all", lines=2)


def _upload(terminal: Terminal, cache: Cache, folder: Path) -> None:
    terminal.note("Two wheels from the Python package index carry a static ffmpeg: 4.2.2 and 7.0.2.")
    template = "{.items[0].status.nodeInfo.architecture}"
    architecture = terminal.read("kubectl", "get", "nodes", "-o", f"jsonpath={template}")
    for version in ffmpeg.VERSIONS:
        package = ffmpeg.package(cache, folder, version, architecture)
        default = ("--set-default",) if version == ffmpeg.VERSIONS[0] else ()
        path = str(package.relative_to(folder))
        terminal.run("packhorse", "-n", NAMESPACE, "package", "upload", "ffmpeg", version, path, *default)
    terminal.run("packhorse", "-n", NAMESPACE, "app", "list")


def _make_pool(terminal: Terminal, cluster: Cluster, folder: Path) -> None:
    text = manifests.pool(cluster.task_image)
    (folder / "pool.yaml").write_text(text)
    terminal.show(text, "yaml")
    terminal.run("kubectl", "-n", NAMESPACE, "apply", "-f", "pool.yaml")
    _wait_for_operator(terminal)
    if old := [node["name"] for node in _nodes(terminal) if node.get("packages") and not node.get("upToDate")]:
        terminal.note("These nodes still have what an earlier run of the demo left on them.")
        terminal.run("kubectl", "-n", NAMESPACE, "delete", "pod", "--ignore-not-found", *old)
    _wait_pool(terminal, "outdatedNodes", 0)
    _wait_pool(terminal, "idleNodes", 3)
    terminal.run("packhorse", "-n", NAMESPACE, "pool", "show", "render")


def _render(terminal: Terminal, folder: Path, output: Path) -> None:
    text = manifests.tasks()
    (folder / "tasks.yaml").write_text(text)
    terminal.show(text, "yaml", lines=14)
    terminal.run("kubectl", "-n", NAMESPACE, "apply", "-f", "tasks.yaml", lines=3)
    terminal.run("packhorse", "-n", NAMESPACE, "task", "wait", "--job", "mandelbrot")
    terminal.run("packhorse", "-n", NAMESPACE, "task", "cp", f"{manifests.FRAME_NAMES[6]}:frame.png", str(output))
    terminal.note("What ran where:")
    terminal.console.print(_table(_tasks(terminal, manifests.FRAME_NAMES)))
    terminal.run("packhorse", "-n", NAMESPACE, "task", "logs", "--stderr", manifests.FRAME_NAMES[6], lines=6)


def _update(terminal: Terminal) -> None:
    patch = {"spec": {"applicationPackageReferences": [{"applicationId": "ffmpeg", "version": ffmpeg.VERSIONS[1]}]}}
    patched = json.dumps(patch, separators=(",", ":"))
    terminal.run("kubectl", "-n", NAMESPACE, "patch", "pool", "render", "--type=merge", "-p", patched)
    _wait_pool(terminal, "outdatedNodes", 3)
    terminal.note("As in Batch, nodes keep what they have: three are not up to date, and none is disturbed.")
    terminal.run("packhorse", "-n", NAMESPACE, "pool", "show", "render")
    terminal.note("A reboot brings one of them up to date.")
    terminal.run("kubectl", "-n", NAMESPACE, "delete", "pod", "render-1")
    _wait_pool(terminal, "outdatedNodes", 2)
    _wait_pool(terminal, "idleNodes", 3)
    terminal.run("packhorse", "-n", NAMESPACE, "pool", "show", "render")
    terminal.note("A task for each slot: the same command line, and each node's own version.")
    for name in _VERSION_TASKS:
        terminal.run(
            *("packhorse", "-n", NAMESPACE, "task", "submit", "--pool", "render", "--job", "versions", "--name", name),
            *("--", f"{_FFMPEG} -version | head -n 1; sleep 2"),
        )
    terminal.run("packhorse", "-n", NAMESPACE, "task", "wait", "--job", "versions")
    _prove(terminal)


def _prove(terminal: Terminal) -> None:
    """Show what the tasks printed, of one on each version.

    Raises:
        ClusterError: They did not all run the version that their node has.
    """
    by_version: dict[str, str] = {}
    for task in _tasks(terminal, _VERSION_TASKS):
        expected = ffmpeg.VERSIONS[1] if task["status"]["nodeName"] == "render-1" else ffmpeg.VERSIONS[0]
        printed = task["status"]["output"]["stdout"]
        if not printed.startswith(f"ffmpeg version {expected}"):
            name = task["metadata"]["name"]
            raise ClusterError(f"{name} ran on {task['status']['nodeName']}, and printed: {printed.strip()}")
        by_version.setdefault(expected, task["metadata"]["name"])
    for version in ffmpeg.VERSIONS:
        if version not in by_version:
            raise ClusterError(f"No task came to a node with ffmpeg {version}.")
        terminal.run("packhorse", "-n", NAMESPACE, "task", "logs", by_version[version])


def _farewell(terminal: Terminal, cluster: Cluster, folder: Path, output: Path) -> None:
    terminal.console.print()
    terminal.console.rule("[bold]What to try next[/bold]", align="left", style="dim")
    text = f"""\
The picture:      {output}
These commands:   export KUBECONFIG={cluster.kubeconfig} PATH={folder / "bin"}:$PATH; cd {folder}

More nodes:       kubectl -n {NAMESPACE} scale pool render --replicas=5
The other nodes:  kubectl -n {NAMESPACE} delete pod render-0 render-2
A task's own:     packhorse -n {NAMESPACE} task submit --pool render --package ffmpeg#4.2.2 --wait -- \\
                    '"$AZ_BATCH_APP_PACKAGE_ffmpeg_4_2_2/bin/ffmpeg" -version'
A bad package:    packhorse -n {NAMESPACE} package upload ffmpeg 9 pool.yaml
What there is:    kubectl -n {NAMESPACE} get packhorse

"""
    if cluster.own:
        text += "To remove all:    make cluster-down"
    else:
        text += f"To remove all:    kubectl delete namespace {NAMESPACE}; helm -n {SYSTEM} uninstall packhorse"
    terminal.console.print(text, markup=False, soft_wrap=True)
    terminal.console.print(f"\nAll of it took {terminal.seconds:.0f} s.")


def _wait_for_operator(terminal: Terminal) -> None:
    """Wait until the pool's status is about the pool as it is now."""
    template = "{.metadata.generation}"
    generation = terminal.read("kubectl", "-n", NAMESPACE, "get", "pool", "render", "-o", f"jsonpath={template}")
    terminal.read(
        *("kubectl", "-n", NAMESPACE, "wait", "pool/render", "--timeout=2m"),
        f"--for=jsonpath={{.status.observedGeneration}}={generation}",
    )


def _wait_pool(terminal: Terminal, field: str, value: int) -> None:
    terminal.run(
        *("kubectl", "-n", NAMESPACE, "wait", "pool/render", f"--for=jsonpath={{.status.{field}}}={value}"),
        "--timeout=5m",
    )


def _nodes(terminal: Terminal) -> list[dict[str, Any]]:
    pool = json.loads(terminal.read("kubectl", "-n", NAMESPACE, "get", "pool", "render", "-o", "json"))
    nodes: list[dict[str, Any]] = pool["status"].get("nodes", [])
    return nodes


def _tasks(terminal: Terminal, names: Sequence[str]) -> list[dict[str, Any]]:
    listed = json.loads(terminal.read("kubectl", "-n", NAMESPACE, "get", "tasks", *names, "-o", "json"))
    items: list[dict[str, Any]] = listed["items"]
    return items


def _table(tasks: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("TASK", "NODE", "EXIT", "SECONDS"):
        table.add_column(heading, justify="left" if heading in {"TASK", "NODE"} else "right")
    for task in tasks:
        execution = task["status"]["executionInfo"]
        took = datetime.fromisoformat(execution["endTime"]) - datetime.fromisoformat(execution["startTime"])
        table.add_row(
            task["metadata"]["name"],
            task["status"]["nodeName"],
            str(execution["exitCode"]),
            f"{took.total_seconds():.1f}",
        )
    return table
