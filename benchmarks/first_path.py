"""How long the first path takes: ``python -m benchmarks.first_path`` on the test cluster, with nothing else running.

From the creation of a Pool to its first idle node and to its last; from the creation of a Task to ``completed`` as a
watch sees it, one after the other; the same for a Kubernetes Job of one pod with the same command in the same image;
and how many Tasks a second get through when they all come at once.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from packhorse.cli.cluster import POOLS, TASKS, Cluster, Kind
from packhorse.cli.connection import connect
from packhorse.cli.options import Target
from tests.cluster import ensure

NAMESPACE = "packhorse-benchmark"
JOBS = Kind("apis/batch/v1", "jobs", "job")
PATIENCE = 300.0
Json = dict[str, Any]


class Finishes:
    """Notes, in a thread of its own, when each object of a kind is first seen to be done."""

    def __init__(self, cluster: Cluster, kind: Kind, done: Callable[[Json], bool]) -> None:
        self.at: dict[str, float] = {}
        self._condition = threading.Condition()
        self._ready = threading.Event()
        threading.Thread(target=self._follow, args=(cluster, kind, done), daemon=True).start()
        self._ready.wait(PATIENCE)

    def _follow(self, cluster: Cluster, kind: Kind, done: Callable[[Json], bool]) -> None:
        for change in cluster.follow(kind):
            now = time.perf_counter()
            with self._condition:
                for name in change.names:
                    if name in change.objects and name not in self.at and done(change.objects[name]):
                        self.at[name] = now
                self._condition.notify_all()
            self._ready.set()

    def wait(self, names: list[str]) -> None:
        """Wait until all of these are done."""
        with self._condition:
            if not self._condition.wait_for(lambda: all(name in self.at for name in names), PATIENCE):
                raise TimeoutError(
                    f"not done within {PATIENCE:.0f} s: {[name for name in names if name not in self.at]}"
                )


def sequence(cluster: Cluster, kind: Kind, finishes: Finishes, make: Callable[[str], Json], count: int) -> list[float]:
    """Seconds from creation to completion, one object after the other; the first one warms up and does not count."""
    seconds = []
    for number in range(count + 1):
        name = f"one-{number:04}"
        began = time.perf_counter()
        cluster.create(kind, make(name))
        finishes.wait([name])
        seconds.append(finishes.at[name] - began)
    return seconds[1:]


def burst(cluster: Cluster, finishes: Finishes, make: Callable[[str], Json], count: int) -> float:
    """Tasks a second, from the first creation to the last completion, created by 16 connections."""
    names = [f"burst-{number:05}" for number in range(count)]
    began = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: cluster.create(TASKS, make(name)), names))
    finishes.wait(names)
    return count / (max(finishes.at[name] for name in names) - began)


def first_nodes(cluster: Cluster, image: str, nodes: int) -> tuple[float, float]:
    """Seconds from the creation of a pool to its first idle node, and to its last."""
    wanted, reached = [1, nodes], []
    began = time.perf_counter()
    cluster.create(POOLS, pool(image, nodes))
    for change in cluster.follow(POOLS, name="bench", deadline=time.monotonic() + PATIENCE):
        seen = change.objects.get("bench", {}).get("status", {}).get("idleNodes", 0)
        while wanted and seen >= wanted[0]:
            reached.append(time.perf_counter() - began)
            del wanted[0]
        if not wanted:
            return reached[0], reached[1]
    raise TimeoutError("the pool has no idle nodes; see packhorse pool show bench")


def pool(image: str, nodes: int) -> Json:
    """A pool with no packages."""
    spec = {"targetNodes": nodes, "image": image, "taskSlotsPerNode": 4, "nodeStorage": {"size": "1Gi"}}
    return {"apiVersion": "packhorse.dev/v1alpha1", "kind": "Pool", "metadata": {"name": "bench"}, "spec": spec}


def task(name: str) -> Json:
    """A task that does nothing."""
    spec = {"pool": "bench", "commandLine": "exit 0"}
    return {"apiVersion": "packhorse.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec}


def job(image: str, name: str) -> Json:
    """A Job that does nothing."""
    container = {"name": "main", "image": image, "command": ["/bin/sh", "-c", "exit 0"]}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    spec = {"template": {"spec": pod}, "backoffLimit": 0}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def completed(item: Json) -> bool:
    """Whether a Task is completed."""
    return bool(item.get("status", {}).get("state") == "completed")


def succeeded(item: Json) -> bool:
    """Whether a Job is complete."""
    return bool(item.get("status", {}).get("succeeded"))


@contextmanager
def namespace(kubectl: list[str]) -> Iterator[None]:
    """A namespace of our own, gone afterwards."""
    subprocess.run([*kubectl, "delete", "namespace", NAMESPACE, "--ignore-not-found"], check=True, capture_output=True)
    subprocess.run([*kubectl, "create", "namespace", NAMESPACE], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*kubectl, "delete", "namespace", NAMESPACE, "--wait=false"], check=True, capture_output=True)


def milliseconds(seconds: list[float]) -> str:
    """Median, least and most, in words."""
    low, high = min(seconds), max(seconds)
    return (
        f"median {statistics.median(seconds) * 1000:.0f} ms ({low * 1000:.0f} to {high * 1000:.0f}, n={len(seconds)})"
    )


def main() -> int:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_path", description="How long the first path takes."
    )
    parser.add_argument("--tasks", type=int, default=100, help="one after the other (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=10, help="one after the other (default: %(default)s)")
    parser.add_argument("--burst", type=int, default=1000, help="tasks at once (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=3, help="of the pool (default: %(default)s)")
    arguments = parser.parse_args()
    found = ensure()
    kubectl = [str(found.kubectl), "--kubeconfig", str(found.kubeconfig)]
    with namespace(kubectl), connect(Target(NAMESPACE, None, str(found.kubeconfig))) as cluster:
        first, last = first_nodes(cluster, found.task_image, arguments.nodes)
        print(f"pool to its first idle node   {first:.1f} s")
        print(f"pool to its last of {arguments.nodes}          {last:.1f} s")
        finishes = Finishes(cluster, TASKS, completed)
        tasks = sequence(cluster, TASKS, finishes, task, arguments.tasks)
        print(f"task, created to completed    {milliseconds(tasks)}")
        jobs = sequence(
            cluster, JOBS, Finishes(cluster, JOBS, succeeded), lambda name: job(found.task_image, name), arguments.jobs
        )
        print(f"Job, created to complete      {milliseconds(jobs)}")
        print(f"Job / task                    {statistics.median(jobs) / statistics.median(tasks):.1f}")
        print(f"tasks at once                 {burst(cluster, finishes, task, arguments.burst):.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
