"""Mutated packages: each is refused with an ArchiveError, or unpacked to the same files by every way there is."""

import io
import os
import shutil
import stat
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["packhorse.archive"]):
    from packhorse.archive import ArchiveError, Limits, Summary, extract, inspect, verify

from tests.unit.archive.zips import FOLDER, LINK, STORED, Item, build, extra

LIMITS = Limits(files=50, file_size=1 << 18, total_size=1 << 19, ratio=1032, directory_size=1 << 16)
"""Low, so that the fuzzer finds what works, and not what is slow."""

SHARED = Path("/dev/shm")
TURN = Path(tempfile.mkdtemp(dir=SHARED if SHARED.is_dir() else None))


def seeds() -> dict[str, bytes]:
    """Good packages of every kind, to begin with."""
    timestamp = extra(0x5455, struct.pack("<Bl", 1, 1_000_000_001))
    text = b"hello, hello, hello, hello"
    tree = [
        Item(name="bin/", mode=FOLDER | 0o755),
        Item(name="bin/tool", data=b"#!/bin/sh\n" * 9, mode=0o100755),
        Item(name="bin/other", data=text, method=STORED, extra=timestamp, local_extra=timestamp),
        Item(name="lib/x/y/na\u00efve", data=bytes(300)),
    ]
    links = [Item(name="lib64", data=b"lib/x", mode=LINK | 0o777), Item(name="lib/up", data=b"..", mode=LINK | 0o777)]
    plain = Item(name="f", data=text)
    short = struct.pack("<4sLLL", b"PK\7\x08", plain.true_crc(), len(plain.pack()), len(text))
    long = struct.pack("<LQQ", plain.true_crc(), len(plain.pack()), len(text))
    sizes = extra(1, struct.pack("<QQ", len(text), len(plain.pack())))
    return {
        "tree": build(*tree),
        "links": build(*tree, *links),
        "descriptors": build(
            Item(name="f", data=text, descriptor=short),
            Item(name="g", data=text, descriptor=long),
            comment=b"a comment",
        ),
        "zip64": build(Item(name="f", data=text, extra=sizes, local_extra=sizes), zip64=True),
        "many": build(*(Item(name=f"d/{number}", data=bytes([number])) for number in range(20))),
        "empty": build(),
        "large": build(Item(name="large", data=bytes(range(256)) * 700)),
    }


def test_one_input(data: bytes) -> None:
    """Judge and unpack one package by every way, and compare."""
    found = judge(lambda: inspect(io.BytesIO(data), LIMITS))
    unpacked = judge(lambda: inspect(io.BytesIO(data), LIMITS, unpack=True))
    verified = judge(lambda: verify(lambda offset, length: data[offset : offset + length], len(data), LIMITS))
    package, files = TURN / "package.zip", TURN / "files"
    package.write_bytes(data)
    extracted = judge(lambda: extract(package, files, LIMITS, 1))
    try:
        check(unpacked == verified == extracted, f"{unpacked}, {verified}, {extracted}")
        check(unpacked is None or found == unpacked, f"{found}, {unpacked}")
        check(files.exists() == (extracted is not None), "a failure left files, or success none")
        check({path.name for path in TURN.iterdir()} <= {"package.zip", "files"}, "something is outside")
        if extracted is not None:
            compare(data, files, extracted)
    finally:
        shutil.rmtree(files, ignore_errors=True)


def judge(way: Callable[[], Summary]) -> Summary | None:
    """What a way finds; None if it refuses. Any other exception is a finding."""
    try:
        return way()
    except ArchiveError as error:
        str(error).encode()
        return None


def compare(data: bytes, files: Path, summary: Summary) -> None:
    """See that what lies there is safe, and what another reader sees as well."""
    contents, count, size = [], 0, 0
    for path in files.rglob("*"):
        mode = path.lstat().st_mode
        check(stat.S_IMODE(mode) in (0o644, 0o755, 0o777), f"mode {mode:o}")
        if stat.S_ISLNK(mode):
            inside = Path(os.path.normpath(path.resolve()))
            check(inside.is_relative_to(files.resolve()), f"{path} leads to {inside}")
            contents.append(os.readlink(path).encode())  # noqa: PTH115  # Path would tidy it.
        elif stat.S_ISREG(mode):
            contents.append(path.read_bytes())
        else:
            check(stat.S_ISDIR(mode), f"mode {mode:o}")
            continue
        count += 1
        size += len(contents[-1])
    check(Summary(count, size) == summary, f"{count} files of {size} bytes, {summary}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            others = [archive.read(entry) for entry in archive.infolist() if not entry.filename.endswith("/")]
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError):
        # It may be stricter, for example with the version that is said to be needed.
        return
    check(sorted(others) == sorted(contents), "another reader sees other contents")


def check(holds: bool, what: str) -> None:
    """Raise unless something holds."""
    if not holds:
        raise AssertionError(what)


def main() -> None:
    """Fill the first folder that is named, and run."""
    for folder in (Path(word) for word in sys.argv[1:] if not word.startswith("-")):
        if not folder.is_file():
            folder.mkdir(exist_ok=True)
            for name, content in seeds().items():
                (folder / name).write_bytes(content)
        break
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
