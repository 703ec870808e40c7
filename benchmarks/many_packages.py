"""Very many packages: ``python -m benchmarks.many_packages`` on the test cluster, with nothing else running.

By default 200 applications with 40 packages each, applied in one go to one namespace, their blobs there already.
Printed are the time until all are active, how long a single new package of another namespace takes meanwhile and
afterwards, how long listing takes, and the operator's memory before and after.
"""

import argparse
import io
import re
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

from packhorse.cli.cluster import PACKAGES, Cluster
from packhorse.cli.connection import connect
from packhorse.cli.options import Target
from tests.cluster import Cluster as TestCluster
from tests.cluster import ensure
from tests.cluster.storage import embedded_storage

SYSTEM = "packhorse-system"
MANY, FEW = "packhorse-benchmark-many", "packhorse-benchmark-few"
PATIENCE = 1800.0
CONNECTIONS = 16


def content(text: str) -> bytes:
    """A small package."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("version.txt", (2024, 1, 1, 0, 0, 0)), text)
    return file.getvalue()


def package(application: str, version: str) -> dict[str, object]:
    """An ApplicationPackage."""
    metadata = {"name": f"{application}.{version}"}
    spec = {"applicationId": application, "version": version}
    return {"apiVersion": "packhorse.dev/v1alpha1", "kind": "ApplicationPackage", "metadata": metadata, "spec": spec}


class Active:
    """Counts, in a thread of its own, the packages of a namespace that are active."""

    def __init__(self, cluster: Cluster) -> None:
        self._names: set[str] = set()
        self._condition = threading.Condition()
        self._ready = threading.Event()
        threading.Thread(target=self._follow, args=(cluster,), daemon=True).start()
        self._ready.wait(PATIENCE)

    def _follow(self, cluster: Cluster) -> None:
        for change in cluster.follow(PACKAGES):
            with self._condition:
                for name in change.names:
                    if change.objects.get(name, {}).get("status", {}).get("state") == "Active":
                        self._names.add(name)
                self._condition.notify_all()
            self._ready.set()

    def wait(self, count: int) -> None:
        """Wait until so many were active."""
        with self._condition:
            if not self._condition.wait_for(lambda: len(self._names) >= count, PATIENCE):
                raise TimeoutError(f"{len(self._names)} of {count} packages are active after {PATIENCE:.0f} s")


def one_more(cluster: Cluster, active: Active, container: object, number: int) -> float:
    """Seconds from the creation of one package in the other namespace until it is active."""
    application = f"probe-{number:04}"  # one each: an application has its quota
    container.upload_blob(f"{FEW}/{application}.1.zip", content(application), overwrite=True)  # type: ignore[attr-defined]
    began = time.perf_counter()
    cluster.create(PACKAGES, package(application, "1"))
    active.wait(number + 1)
    return time.perf_counter() - began


def operator_memory(cluster: TestCluster) -> str:
    """Resident memory of the operator's process."""
    text = cluster.run_kubectl("-n", SYSTEM, "exec", "deploy/packhorse-operator", "--", "cat", "/proc/1/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return f"{int(found[1]) / 1024:.0f} MiB" if found else "unknown"


def listing(cluster: TestCluster) -> float:
    """Seconds that ``kubectl get`` of all packages takes."""
    began = time.perf_counter()
    cluster.run_kubectl("-n", MANY, "get", "applicationpackages")
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--applications", type=int, default=200)
    parser.add_argument("--packages", type=int, default=40, help="of each application")
    arguments = parser.parse_args()
    names = [
        (f"app-{application:03}", f"1.{version}")
        for application in range(arguments.applications)
        for version in range(arguments.packages)
    ]
    test_cluster = ensure()
    delete = ("delete", "namespace", MANY, FEW, "--ignore-not-found")
    test_cluster.run_kubectl(*delete, timeout=PATIENCE)  # of a run that was interrupted
    try:
        for namespace in (MANY, FEW):
            test_cluster.run_kubectl("create", "namespace", namespace)
        measure(test_cluster, names)
    finally:
        began = time.perf_counter()
        test_cluster.run_kubectl(*delete, timeout=PATIENCE)
        print(f"both namespaces deleted, with all blobs, in {time.perf_counter() - began:.0f} s")


def measure(test_cluster: TestCluster, names: list[tuple[str, str]]) -> None:
    """Print what it takes."""
    kubeconfig = str(test_cluster.kubeconfig)
    with (
        embedded_storage(test_cluster, SYSTEM, connections=CONNECTIONS) as container,
        connect(Target(MANY, None, kubeconfig)) as many,
        connect(Target(FEW, None, kubeconfig)) as few,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        print(f"operator's memory before: {operator_memory(test_cluster)}")
        few_active, many_active = Active(few), Active(many)

        def write(name: tuple[str, str]) -> None:
            container.upload_blob(f"{MANY}/{'.'.join(name)}.zip", content(str(name)), overwrite=True)

        list(pool.map(write, names))
        print(f"one package, nothing else to do: {one_more(few, few_active, container, 0):.2f} s")
        began = time.perf_counter()
        created = pool.submit(lambda: list(pool.map(lambda name: many.create(PACKAGES, package(*name)), names)))
        probes: list[float] = []
        done = threading.Event()

        def probe() -> None:
            while not done.wait(2.0):
                probes.append(one_more(few, few_active, container, len(probes) + 1))

        prober = threading.Thread(target=probe)
        prober.start()
        created.result()
        print(f"{len(names)} packages created in {time.perf_counter() - began:.0f} s")
        try:
            many_active.wait(len(names))
        finally:
            done.set()
            prober.join()
        took = time.perf_counter() - began
        print(f"all of them active after {took:.0f} s ({len(names) / took:.0f} a second)")
        print(
            f"one package of another namespace meanwhile: median {statistics.median(probes):.2f} s,"
            f" longest {max(probes):.2f} s (n={len(probes)})"
        )
        print(f"kubectl get of all packages: {min(listing(test_cluster) for _ in range(3)):.2f} s")
        print(f"operator's memory after: {operator_memory(test_cluster)}")
        print(f"one package, nothing else to do: {one_more(few, few_active, container, len(probes) + 1):.2f} s")


if __name__ == "__main__":
    try:
        main()
    except (TimeoutError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
