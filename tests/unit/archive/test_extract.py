"""What a good package becomes on disk."""

import io
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from packhorse.archive import ArchiveError, Limits, Summary, extract, inspect
from packhorse.archive import contents as contents_module
from tests.unit.archive.zips import FOLDER, LINK, REGULAR, STORED, Item, build, deflate, extra

MIB = 1 << 20


def unpack(tmp_path: Path, *items: Item, threads: int = 2) -> Path:
    content = build(*items)
    (tmp_path / "package.zip").write_bytes(content)
    summary = extract(tmp_path / "package.zip", tmp_path / "files", threads=threads)
    assert summary == inspect(io.BytesIO(content), unpack=True)
    return tmp_path / "files"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def _narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_narrow_umask")
@pytest.mark.parametrize(
    ("packed", "unpacked"),
    [(0o644, 0o644), (0o600, 0o644), (0o666, 0o644), (0o744, 0o755), (0o711, 0o755), (0o4755, 0o755), (0o7777, 0o755)],
    ids=oct,
)
def test_modes(tmp_path: Path, packed: int, unpacked: int) -> None:
    files = unpack(tmp_path, Item(name="d/f", data=b"#!x", mode=REGULAR | packed))
    assert mode(files / "d/f") == unpacked


@pytest.mark.usefixtures("_narrow_umask")
def test_folders_are_open_to_all(tmp_path: Path) -> None:
    files = unpack(tmp_path, Item(name="a/", mode=FOLDER | 0o2700), Item(name="b/c/d"))
    assert [mode(path) for path in (files, files / "a", files / "b", files / "b/c")] == [0o755] * 4


@pytest.mark.parametrize("host", [0, 10, 3], ids=["DOS", "NTFS", "Unix without modes"])
def test_programs_of_a_package_without_modes(tmp_path: Path, host: int) -> None:
    starts = {"program": b"\x7fELF\2\1\1", "script": b"#!/bin/sh\n", "text": b"hello #!", "empty": b""}
    # What Windows' own tools write as a mode, where they do, means nothing.
    attributes = REGULAR | 0o666 if host != 3 else 0
    items = [Item(name=name, data=data, host=host, mode=attributes) for name, data in starts.items()]
    files = unpack(tmp_path, *items)
    assert {path.name for path in files.iterdir() if mode(path) == 0o755} == {"program", "script"}
    assert {path.name for path in files.iterdir() if mode(path) == 0o644} == {"text", "empty"}


def test_links(tmp_path: Path) -> None:
    targets = {
        "lib/libx.so": "libx.so.1",
        "lib/libx.so.1": "./libx.so.1.2",
        "lib64": "lib/",
        "share/lib": "../lib64",
        "share/up": "..",
        "share/x": "up/share/lib/libx.so",
        "share/nothing": "../not/../here",
        "share/name with ..dots": "..dots",
    }
    links = [Item(name=name, data=target.encode(), mode=LINK | 0o777) for name, target in targets.items()]
    files = unpack(tmp_path, *links, Item(name="lib/libx.so.1.2", data=b"content"))
    unpacked = {str(path.relative_to(files)): path.readlink() for path in files.rglob("*") if path.is_symlink()}
    assert unpacked == {name: Path(target) for name, target in targets.items()}
    assert (files / "share/x").read_bytes() == b"content"


def test_times(tmp_path: Path) -> None:
    timestamp = extra(0x5455, struct.pack("<Bl", 1, 1_000_000_001))
    dos_time = (2024 - 1980) << 25 | 2 << 21 | 29 << 16 | 12 << 11 | 30 << 5 | 7
    files = unpack(
        tmp_path,
        Item(name="exact", extra=timestamp, local_extra=timestamp),
        Item(name="coarse", dos_time=dos_time),
        Item(name="none", dos_time=0),
    )
    assert (files / "exact").stat().st_mtime == 1_000_000_001
    assert (files / "coarse").stat().st_mtime == 1_709_209_814  # 2024-02-29 12:30:14 UTC
    assert (files / "none").stat().st_mtime > 1_709_209_814


@pytest.mark.parametrize(
    ("raw_name", "extra_field", "name"),
    [
        ("naïve".encode(), b"", "naïve"),
        (b"na\x8bve", b"", "naïve"),
        (b"na_ve", extra(0x7075, b"\1" + struct.pack("<L", zlib.crc32(b"na_ve")) + "naïve".encode()), "naïve"),
        (b"na_ve", extra(0x7075, b"\1" + struct.pack("<L", 0) + "naïve".encode()), "na_ve"),
    ],
    ids=["UTF-8 without saying so", "code page 437", "Unicode field", "outdated Unicode field"],
)
def test_names_of_old_tools(tmp_path: Path, raw_name: bytes, extra_field: bytes, name: str) -> None:
    item = Item(name=raw_name, data=b"x", extra=extra_field, local_extra=extra_field)
    assert [path.name for path in unpack(tmp_path, item).iterdir()] == [name]


def test_files_larger_than_the_buffers(tmp_path: Path) -> None:
    noise = os.urandom(3 * MIB + 7)
    text = b"".join(b"%d\n" % number for number in range(700_000))
    contents = {"noise": noise, "stored": noise[::-1], "text": text}
    items = [
        Item(name=name, data=data, method=STORED if name == "stored" else 8) for name, data in sorted(contents.items())
    ]
    files = unpack(tmp_path, *items, threads=3)
    assert {path.name: path.read_bytes() for path in files.iterdir()} == contents


def test_long_forms_of_all_records(tmp_path: Path) -> None:
    """As tools write them that do not know sizes in advance: ZIP64 everywhere, descriptors after the data."""

    class Pipe(io.RawIOBase):
        """A file that cannot seek."""

        def __init__(self, file: io.BytesIO) -> None:
            self.file = file

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            return self.file.write(data)

    buffer = io.BytesIO()
    with zipfile.ZipFile(Pipe(buffer), "w", zipfile.ZIP_DEFLATED) as package:
        for name, large in (("short", False), ("long", True)):
            with package.open(zipfile.ZipInfo(name), "w", force_zip64=large) as file:
                file.write(name.encode() * 100)
        package.comment = b"made by a pipe"
    (tmp_path / "package.zip").write_bytes(buffer.getvalue())
    assert extract(tmp_path / "package.zip", tmp_path / "files") == Summary(2, 900)
    assert (tmp_path / "files/long").read_bytes() == b"long" * 100


def test_a_zip64_end_and_sizes(tmp_path: Path) -> None:
    sizes = extra(1, struct.pack("<QQ", 5, len(deflate(b"hello"))))
    buffer = bytearray(build(Item(name="f", data=b"hello", extra=sizes, local_extra=sizes), zip64=True))
    for signature, offset in ((b"PK\3\4", 18), (b"PK\1\2", 20)):
        position = buffer.index(signature) + offset
        buffer[position : position + 8] = b"\xff" * 8
    (tmp_path / "package.zip").write_bytes(buffer)
    assert extract(tmp_path / "package.zip", tmp_path / "files") == Summary(1, 5)
    assert (tmp_path / "files/f").read_bytes() == b"hello"


@pytest.mark.parametrize("signature", [b"PK\7\x08", b""], ids=["signature", "no signature"])
@pytest.mark.parametrize("numbers", ["<LLL", "<LQQ"], ids=["short", "long"])
def test_descriptors(tmp_path: Path, signature: bytes, numbers: str) -> None:
    item = Item(name="f", data=b"hello" * 9)
    descriptor = signature + struct.pack(numbers, item.true_crc(), len(item.pack()), 45)
    files = unpack(tmp_path, Item(name="f", data=b"hello" * 9, descriptor=descriptor), Item(name="g"))
    assert (files / "f").read_bytes() == b"hello" * 9


def test_a_compressed_folder(tmp_path: Path) -> None:
    """Some Java tools deflate the nothing that is in a folder."""
    files = unpack(tmp_path, Item(name="empty/", mode=FOLDER | 0o755, packed=deflate(b"")))
    assert list(files.iterdir()) == [files / "empty"]


def test_an_empty_package(tmp_path: Path) -> None:
    assert list(unpack(tmp_path).iterdir()) == []


def test_an_existing_destination_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "package.zip").write_bytes(build(Item(name="f")))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/mine").touch()
    with pytest.raises(FileExistsError):
        extract(tmp_path / "package.zip", tmp_path / "files")
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["mine"]


def test_a_veto_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "package.zip").write_bytes(build(Item(name="f", data=b"12345")))
    seen: list[Summary] = []

    def refuse(summary: Summary) -> None:
        seen.append(summary)
        assert not (tmp_path / "files").exists()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        extract(tmp_path / "package.zip", tmp_path / "files", before_writing=refuse)
    assert seen == [Summary(1, 5)]
    assert not (tmp_path / "files").exists()


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0:"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4)
CONTENTS = st.tuples(st.binary(max_size=500), st.sampled_from([1, 2, 3000]))
"""A piece of data and how often it is repeated."""


def clash(paths: Iterable[str]) -> bool:
    """Tell whether a tree of these files would have the same name twice, letter case and accents aside."""
    spellings: dict[str, str] = {}
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    names = {*paths, *folders}
    for name in names:
        normal = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
        if spellings.setdefault(normal, name) != name:
            return True
    return not folders.isdisjoint(paths)


@given(
    st.dictionaries(PATHS.map("/".join), CONTENTS, max_size=8),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.integers(1, 9),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_what_zipfile_packs_is_unpacked(
    tree: dict[str, tuple[bytes, int]], method: int, level: int, threads: int
) -> None:
    contents = {name: data * count for name, (data, count) in tree.items()}
    assume(not clash(contents))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=level) as package:
        for name, data in contents.items():
            package.writestr(name, data)
    with TemporaryDirectory() as directory:
        path, files = Path(directory, "package.zip"), Path(directory, "files")
        path.write_bytes(buffer.getvalue())
        summary = extract(path, files, Limits(ratio=1032), threads)
        unpacked = {str(file.relative_to(files)): file.read_bytes() for file in files.rglob("*") if file.is_file()}
    assert unpacked == contents
    assert summary == Summary(len(contents), sum(map(len, contents.values())))


@given(
    st.sets(st.lists(st.text("aAbß\u00e4", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join), max_size=4)
)
@settings(deadline=None)
def test_names_that_clash_and_no_others_are_refused(tree: set[str]) -> None:
    content = io.BytesIO(build(*(Item(name=name) for name in tree)))
    if clash(tree):
        with pytest.raises(ArchiveError, match=r"letter case|folder that is also|folder with other"):
            inspect(content)
    else:
        assert inspect(content) == Summary(len(tree), 0)


@given(
    st.lists(CONTENTS, max_size=8),
    st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FILTERED]),
    st.integers(0, 9),
    st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH]),
    st.tuples(st.sampled_from([16, 100, 1 << 18]), st.sampled_from([16, 64, 100, 1 << 20])),
)
@settings(deadline=None)
def test_all_that_zlib_compresses_is_inflated(
    repeated: list[tuple[bytes, int]], strategy: int, level: int, flush: int, chunks: tuple[int, int]
) -> None:
    """Also where the ends of pieces that are read and of pieces that are yielded meet in any way."""
    pieces = [data * count for data, count in repeated]
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    packed = b"".join(compressor.compress(piece) + compressor.flush(flush) for piece in pieces) + compressor.flush()
    content = build(Item(name="f", data=b"".join(pieces), packed=packed))
    size = sum(map(len, pieces))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents_module, "CHUNK_IN", chunks[0])
        patch.setattr(contents_module, "CHUNK_OUT", chunks[1])
        assert inspect(io.BytesIO(content), Limits(ratio=1032), unpack=True) == Summary(1, size)


@given(st.data())
@settings(deadline=None)
def test_a_damaged_package_is_refused_or_unharmed(data: st.DataObject) -> None:
    """One byte is changed: either it is noticed, or it is one that changes no content (a time, a mode, a comment)."""
    items = [Item(name="a/b", data=b"hello, hello, hello"), Item(name="c", data=b"stored", method=STORED)]
    content = bytearray(build(*items))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as directory:
        path, files = Path(directory, "package.zip"), Path(directory, "files")
        path.write_bytes(content)
        try:
            extract(path, files)
        except ArchiveError:
            assert not files.exists()
            return
        links = [file for file in files.rglob("*") if file.is_symlink()]
        contents = {str(f.relative_to(files)): f.read_bytes() for f in files.rglob("*") if f.is_file()}
        assert links or contents == {"a/b": b"hello, hello, hello", "c": b"stored"}


def _rich() -> bytes:
    text = b"hello, hello, hello"
    described = Item(name="described", data=text)
    descriptor = struct.pack("<4sLLL", b"PK\7\x08", described.true_crc(), len(described.pack()), len(text))
    timestamp = extra(0x5455, struct.pack("<Bl", 1, 1_000_000_001))
    return build(
        Item(name="bin/", mode=FOLDER | 0o755),
        Item(name="bin/tool", data=b"#!/bin/sh\n", mode=REGULAR | 0o755, extra=timestamp, local_extra=timestamp),
        Item(name="described", data=text, descriptor=descriptor),
        Item(name="link", data=b"bin/tool", mode=LINK | 0o777),
        Item(name="na\u00efve", data=text, method=STORED),
        comment=b"a comment",
        zip64=True,
    )


RICH = _rich()
CHANGES = st.lists(
    st.tuples(st.integers(0, len(RICH) - 1), st.binary(max_size=8), st.integers(0, 8)), min_size=1, max_size=4
)
"""Where, what is put there, and how many bytes it replaces: so that bytes are changed, added and removed."""


@given(CHANGES)
@settings(deadline=None, max_examples=300)
def test_a_package_with_any_changes_is_refused_or_safe(changes: list[tuple[int, bytes, int]]) -> None:
    """There is no error but the one, all ways of judging agree, and nothing lies or leads outside."""
    content = RICH
    for position, data, replaced in changes:
        content = content[:position] + data + content[position + replaced :]
    with TemporaryDirectory() as directory:
        path, files = Path(directory, "package.zip"), Path(directory, "files")
        path.write_bytes(content)
        try:
            found: Summary | None = inspect(io.BytesIO(content), unpack=True)
        except ArchiveError:
            found = None
        if found is None:
            with pytest.raises(ArchiveError):
                extract(path, files)
            assert list(Path(directory).iterdir()) == [path]
            return
        assert extract(path, files) == found
        assert sorted(Path(directory).iterdir()) == [files, path]
        for file in files.rglob("*"):
            assert file.resolve().is_relative_to(files.resolve())
            assert mode(file) in (0o644, 0o755, 0o777)
