import hashlib
import os
import random
import socket
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.archive import extract, inspect
from packhorse.cli import packing
from packhorse.cli.errors import CliError
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import FakeCluster

NAMES = st.text("abcxyzé0-_ .", min_size=1, max_size=6).filter(lambda name: name.strip(".") == name and name.strip(" "))
CONTENTS = st.one_of(
    st.binary(max_size=300), st.integers(0, 3).map(lambda seed: random.Random(seed).randbytes(300_000))
)
TREES = st.dictionaries(
    NAMES.map(str.lower),
    st.recursive(
        st.tuples(CONTENTS, st.booleans()),
        lambda children: st.dictionaries(NAMES.map(str.lower), children, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)

Tree = dict[str, Any]


@contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def build(folder: Path, tree: Tree, order: random.Random, umask: int) -> Path:
    """Make the tree, its entries in any order, written at any time."""
    before = os.umask(umask)
    try:
        _build(folder, tree, order)
    finally:
        os.umask(before)
    return folder


def _build(folder: Path, tree: Tree, order: random.Random) -> None:
    folder.mkdir()
    for name, what in order.sample(sorted(tree.items(), key=lambda pair: pair[0]), len(tree)):
        path = folder / name
        if isinstance(what, dict):
            _build(path, what, order)
            continue
        content, executable = what
        path.write_bytes(content)
        if executable:
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        os.utime(path, (0, order.randrange(10**9)))
    os.utime(folder, (0, order.randrange(10**9)))


def pack(folder: Path, target: Path) -> bytes:
    packing.pack(folder, target)
    return target.read_bytes()


@given(tree=TREES, seed=st.integers(), umasks=st.permutations([0o000, 0o022, 0o077]))
def test_same_tree_gives_the_same_bytes(tree: Tree, seed: int, umasks: list[int]) -> None:
    order = random.Random(seed)
    with temporary() as place:
        first = pack(build(place / "one", tree, order, umasks[0]), place / "one.zip")
        second = pack(build(place / "two", tree, order, umasks[1]), place / "two.zip")

    assert first == second


@given(tree=TREES, seed=st.integers())
def test_what_is_packed_is_unpacked_again(tree: Tree, seed: int) -> None:
    with temporary() as place:
        build(place / "tree", tree, random.Random(seed), 0o022)
        packing.pack(place / "tree", place / "tree.zip")
        with (place / "tree.zip").open("rb") as file:
            inspect(file, unpack=True)
        extract(place / "tree.zip", place / "again")

        assert read(place / "again") == tree


def read(folder: Path) -> Tree:
    return {
        path.name: read(path) if path.is_dir() else (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXOTH))
        for path in folder.iterdir()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "blender"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "blender").write_text("#!/bin/sh\n")
    (folder / "bin" / "blender").chmod(0o700)
    return folder


def test_links_inside_are_kept_as_they_are(folder: Path, tmp_path: Path) -> None:
    (folder / "run").symlink_to("./bin//blender")
    (folder / "programs").symlink_to("bin")
    (folder / "later").symlink_to("bin/not-there")

    packing.pack(folder, tmp_path / "x.zip")
    extract(tmp_path / "x.zip", tmp_path / "again")

    assert os.readlink(tmp_path / "again" / "run") == "./bin//blender"  # noqa: PTH115  # a Path would tidy it up
    assert (tmp_path / "again" / "programs" / "blender").read_text() == "#!/bin/sh\n"
    assert (tmp_path / "again" / "later").readlink() == Path("bin/not-there")


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "bin/../../secret", "circle"])
def test_links_that_lead_out_are_refused_by_name(target: str, folder: Path, tmp_path: Path) -> None:
    (folder / "circle").symlink_to(target)

    with pytest.raises(CliError, match=r"Entry 'circle' is a symbolic link"):
        packing.pack(folder, tmp_path / "x.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blender"]


def test_special_files_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "bin" / "pipe")

    with pytest.raises(CliError, match=r"Entry 'bin/pipe' is a FIFO"):
        packing.pack(folder, tmp_path / "x.zip")


def test_sockets_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    monkeypatch.chdir(folder)  # its address is short then
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(CliError, match=r"Entry 'socket' is a socket"):
            packing.pack(folder, tmp_path / "x.zip")


def test_names_that_are_no_text_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).write_text("")

    with pytest.raises(CliError, match="not valid UTF-8"):
        packing.pack(folder, tmp_path / "x.zip")


def test_names_that_differ_in_case_only_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "BIN").mkdir()

    with pytest.raises(CliError, match="letter case"):
        packing.pack(folder, tmp_path / "x.zip")


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "replace", "add", "remove", "touch folder"])
def test_change_while_packing_is_noticed(
    change: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_bytes(b"a" * 1000)
    (folder / "z").write_bytes(b"z" * 1000)
    changes: dict[str, Callable[[], object]] = {
        "grow": lambda: (folder / "z").write_bytes(b"z" * 3_000_000),
        "shrink": lambda: (folder / "a").write_bytes(b""),
        "rewrite": lambda: (folder / "a").write_bytes(b"b" * 1000),
        "replace": lambda: (folder / "bin" / "blender").replace(folder / "z"),
        "add": lambda: (folder / "bin" / "new").write_bytes(b""),
        "remove": (folder / "z").unlink,
        "touch folder": (folder / "empty").mkdir,
    }
    judge = packing._judge

    def judge_and_change(items: Any) -> None:
        judge(items)
        changes[change]()

    monkeypatch.setattr(packing, "_judge", judge_and_change)

    with pytest.raises(CliError, match="was changed while it was packed"):
        packing.pack(folder, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_compressed_data_are_stored(folder: Path, tmp_path: Path) -> None:
    (folder / "random").write_bytes(random.Random(1).randbytes(500_000))
    (folder / "text").write_bytes(b"text " * 100_000)

    packing.pack(folder, tmp_path / "x.zip")

    with zipfile.ZipFile(tmp_path / "x.zip") as package:
        assert package.getinfo("random").compress_type == zipfile.ZIP_STORED
        assert package.getinfo("text").compress_type == zipfile.ZIP_DEFLATED
        assert package.getinfo("bin/blender").external_attr >> 16 == 0o100755


def test_digest_is_the_same_on_every_machine(folder: Path, tmp_path: Path) -> None:
    """Only what is stored: compressed data depend on the zlib that Python has."""
    (folder / "run").symlink_to("bin/blender")

    packed = pack(folder, tmp_path / "x.zip")

    assert hashlib.sha256(packed).hexdigest() == "28d29236700c6d92bfdbb5e010bc029508ca41d4826d48560e856400aac78db0"


def test_pack_says_what_it_made(folder: Path, tmp_path: Path, packhorse: Run) -> None:
    result = packhorse("package", "pack", str(folder), "-o", str(tmp_path / "x.zip"))

    digest = hashlib.sha256((tmp_path / "x.zip").read_bytes()).hexdigest()
    assert result.stdout == f"{tmp_path}/x.zip (214 B, 1 file, sha256 {digest[:12]})\n"


def test_pack_does_not_pack_itself(folder: Path, packhorse: Run) -> None:
    result = packhorse("package", "pack", str(folder), "-o", str(folder / "x.zip"))

    assert result.exit_code == 1
    assert "would be inside" in result.stderr


def test_pack_where_nothing_can_be_written(folder: Path, packhorse: Run, tmp_path: Path) -> None:
    result = packhorse("package", "pack", str(folder), "-o", str(tmp_path / "nowhere" / "x.zip"))

    assert result.exit_code == 1
    assert "x.zip cannot be written: No such file or directory." in result.stderr


def test_bad_folder_is_refused_before_anything_is_sent(folder: Path, packhorse: Run, cluster: FakeCluster) -> None:
    (folder / "out").symlink_to("/etc")

    result = packhorse("package", "upload", "blender", "4.2", str(folder))

    assert result.exit_code == 1
    assert "blender cannot be a package. Entry 'out' is a symbolic link to an absolute path." in result.stderr
    assert cluster.requests == []
