"""Runs the benchmark; see ``--help`` for what can be chosen."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.install.account import Account, running_account
from benchmarks.install.contender import CONTENDERS, Order, Result
from benchmarks.install.limits import limits
from benchmarks.install.loads import Load, load
from tests.cluster import apt
from tests.cluster.cache import Cache

OURS = "packhorse"
NODES = 20


def main() -> None:
    """Measure all that was chosen."""
    arguments = parse()
    cache = Cache()
    apt.install(cache, {"curl": "curl", "unzip": "unzip"}, "The benchmark")
    loads = [load(cache, name) for name in arguments.load]
    medium = load(cache, "medium") if arguments.nodes else None
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=cache.root, prefix="benchmark-") as name:
        folder = Path(name)
        with running_account(cache, folder) as account:
            for one in loads:
                ratios[one.name] = compare(account, one, folder, arguments.rounds)
                if arguments.limits and one.name == "blender":
                    limits(cache, one, folder)
            if medium is not None:
                together(account, medium, folder, arguments.nodes)
    for name, ratio in ratios.items():
        print(f"{name}: the better rival takes {ratio:.2f} times as long")
    print(f"ratio={ratios.get('blender', min(ratios.values())):.2f}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.install", description=__doc__)
    parser.add_argument("--load", nargs="+", choices=("blender", "small", "stored"), help="default: all three")
    parser.add_argument("--rounds", type=int, default=5, help="of each contender and load (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=NODES, help="that fetch at once; 0: leave out")
    parser.add_argument(
        "--limits", action="store_true", help="with blender: also measure its steps by the fastest native tools"
    )
    parser.set_defaults(load=["blender", "small", "stored"])
    return parser.parse_args()


def compare(account: Account, one: Load, folder: Path, rounds: int) -> float:
    """Install one package by each contender in turns. Returns the better rival's median over ours."""
    print(f"\n{one}", flush=True)
    url, etag = account.upload(one)
    results: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    served: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds):
        names = list(CONTENDERS)
        # Each comes first, second and third equally often.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with work(folder) as place:
                before = account.cpu()
                results[name].append(start(name, order(account, one, url, etag, place)))
                served[name].append(account.cpu() - before)
    for name in CONTENDERS:
        show(name, results[name], served[name])
    medians = {name: statistics.median(result.seconds for result in results[name]) for name in CONTENDERS}
    return min(median for name, median in medians.items() if name != OURS) / medians[OURS]


def order(account: Account, one: Load, url: str, etag: str, place: Path, *, fetch_only: bool = False) -> Order:
    """What a contender is told."""
    return Order(url, etag, one.path.stat().st_size, one.sha256, str(account.authority), str(place), fetch_only)


@contextmanager
def work(folder: Path) -> Iterator[Path]:
    """An empty folder, on a disk that has nothing else to write.

    Afterwards its files are emptied, and removed only when everything is over: ext4 does not use the inodes of files
    again that were removed within the last seconds, and the next turn would pay for the search.
    """
    os.sync()
    place = Path(tempfile.mkdtemp(dir=folder, prefix="turn-"))
    try:
        yield place
    finally:
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
                os.truncate(path, 0)
        os.sync()


def launch(name: str, wanted: Order) -> "subprocess.Popen[str]":
    """Start a contender, which then waits for the word to go."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.install.contender", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    say(process, json.dumps(asdict(wanted)))
    hear(process)
    return process


def start(name: str, wanted: Order) -> Result:
    """Run a contender to its end."""
    process = launch(name, wanted)
    say(process, "go")
    return finish(process)


def finish(process: "subprocess.Popen[str]") -> Result:
    """Wait for a contender."""
    result = Result(**json.loads(hear(process)))
    process.wait()
    return result


def say(process: "subprocess.Popen[str]", line: str) -> None:
    """Tell a contender something."""
    if process.stdin is not None:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def hear(process: "subprocess.Popen[str]") -> str:
    """Wait for what a contender says. Raises RuntimeError if it ended instead."""
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError(f"a contender failed with exit code {process.wait()}; see above")
    return line


def show(name: str, results: list[Result], served: list[float]) -> None:
    """Print a contender's line."""
    seconds = [result.seconds for result in results]
    fetched = statistics.median(result.fetched for result in results)
    rest = statistics.median(result.seconds - result.fetched for result in results)
    cpu = statistics.median(result.cpu for result in results)
    print(
        f"  {name:12} {statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
        f" | fetched after {fetched:5.2f} s, then {rest:5.2f} s"
        f" | CPU {cpu:5.2f} s, Azurite's {statistics.median(served):5.2f} s"
        f" | {_durable(results)}"
        f" | {max(result.memory for result in results) / 1e6:4.0f} MB",
        flush=True,
    )


def _durable(results: list[Result]) -> str:
    seconds = [result.durable for result in results if result.durable is not None]
    return f"on disk after {statistics.median(seconds):5.2f} s" if seconds else "on disk some time  "


def together(account: Account, one: Load, folder: Path, nodes: int) -> None:
    """Many nodes fetch one package at once."""
    print(f"\n{nodes} nodes fetch one package at once ({one})", flush=True)
    url, etag = account.upload(one)
    for name in (OURS, "curl+unzip"):
        with work(folder) as place:
            requests = account.requests()
            places = [place / str(number) for number in range(nodes)]
            for each in places:
                each.mkdir()
            processes = [launch(name, order(account, one, url, etag, each, fetch_only=True)) for each in places]
            began = time.perf_counter()
            for process in processes:
                say(process, "go")
            results = [finish(process) for process in processes]
            took = time.perf_counter() - began
            print(
                f"  {name:12} all after {took:.2f} s, {account.requests() - requests} requests,"
                f" CPU {sum(result.cpu for result in results):.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
