"""One installation by one contender, in a process of its own: it prints what it measured as JSON.

``python -m benchmarks.install.contender NAME``, with its order as a line of JSON on standard input, and another line
when it shall go.
"""

import json
import logging
import os
import re
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Order:
    """What to install.

    Attributes:
        url: With a signature.
        etag: Of the blob.
        size: Of the blob, in bytes.
        sha256: Of the blob.
        authority: File with the certificate of who signed the account's.
        folder: An empty folder to work in.
        fetch_only: Whether to leave out unpacking.
    """

    url: str
    etag: str
    size: int
    sha256: str
    authority: str
    folder: str
    fetch_only: bool = False


@dataclass(frozen=True)
class Result:
    """What it took.

    Attributes:
        seconds: From the first request until the files can be used.
        fetched: Seconds until all bytes of the ZIP file had come.
        cpu: Seconds of CPU time, without Azurite's.
        memory: Largest resident set of any one process of it, in bytes; this process's own 15 MB at least.
        durable: Seconds until the files survive a power failure; None where nobody cares.
    """

    seconds: float
    fetched: float
    cpu: float
    memory: int
    durable: float | None = None


def packhorse(order: Order) -> Callable[[], tuple[float, float, float | None]]:
    """What a node does, all of it."""
    from packhorse.archive import Limits  # noqa: PLC0415  # Each loads its own.
    from packhorse.node.download import fetch  # noqa: PLC0415  # Each loads its own.
    from packhorse.node.durability import wait_until_settled  # noqa: PLC0415  # Each loads its own.
    from packhorse.node.install import install  # noqa: PLC0415  # Each loads its own.
    from packhorse.protocol import Download, Package  # noqa: PLC0415  # Each loads its own.

    os.environ["SSL_CERT_FILE"] = order.authority
    package = Package("bench", "1", order.sha256, order.size)
    download = Download(order.url, order.etag, order.size)
    fetched: list[float] = []

    class Times(logging.Handler):
        """Hears what the installation says of itself."""

        def emit(self, record: logging.LogRecord) -> None:
            if isinstance(record.args, tuple) and str(record.msg).startswith("Installed"):
                fetched.append(float(str(record.args[2])))

    logger = logging.getLogger("packhorse.node.install")
    logger.setLevel(logging.INFO)
    logger.addHandler(Times())

    def run() -> tuple[float, float, float | None]:
        deadline = time.monotonic() + 600
        began = time.perf_counter()
        if order.fetch_only:
            fetch(download, Path(order.folder, "package.zip"), sha256=order.sha256, deadline=deadline)
            seconds = time.perf_counter() - began
            return seconds, seconds, None
        install(package, Path(order.folder), lambda _: download, limits=Limits(), deadline=deadline)
        seconds = time.perf_counter() - began
        wait_until_settled()
        return fetched[0], seconds, time.perf_counter() - began

    return run


def curl(order: Order) -> Callable[[], tuple[float, float, float | None]]:
    """``curl`` and ``unzip``, as in most start-up scripts."""
    target = str(Path(order.folder, "package.zip"))

    def run() -> tuple[float, float, float | None]:
        began = time.perf_counter()
        subprocess.run(
            ["curl", "--fail", "--silent", "--show-error", "--cacert", order.authority, "--output", target, order.url],
            check=True,
        )
        fetched = time.perf_counter() - began
        if not order.fetch_only:
            subprocess.run(["unzip", "-q", target, "-d", str(Path(order.folder, "files"))], check=True)
        return fetched, time.perf_counter() - began, None

    return run


def sdk(order: Order) -> Callable[[], tuple[float, float, float | None]]:
    """Azure's storage SDK with four connections, and the standard library's ``zipfile``."""
    from azure.storage.blob import BlobClient  # noqa: PLC0415  # Each loads its own.

    target = Path(order.folder, "package.zip")
    client = BlobClient.from_blob_url(order.url, connection_verify=order.authority)

    def run() -> tuple[float, float, float | None]:
        began = time.perf_counter()
        with target.open("wb") as file:
            client.download_blob(max_concurrency=4).readinto(file)
        fetched = time.perf_counter() - began
        with zipfile.ZipFile(target) as archive:
            archive.extractall(Path(order.folder, "files"))
        return fetched, time.perf_counter() - began, None

    return run


CONTENDERS = {"packhorse": packhorse, "curl+unzip": curl, "sdk+zipfile": sdk}


def measure(name: str, order: Order) -> Result:
    """Run a contender. It is loaded first, and then waits for the word to go: what it loads does not count."""
    run = CONTENDERS[name](order)
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = _cpu()
    fetched, seconds, durable = run()
    return Result(seconds, fetched, _cpu() - cpu, _memory(), durable)


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _memory() -> int:
    # Not this process's own by getrusage: that counts what the benchmark itself had when it started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return max(int(found[1]) if found else 0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], Order(**json.loads(sys.stdin.readline()))))))
