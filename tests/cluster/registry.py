"""Images from a container registry where one answers, and archives of them in the cache where none does."""

import shutil
import subprocess
import threading
from pathlib import Path

from tests.cluster.cache import Cache
from tests.cluster.command import ClusterError, environment, held_locks
from tests.cluster.engine import Engine
from tests.cluster.progress import say

_ANSWER_TIMEOUT = 15.0  # seconds until a registry has named the image's layers
_PULL_TIMEOUT = 900.0

_silent: set[str] = set()  # registries that did not answer this process; the next process asks again


def registry_of(reference: str) -> str:
    """The registry that an image's name stands for; "" for Docker's default."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


def pull(engine: Engine, reference: str) -> bool:
    """Pull an image if its registry answers soon; whether the engine has it now."""
    if engine.has_image(reference):
        return True
    if registry_of(reference) in _silent:
        return False
    say(f"Pulling {reference}.")
    process = subprocess.Popen(
        ["docker", "pull", reference],
        env=environment(engine.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    decided = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line.strip())
            if "Pulling from" in line:
                decided.set()
        decided.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        answered = decided.wait(_ANSWER_TIMEOUT)
        code = process.wait(_PULL_TIMEOUT) if answered else None
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    reader.join(5)
    if code == 0:
        return True
    if not any("Pulling from" in line for line in lines):
        _silent.add(registry_of(reference))
    say(f"It cannot be pulled here ({lines[-1] if lines else 'the registry does not answer'}).")
    return False


def save(cache: Cache, engine: Engine, names: list[str], archive: Path) -> None:
    """Write images of the engine into a compressed archive in the cache."""
    packer = ["pigz", "-4"] if shutil.which("pigz") else ["gzip", "-1"]
    with cache.publish(archive) as part, part.open("wb") as output:
        source = subprocess.Popen(
            ["docker", "save", *names],
            env=environment(engine.env),
            stdout=subprocess.PIPE,
            pass_fds=tuple(held_locks),
        )
        packed = subprocess.run(packer, stdin=source.stdout, stdout=output, check=False)
        if source.wait() or packed.returncode:
            raise ClusterError(f"Saving {', '.join(names)} to {archive} failed. Is the disk full?")


def load(engine: Engine, archive: Path) -> None:
    """Give the engine the images of an archive."""
    say(f"Loading {archive.name} into the Docker engine.")
    engine.docker("load", "--quiet", "--input", archive, timeout=600)
