"""More that a package may not hold: names in disguise, numbers that lie, parts that two readers see differently."""

import io
import struct
import zlib
from pathlib import Path

import pytest

from packhorse.archive import ArchiveError, Limits, extract, inspect
from tests.unit.archive.test_hostile import GOOD, link, refuse, refuse_to_extract
from tests.unit.archive.zips import (
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


def renamed(name: str, shown: bytes = b"innocent") -> Item:
    """An entry with a Unicode field that gives it another name."""
    unicode_path = extra(0x7075, b"\1" + struct.pack("<L", zlib.crc32(shown)) + name.encode())
    return Item(name=shown, extra=unicode_path, local_extra=unicode_path)


DISGUISED = {
    "parent, by a Unicode field": (renamed("../escape"), r"'\.\.'"),
    "absolute, by a Unicode field": (renamed("/etc/passwd"), "absolute"),
    "NUL, by a Unicode field": (renamed("a\0b"), "NUL"),
    "nothing, by a Unicode field": (renamed(""), "without a name"),
    "folder, by a Unicode field": (renamed("folder/"), "by its name or by its mode"),
    "no UTF-8, by a Unicode field": (
        Item(
            name=b"a",
            extra=extra(0x7075, b"\1" + struct.pack("<L", zlib.crc32(b"a")) + b"\xff"),
            local_extra=extra(0x7075, b"\1" + struct.pack("<L", zlib.crc32(b"a")) + b"\xff"),
        ),
        "not valid UTF-8",
    ),
    "a Unicode field in the directory alone": (
        Item(name=b"a", extra=extra(0x7075, b"\1" + struct.pack("<L", zlib.crc32(b"a")) + b"b")),
        "another name",
    ),
    "two Unicode fields": (
        Item(name=b"a", extra=extra(0x7075, b"\1" + bytes(4) + b"b") + extra(0x7075, b"\1" + bytes(4) + b"c")),
        "two extra fields",
    ),
    "dots in overlong UTF-8": (Item(name=b"\xc0\xae\xc0\xae/escape", flags=UTF8), "not valid UTF-8"),
    "half a surrogate pair": (Item(name=b"\xed\xa0\x80", flags=UTF8), "not valid UTF-8"),
    "a device of Windows": (Item(name="\\\\.\\C:"), "backslash"),
    "a long name of Windows": (Item(name="//?/C:/x"), "absolute"),
    "the same name, once as a link": (link(GOOD.raw_name.decode(), "x"), "is there twice"),
}


@pytest.mark.parametrize(("item", "reason"), DISGUISED.values(), ids=DISGUISED)
def test_names_in_disguise(tmp_path: Path, item: Item, reason: str) -> None:
    refuse(tmp_path, build(GOOD, item), reason)


NEIGHBOURS = {
    "parent": ("..", r"'\.\.'"),
    "dot": (".", "empty part or '.'"),
    "backslash": ("a\\b", "backslash"),
    "NUL": ("a\0b", "NUL"),
    "256 bytes": ("x" * 256, "256 bytes, and no file system"),
    "twice": ("first", "is there twice"),
    "another case": ("FIRST", "is also there as 'bin/first'"),
    "too deep": ("/".join("x" * 64), "65 folders deep"),
    "a file as a folder": ("first/b", "also there as a file, 'bin/first'"),
}


@pytest.mark.parametrize(("last", "reason"), NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_names_beside_good_ones(tmp_path: Path, last: str, reason: str) -> None:
    """What was found out about the folder of one entry counts for the next one: nothing else of it may."""
    good = [Item(name="bin/first"), Item(name="bin/second")]
    refuse(tmp_path, build(*good, Item(name=f"bin/{last}")), reason)
    refuse(tmp_path, build(*good, link(f"bin/{last}", "x")), reason)


def test_a_path_beside_a_good_one_that_is_too_long(tmp_path: Path) -> None:
    folder = "/".join(["x" * 200] * 5)
    items = [Item(name=f"{folder}/{'y' * length}") for length in (10, 20)]
    refuse(tmp_path, build(*items), "1025 bytes, the limit is 1024")


def test_a_drive_beside_a_good_name(tmp_path: Path) -> None:
    refuse(tmp_path, build(Item(name="a"), Item(name="c:x")), "drive letter")


def test_a_folder_that_turns_out_to_be_a_file_beside_its_own_entries(tmp_path: Path) -> None:
    items = [Item(name="d/a"), Item(name="d"), Item(name="d/b")]
    refuse(tmp_path, build(*items), "as a file, and as a folder")


BAD_LINKS = {
    "out, by many small steps": ([link("a", "b/../" * 20 + "../x")], "leads out of the package"),
    "out, by a chain": ([link("a", "b/../x"), link("b", "c"), link("c", "..")], "leads out of the package"),
    "through the parent of a link to above": ([link("d/up", ".."), link("a", "d/up/../x")], "leads out"),
    "round, by a chain of 41": (
        [link(f"l{number}", f"l{number + 1}") for number in range(45)] + [Item(name="l45")],
        "circle",
    ),
    "as a folder in another case": ([link("Lib", "lib64"), Item(name="lib/x")], "folder that is also spelled 'Lib'"),
    "with a folder's name": ([Item(name="a/", data=b"x", mode=LINK | 0o777)], "by its name or by its mode"),
    "network": ([link("a", "//host/share")], "absolute path"),
}


@pytest.mark.parametrize(("items", "reason"), BAD_LINKS.values(), ids=BAD_LINKS)
def test_links(tmp_path: Path, items: list[Item], reason: str) -> None:
    refuse(tmp_path, build(GOOD, *items), reason)


def test_a_link_whose_target_is_a_bomb(tmp_path: Path) -> None:
    """It claims to be short; what it unpacks to is not read further than that."""
    bomb = Item(name="a", mode=LINK | 0o777, packed=deflate(b"x" * 10_000_000), size=5, crc=0)
    refuse(tmp_path, build(GOOD, bomb), "holds more than the 5 bytes")


HUGE = (1 << 64) - 1


def zip64(item: Item, *numbers: int, local: bool = False) -> bytes:
    """A package of one entry, with these numbers in the ZIP64 field of its record in the directory."""
    field = extra(1, struct.pack(f"<{len(numbers)}Q", *numbers))
    changed = Item(name=item.name, data=item.data, method=STORED, extra=field, local_extra=field if local else b"")
    body, directory = local_record(changed), bytearray(central_record(changed, 0))
    for number in range(len(numbers)):
        position = (24, 20, 42)[number]
        directory[position : position + 4] = b"\xff" * 4
    return body + bytes(directory) + end_record(1, len(directory), len(body))


NUMBERS = {
    "size": (zip64(Item(name="a", data=b"x"), HUGE), "as it is, but in another size"),
    "sizes": (zip64(Item(name="a", data=b"x"), HUGE, HUGE), "the limit is"),
    "offset": (zip64(Item(name="a", data=b"x"), 1, 1, HUGE), "bytes that belong to no entry"),
    "entries": (
        local_record(GOOD)
        + central_record(GOOD, 0)
        + end64_records(HUGE, len(central_record(GOOD, 0)), len(local_record(GOOD)))
        + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        f"holds {HUGE} entries, the limit is",
    ),
    "size of the directory": (
        local_record(GOOD)
        + central_record(GOOD, 0)
        + end64_records(1, len(central_record(GOOD, 0)), len(local_record(GOOD))).replace(
            struct.pack("<Q", len(central_record(GOOD, 0))), struct.pack("<Q", HUGE), 1
        )
        + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        "was cut, or has data before",
    ),
    "place of the ZIP64 end": (
        build(GOOD, zip64=True)[:-34] + struct.pack("<QL", HUGE, 1) + build(GOOD, zip64=True)[-22:],
        "damaged ZIP64 end",
    ),
    "length of the ZIP64 end": (
        build(GOOD, zip64=True).replace(b"PK\6\6" + struct.pack("<Q", 44), b"PK\6\6" + struct.pack("<Q", HUGE)),
        "wrong length",
    ),
    "ZIP64 in the file alone": (
        build(Item(name="a", data=b"x", local_size=0xFFFFFFFF, local_extra=extra(1, struct.pack("<Q", 7)))),
        "another size or checksum",
    ),
}


@pytest.mark.parametrize(("content", "reason"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_lie(tmp_path: Path, content: bytes, reason: str) -> None:
    refuse(tmp_path, content, reason)


def test_a_directory_in_another_order_than_the_file(tmp_path: Path) -> None:
    """That is allowed: what counts is that every byte belongs to one entry."""
    first, second = Item(name="a", data=b"1"), Item(name="b", data=b"2")
    body = local_record(first) + local_record(second)
    directory = central_record(second, len(local_record(first))) + central_record(first, 0)
    path = tmp_path / "package.zip"
    path.write_bytes(body + directory + end_record(2, len(directory), len(body)))
    assert extract(path, tmp_path / "files").files == 2
    assert {file.name: file.read_bytes() for file in (tmp_path / "files").iterdir()} == {"a": b"1", "b": b"2"}


def test_two_entries_at_the_same_place(tmp_path: Path) -> None:
    first = Item(name="a", data=b"1")
    body = local_record(first)
    directory = central_record(first, 0) + central_record(Item(name="b", data=b"1"), 0)
    refuse(tmp_path, body + directory + end_record(2, len(directory), len(body)), "overlaps another entry")


LIES = {
    "a small file, one byte too long": (Item(name="a", data=b"12", size=1, crc=zlib.crc32(b"1")), "more than the 1"),
    "a small file, one byte too short": (Item(name="a", data=b"12", size=3), "holds 2 bytes and claims 3"),
    "a stored file of another checksum": (Item(name="a", data=b"12", method=STORED, crc=7), "checksum"),
    "a second stream behind the first": (Item(name="a", data=b"1", packed=deflate(b"1") * 2), "more after its"),
    "an empty file with data": (Item(name="a", data=b"", packed=deflate(b"x")), "more than the 0 bytes"),
    "an empty file without a stream": (Item(name="a", data=b"", packed=b""), "no end"),
    "a large file of another checksum": (Item(name="a", data=b"x" * 1000 + bytes(300_000), crc=7), "checksum"),
    "a large file that is cut": (
        Item(name="a", data=bytes(range(256)) * 1000, packed=deflate(bytes(range(256)) * 1000)[:-9]),
        "no end|damaged",
    ),
    "a reserved kind of block": (Item(name="a", data=b"1", packed=b"\x07\0"), "damaged"),
    "a distance to before the beginning": (Item(name="a", data=b"x" * 9, packed=b"\x4b\x04\x62\0\0"), "damaged|claims"),
}


@pytest.mark.parametrize(("item", "reason"), LIES.values(), ids=LIES)
def test_lies_that_only_unpacking_finds(tmp_path: Path, item: Item, reason: str) -> None:
    content = build(GOOD, item)
    with pytest.raises(ArchiveError, match=reason):
        inspect(io.BytesIO(content), Limits(ratio=1032), unpack=True)
    refuse_to_extract(tmp_path, content, reason, Limits(ratio=1032))


def test_modes_cannot_make_more_than_a_file(tmp_path: Path) -> None:
    """Set-user-ID, set-group-ID, sticky and write bits go; attributes of DOS mean nothing to a file."""
    item = Item(name="a", data=b"x", mode=REGULAR | 0o7777, dos_attributes=0x27)
    path = tmp_path / "package.zip"
    path.write_bytes(build(item, Item(name="d/", mode=FOLDER | 0o7777)))
    extract(path, tmp_path / "files")
    assert (tmp_path / "files/a").stat().st_mode == REGULAR | 0o755
    assert (tmp_path / "files/d").stat().st_mode & 0o7777 == 0o755
