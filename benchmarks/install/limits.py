"""What this machine can do at most: the steps of an installation by the fastest native tools, one processor each."""

import os
import resource
import statistics
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.install.loads import Load
from tests.cluster import apt
from tests.cluster.cache import Cache

ROUNDS = 3
TOOLS: dict[str, str | Path] = {"isal": "igzip", "libdeflate-tools": "libdeflate-gunzip", "openssl": "openssl"}
SAMPLE = 1 << 20
"""Entries from so many bytes on make the sample: the others are too small for a tool's start."""


def limits(cache: Cache, one: Load, folder: Path) -> None:
    """Print bytes per second of inflating, hashing and writing, and what a package takes at that speed.

    Raises:
        ClusterError: A tool is missing and cannot be installed.
    """
    apt.install(cache, TOOLS, "The benchmark")
    sample = folder / "sample.gz"
    unpacked = _write_sample(one.path, sample)
    size = one.path.stat().st_size
    written = folder / "written"
    inflate = {
        tool: unpacked / _seconds([*words, str(sample)])
        for tool, words in {
            "igzip": ["igzip", "-d", "-c"],
            "libdeflate": ["libdeflate-gunzip", "-c"],
            "gzip": ["gzip", "-d", "-c"],
        }.items()
    }
    digest = size / _seconds(["openssl", "dgst", "-sha256", str(one.path)])
    copy = size / _seconds(["dd", f"if={one.path}", f"of={written}", "bs=1M", "status=none"], written.unlink)
    for tool, speed in inflate.items():
        print(f"  inflate, {tool}: {speed / 1e6:.0f} MB/s")
    print(f"  SHA-256, openssl: {digest / 1e6:.0f} MB/s\n  copy to a new file, dd: {copy / 1e6:.0f} MB/s")
    floor = one.unpacked / max(inflate.values()) + size / digest + one.unpacked / copy
    cores = len(os.sched_getaffinity(0))
    print(
        f"  {one.name}: at that speed {floor:.2f} s of one processor, {floor / cores:.2f} s on {cores},"
        " without the transfer",
        flush=True,
    )


def _write_sample(package: Path, sample: Path) -> int:
    """Make a gzip file of a package's large entries, as they are compressed. Returns their bytes unpacked."""
    unpacked = 0
    with zipfile.ZipFile(package) as archive, package.open("rb") as source, sample.open("wb") as target:
        for entry in archive.infolist():
            if entry.file_size < SAMPLE or entry.compress_type != zipfile.ZIP_DEFLATED:
                continue
            source.seek(entry.header_offset + 26)
            source.seek(sum(struct.unpack("<HH", source.read(4))), os.SEEK_CUR)
            target.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
            target.write(source.read(entry.compress_size))
            target.write(struct.pack("<LL", entry.CRC, entry.file_size & 0xFFFFFFFF))
            unpacked += entry.file_size
    return unpacked


def _seconds(command: list[str], afterwards: Callable[[], None] = lambda: None) -> float:
    """CPU seconds of a command, the median of some; what it prints is thrown away."""
    taken = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        afterwards()
    return statistics.median(taken)
