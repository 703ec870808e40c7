"""Keys name contents and nothing else; what is published is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.cache import Cache, content_key, default_root


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_key_of_a_folder_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    files = {"a.py": "1", "sub/b.py": "2"}
    assert content_key([write(tmp_path / "x", files)]) == content_key([write(tmp_path / "y", files)])


@pytest.mark.parametrize(
    "other",
    [
        {"a.py": "1", "sub/b.py": "3"},
        {"a.py": "1", "sub/c.py": "2"},
        {"a.py": "1", "b.py": "2"},
        {"a.py": "1", "sub/b.py": "2", "c.py": ""},
        {"a.py": "12", "sub/b.py": ""},
    ],
)
def test_key_of_a_folder_depends_on_names_and_contents(tmp_path: Path, other: dict[str, str]) -> None:
    one = write(tmp_path / "x", {"a.py": "1", "sub/b.py": "2"})
    assert content_key([one]) != content_key([write(tmp_path / "y", other)])


def test_key_depends_on_the_execute_bit(tmp_path: Path) -> None:
    script = write(tmp_path, {"run": "#!/bin/sh"}) / "run"
    before = content_key([script])
    script.chmod(0o755)
    assert content_key([script]) != before


def test_key_leaves_pythons_caches_out(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a.py": "1"})
    before = content_key([folder])
    write(folder, {"__pycache__/a.pyc": "x"})
    assert content_key([folder]) == before


def test_key_keeps_parts_apart() -> None:
    assert content_key(["ab", "c"]) != content_key(["a", "bc"])


@pytest.mark.parametrize(
    ("env", "root"),
    [
        ({"PACKHORSE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/packhorse")),
        ({}, Path.home() / ".cache" / "packhorse"),
        ({"PACKHORSE_CACHE": "", "XDG_CACHE_HOME": ""}, Path.home() / ".cache" / "packhorse"),
    ],
)
def test_default_root(env: dict[str, str], root: Path) -> None:
    assert default_root(env) == root


def test_published_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "thing"
    with Cache(tmp_path).publish(target) as part:
        write(part, {"a": "1"})
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert list(target.parent.iterdir()) == [target]


def test_failed_publication_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with Cache(tmp_path).publish(tmp_path / "thing") as part:
            write(part, {"a": "1"})
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_publication_clears_what_an_interrupted_one_left(tmp_path: Path) -> None:
    write(tmp_path, {".thing.part/stale": "1"})
    with Cache(tmp_path).publish(tmp_path / "thing") as part:
        write(part, {"a": "1"})
    assert list((tmp_path / "thing").iterdir()) == [tmp_path / "thing" / "a"]


def test_lock_shuts_other_processes_out(tmp_path: Path) -> None:
    program = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    except BlockingIOError: print('held')\n"
        "    else: print('free')\n"
    )

    def other() -> str:
        command = [sys.executable, "-c", program, str(tmp_path / "lock" / "x")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with Cache(tmp_path).lock("x"):
        assert other() == "held"
    assert other() == "free"
