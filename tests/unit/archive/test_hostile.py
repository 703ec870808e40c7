"""What a package may not hold: each case is refused, by name, before a single file is written."""

import io
import struct
from pathlib import Path

import pytest

from packhorse.archive import ArchiveError, Limits, extract, inspect
from tests.unit.archive.zips import (
    DESCRIPTOR,
    FOLDER,
    LINK,
    REGULAR,
    STORED,
    UTF8,
    Item,
    build,
    central_record,
    deflate,
    end64_records,
    end_record,
    extra,
    local_record,
)

GOOD = Item(name="bin/tool", data=b"#!/bin/sh\n" * 20, mode=REGULAR | 0o755)
A_LINK = LINK | 0o777


def link(name: str, target: str | bytes) -> Item:
    return Item(name=name, data=target.encode() if isinstance(target, str) else target, mode=A_LINK)


BAD_NAMES = {
    "absolute": ("/etc/passwd", "absolute"),
    "network share": ("//host/share/file", "absolute"),
    "parent": ("../escape", r"'\.\.'"),
    "parent inside": ("a/../../escape", r"'\.\.'"),
    "parent at the end": ("a/..", r"'\.\.'"),
    "drive": ("C:/Windows/file", "drive letter"),
    "drive, relative": ("c:file", "drive letter"),
    "backslash": ("a\\..\\..\\escape", "backslash"),
    "NUL": ("innocent\0.sh", "NUL"),
    "empty part": ("a//b", "empty part"),
    "dot": ("./a", "empty part or '.'"),
    "two slashes at the end": ("a//", "empty part"),
    "nothing but a slash": ("/", "without a name"),
    "nothing": ("", "without a name"),
    "part of 256 bytes": ("x" * 256, "256 bytes, and no file system"),
    "part of 256 bytes in UTF-8": ("ä" * 128, "256 bytes, and no file system"),
    "path too long": ("/".join(["x" * 200] * 6), "1205 bytes, the limit is 1024"),
    "path too deep": ("/".join("x" * 65), "65 folders deep, the limit is 64"),
}


@pytest.mark.parametrize(("name", "reason"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_names(tmp_path: Path, name: str, reason: str) -> None:
    mode = FOLDER | 0o755 if name.endswith("/") else REGULAR | 0o644
    refuse(tmp_path, build(GOOD, Item(name=name, mode=mode)), reason)


BAD_SETS = {
    "the same name twice": ([Item(name="a", data=b"1"), Item(name="a", data=b"2")], "'a' is there twice"),
    "a folder twice": ([Item(name="a/", mode=FOLDER), Item(name="a/", mode=FOLDER)], "is there twice"),
    "names in two cases": ([Item(name="ReadMe"), Item(name="README")], "'README' is also there as 'ReadMe'"),
    "folders in two cases": ([Item(name="a/x"), Item(name="A/y")], "folder that is also spelled 'a'"),
    "a folder in another case": ([Item(name="a/x"), Item(name="A/", mode=FOLDER)], "is also there as 'a'"),
    "names in two compositions": ([Item(name="\u00e4"), Item(name="a\u0308")], "is also there as"),
    "names that fold alike": ([Item(name="stra\u00dfe"), Item(name="STRASSE")], "is also there as"),
    "a file as a folder": ([Item(name="a"), Item(name="a/b")], "also there as a file, 'a'"),
    "a folder as a file": ([Item(name="a/b"), Item(name="a")], "as a file, and as a folder"),
    "a link as a folder": ([link("a", "b"), Item(name="a/b")], "also there as a symbolic link, 'a'"),
    "a link as a folder, later": ([Item(name="a/b"), link("a", "b")], "as a file, and as a folder"),
}


@pytest.mark.parametrize(("items", "reason"), BAD_SETS.values(), ids=BAD_SETS)
def test_clashes(tmp_path: Path, items: list[Item], reason: str) -> None:
    refuse(tmp_path, build(*items), reason)


BAD_LINKS = {
    "absolute": ([link("a", "/etc/passwd")], "absolute path"),
    "out": ([link("a", "../escape")], "leads out of the package"),
    "out from below": ([link("x/y/a", "../../../escape")], "leads out of the package"),
    "out and in again": ([link("a", "../package/a")], "leads out of the package"),
    "out behind something that is not there": ([link("a", "no/../../escape")], "leads out of the package"),
    "out by way of another link": ([link("x/up", ".."), link("a", "x/up/../escape")], "leads out of the package"),
    "out by way of a later link": ([link("a", "x/up/.."), link("x/up", "..")], "leads out of the package"),
    "round": ([link("a", "b"), link("b", "a")], "circle"),
    "to itself": ([link("a", "a")], "circle"),
    "to a drive": ([link("a", "C:/x")], "absolute path"),
    "with backslashes": ([link("a", "..\\x")], "points to no path"),
    "with a NUL": ([link("a", "x\0y")], "points to no path"),
    "to nothing": ([link("a", "")], "points to no path"),
    "not in UTF-8": ([link("a", b"\xff")], "not valid UTF-8"),
    "too long": ([link("a", "x" * 1025)], "beyond the limit"),
    "too many steps": ([link("a", "x/../" * 65)], "beyond the limit"),
}


@pytest.mark.parametrize(("items", "reason"), BAD_LINKS.values(), ids=BAD_LINKS)
def test_links(tmp_path: Path, items: list[Item], reason: str) -> None:
    refuse(tmp_path, build(GOOD, *items), reason)


BAD_KINDS = {
    "character device": (Item(name="a", mode=0o020666), "device"),
    "block device": (Item(name="a", mode=0o060666), "device"),
    "FIFO": (Item(name="a", mode=0o010666), "FIFO"),
    "socket": (Item(name="a", mode=0o140666), "socket"),
    "device that claims to be from DOS": (Item(name="a", mode=0o020666, host=0), "device"),
    "hard link": (Item(name="a", extra=extra(0x000D, bytes(12) + b"/etc/passwd")), "hard link"),
    "hard link, another form": (Item(name="a", extra=extra(0x756E, bytes(14) + b"/etc/passwd")), "hard link"),
    "folder with data": (Item(name="a/", mode=FOLDER, data=b"x"), "folder with data"),
    "folder by mode alone": (Item(name="a", mode=FOLDER | 0o755), "by its name or by its mode"),
    "folder by name alone": (Item(name="a/", mode=REGULAR | 0o644), "by its name or by its mode"),
    "folder by attributes alone": (Item(name="a", mode=0, dos_attributes=0x10), "folder by its attributes"),
    "encrypted": (Item(name="a", flags=0x0001), "encrypted"),
    "strongly encrypted": (Item(name="a", flags=0x0040), "encrypted"),
    "directory encrypted": (Item(name="a", flags=0x2000), "encrypted"),
    "patch": (Item(name="a", flags=0x0020), "patch"),
    "Deflate64": (Item(name="a", method=9), "Deflate64"),
    "Zstandard": (Item(name="a", method=93), "Zstandard"),
    "unheard-of method": (Item(name="a", method=77), "method 77"),
    "another disk": (Item(name="a", disk=1), "one part of several"),
    "name that is no UTF-8": (Item(name=b"\xff\xfe", flags=UTF8), "not valid UTF-8"),
    "broken extra field": (Item(name="a", extra=b"\1\0\xff\xff"), "damaged extra field"),
    "two ZIP64 fields": (Item(name="a", extra=extra(1, bytes(8)) * 2), "two extra fields"),
    "empty ZIP64 field": (Item(name="a", size=0xFFFFFFFF, extra=extra(1, b"")), "damaged ZIP64"),
}


@pytest.mark.parametrize(("item", "reason"), BAD_KINDS.values(), ids=BAD_KINDS)
def test_kinds(tmp_path: Path, item: Item, reason: str) -> None:
    refuse(tmp_path, build(GOOD, item), reason)


def descriptor(data: bytes, *, size: int | None = None) -> bytes:
    true = Item(name="x", data=data)
    return struct.pack("<4sLLL", b"PK\7\x08", true.true_crc(), len(deflate(data)), len(data) if size is None else size)


HELLO = b"hello, hello, hello, hello"
BAD_HEADERS = {
    "another name": (Item(name="a", local_name=b"b"), "another name"),
    "another name, longer": (Item(name="a", local_name=b"../../../a"), "another name"),
    "another name, Unicode": (
        Item(name="a", local_extra=extra(0x7075, b"\1" + struct.pack("<L", 0xE8B7BE43) + b"../b")),
        "another name",
    ),
    "another method": (Item(name="a", data=b"x", local_method=STORED), "other properties"),
    "other flags": (Item(name="a", local_flags=0x0001), "other properties"),
    "descriptor in the file alone": (Item(name="a", local_flags=DESCRIPTOR), "other properties"),
    "another size": (Item(name="a", data=HELLO, local_size=5), "another size or checksum"),
    "another checksum": (Item(name="a", data=HELLO, local_crc=5), "another size or checksum"),
    "another size behind": (Item(name="a", data=HELLO, descriptor=descriptor(HELLO, size=1)), "after its data"),
    "no descriptor": (Item(name="a", data=HELLO, descriptor=b""), "bytes that belong to no entry"),
    "something else behind": (Item(name="a", data=HELLO, descriptor=b"surprise"), "bytes that belong to no entry"),
    "bytes between": (Item(name="a", before=local_record(Item(name="hidden"))), "after bytes that belong to no entry"),
    "no header": (Item(name="a", offset=5, method=STORED), "overlaps another entry"),
}


@pytest.mark.parametrize(("item", "reason"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_headers(tmp_path: Path, item: Item, reason: str) -> None:
    refuse(tmp_path, build(GOOD, item, GOOD_TOO), reason)


GOOD_TOO = Item(name="z", data=b"zzz")


def test_two_entries_for_the_same_bytes(tmp_path: Path) -> None:
    """The trick of the best-known bombs: many entries, one kernel."""
    body = local_record(GOOD)
    directory = central_record(GOOD, 0) + central_record(Item(name="bin/tooL2", data=GOOD.data), 0)
    refuse(tmp_path, body + directory + end_record(2, len(directory), len(body)), "overlaps another entry")


def test_an_entry_quoted_inside_another(tmp_path: Path) -> None:
    inner = local_record(Item(name="inner", data=b"x", method=STORED))
    outer = Item(name="outer", data=inner + b"rest", method=STORED)
    directory = central_record(outer, 0) + central_record(
        Item(name="inner", data=b"x", method=STORED), len(local_record(outer)) - len(inner) - 4
    )
    body = local_record(outer)
    refuse(tmp_path, body + directory + end_record(2, len(directory), len(body)), "overlaps another entry")


def test_a_size_that_reaches_into_the_directory(tmp_path: Path) -> None:
    body = local_record(Item(name="a", data=b"x" * 99, method=STORED))[:-50]
    directory = central_record(Item(name="a", data=b"x" * 99, method=STORED), 0)
    refuse(tmp_path, body + directory + end_record(1, len(directory), len(body)), "overlaps the central directory")


def test_an_entry_that_is_in_the_directory_alone(tmp_path: Path) -> None:
    directory = central_record(GOOD, 0)
    body = bytes(len(local_record(GOOD)))
    refuse(tmp_path, body + directory + end_record(1, len(directory), len(body)), "not in the file")


WHOLE = build(GOOD)
DIRECTORY = central_record(GOOD, 0)
BODY = local_record(GOOD)
HIDDEN = end_record(0, 0, 0)

BAD_FILES = {
    "nothing": (b"", "no ZIP file"),
    "a text": (b"storage blob test sample file", "no ZIP file"),
    "cut in the middle": (WHOLE[: len(WHOLE) // 2], "no ZIP file"),
    "cut at the end": (WHOLE[:-1], "data after its end"),
    "cut at the beginning": (WHOLE[10:], "was cut, or has data before"),
    "data after the end": (build(GOOD, suffix=b"more"), "data after its end"),
    "data before": (build(GOOD, prefix=b"#!/bin/sh\n"), "after bytes that belong to no entry"),
    "data before that offsets do not count": (b"MZ" + WHOLE, "was cut, or has data before"),
    "data before the directory": (build(GOOD, gap=b"hidden"), "before its central directory"),
    "two ends": (build(GOOD, comment=HIDDEN), "has two ends|was cut"),
    "an end in the last comment": (
        BODY
        + central_record(GOOD, 0, b"PK\5\6" + bytes(16) + struct.pack("<H", 22))
        + end_record(1, len(DIRECTORY) + 22, len(BODY)),
        "has two ends",
    ),
    "fewer entries than the directory has": (
        BODY + DIRECTORY + end_record(0, len(DIRECTORY), len(BODY)),
        "more in its central directory",
    ),
    "more entries than the directory has": (
        BODY + DIRECTORY + end_record(2, len(DIRECTORY), len(BODY)),
        "damaged central directory",
    ),
    "a directory of something else": (
        BODY + b"X" + DIRECTORY[1:] + end_record(1, len(DIRECTORY), len(BODY)),
        "damaged central directory",
    ),
    "one of several": (BODY + DIRECTORY + end_record(1, len(DIRECTORY), len(BODY), disk=1), "one part of several"),
    "two ends that contradict": (
        BODY + DIRECTORY + end64_records(1, len(DIRECTORY), len(BODY)) + end_record(0, len(DIRECTORY), len(BODY)),
        "contradict each other",
    ),
    "a ZIP64 end of a wrong length": (
        build(GOOD, zip64=True).replace(b"PK\6\6\x2c", b"PK\6\6\x2d"),
        "wrong length",
    ),
    "a ZIP64 end that is not there": (build(GOOD, zip64=True).replace(b"PK\6\6", b"PK\6\5"), "damaged ZIP64 end"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_files(tmp_path: Path, content: bytes, reason: str) -> None:
    refuse(tmp_path, content, reason)


LIES = {
    "a smaller size": (Item(name="a", data=HELLO, size=5), "holds more than the 5 bytes"),
    "a larger size": (Item(name="a", data=HELLO, size=500), "holds 26 bytes and claims 500"),
    "another checksum": (Item(name="a", data=HELLO, crc=1), "checksum"),
    "another checksum, stored": (Item(name="a", data=HELLO, crc=1, method=STORED), "checksum"),
    "no deflate": (Item(name="a", data=HELLO, packed=b"\xff" * 20), "damaged"),
    "cut data": (Item(name="a", data=HELLO, packed=deflate(HELLO)[:-3]), "no end"),
    "no data": (Item(name="a", data=HELLO, packed=b""), "no end"),
    "data behind the data": (Item(name="a", data=HELLO, packed=deflate(HELLO) + b"hidden"), "more after its"),
    "a folder with hidden data": (Item(name="a/", mode=FOLDER, packed=deflate(b"x"), size=0), "more than the 0 bytes"),
}


@pytest.mark.parametrize(("item", "reason"), LIES.values(), ids=LIES)
def test_lies_that_only_unpacking_finds(tmp_path: Path, item: Item, reason: str) -> None:
    content = build(GOOD, item)
    inspect(io.BytesIO(content))
    with pytest.raises(ArchiveError, match=reason):
        inspect(io.BytesIO(content), unpack=True)
    refuse_to_extract(tmp_path, content, reason)


LIMITS = {
    "files": (Limits(files=2), "holds more than 2 files and folders"),
    "entries": (Limits(files=1), "holds 2 entries, the limit is 1"),
    "bytes of a file": (Limits(file_size=199), "is 200 bytes long unpacked, the limit is 199"),
    "bytes in all": (Limits(total_size=202), "holds more than 202 bytes"),
    "depth": (Limits(depth=1), "2 folders deep, the limit is 1"),
    "length of a path": (Limits(path_length=7), "8 bytes, the limit is 7"),
    "directory": (Limits(directory_size=100), "central directory of 101 bytes"),
}


@pytest.mark.parametrize(("limits", "reason"), LIMITS.values(), ids=LIMITS)
def test_limits(tmp_path: Path, limits: Limits, reason: str) -> None:
    content = build(GOOD, GOOD_TOO)
    inspect(io.BytesIO(content))
    refuse(tmp_path, content, reason, limits)


def test_a_bomb(tmp_path: Path) -> None:
    content = build(Item(name="zeros", data=bytes(10_000_000)))
    refuse(tmp_path, content, "grows to more than 500 times its size")
    assert inspect(io.BytesIO(content), Limits(ratio=1032)).unpacked_size == 10_000_000


def test_an_error_shows_no_control_characters() -> None:
    with pytest.raises(ArchiveError) as caught:
        inspect(io.BytesIO(build(Item(name="../\x1b[2Jgone" + "x" * 300))))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.entry == "../\x1b[2Jgone" + "x" * 300


def refuse(tmp_path: Path, content: bytes, reason: str, limits: Limits | None = None) -> None:
    """Check that a ZIP file is refused for this reason: by judging it, by verifying it and by unpacking it."""
    with pytest.raises(ArchiveError, match=reason):
        inspect(io.BytesIO(content), limits)
    with pytest.raises(ArchiveError, match=reason):
        inspect(io.BytesIO(content), limits, unpack=True)
    refuse_to_extract(tmp_path, content, reason, limits)


def refuse_to_extract(tmp_path: Path, content: bytes, reason: str, limits: Limits | None = None) -> None:
    path = tmp_path / "package.zip"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=reason):
        extract(path, tmp_path / "files", limits)
    assert list(tmp_path.iterdir()) == [path]
