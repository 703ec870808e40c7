"""The images that tests and demo run: pulled where a registry answers, else made here from package registries."""

import dataclasses
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cluster import azurite as azurite_program
from tests.cluster import debootstrap, registry
from tests.cluster.cache import Cache, content_key, remove
from tests.cluster.command import ClusterError, run
from tests.cluster.engine import Engine
from tests.cluster.progress import say

ROOT = Path(__file__).parents[2]
_FILES = Path(__file__).parent / "images"
_KEY_LABEL = "dev.packhorse.key"  # on images made here under another's name: what they were made of

OPERATOR_REPOSITORY = "packhorse/packhorse"
TASK_IMAGE = "debian:bookworm-slim"
AZURITE_IMAGE = "mcr.microsoft.com/azure-storage/azurite:3.37.0"

_PYTHON = "3.11"  # the base's: Debian 12 has no other
_GLIBC = 36  # 2.36, the base's


@dataclasses.dataclass(frozen=True)
class Images:
    """The names of the images, all of them on the engine."""

    operator: str
    azurite: str
    task: str

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [self.operator, self.azurite, self.task]


def ensure(cache: Cache, engine: Engine) -> Images:
    """All images on the engine, fetched or made if need be."""
    return Images(operator(cache, engine), azurite(cache, engine), task(cache, engine))


def task(cache: Cache, engine: Engine) -> str:
    """The image that users' pools are given: Debian, slim."""
    recipe = content_key([Path(debootstrap.__file__), "task", "1"])

    def make() -> None:
        _debian_image(cache, engine, name=TASK_IMAGE, recipe=recipe, packages=[])

    return _ours_or_pulled(cache, engine, TASK_IMAGE, recipe, make)


def azurite(cache: Cache, engine: Engine) -> str:
    """Azurite, Microsoft's emulator of a storage account."""
    recipe = content_key([azurite_program.FILES, Path(debootstrap.__file__), "2"])

    def make() -> None:
        base = task(cache, engine)
        say(f"Making {AZURITE_IMAGE} from npm's azurite.")
        modules = azurite_program.modules(cache, "Making an image of Azurite without its registry")
        work = _clean(cache, "azurite")
        shutil.copy(azurite_program.FILES / "Dockerfile", work)
        shutil.copytree(modules, work / "node_modules", symlinks=True, copy_function=os.link)
        engine.build(
            "--build-arg", f"BASE={base}", "--build-arg", f"KEY={recipe}", "--tag", AZURITE_IMAGE, work,
            log=cache.log("build-azurite"),
        )  # fmt: skip
        remove(work)

    return _ours_or_pulled(cache, engine, AZURITE_IMAGE, recipe, make)


def operator(cache: Cache, engine: Engine) -> str:
    """Packhorse's own image, of the sources as they are now; its tag is the key of its contents."""
    base = _operator_base(cache, engine)
    dockerfile, lock, package = ROOT / "Dockerfile", ROOT / "requirements.lock", ROOT / "operator" / "packhorse"
    name = f"{OPERATOR_REPOSITORY}:{content_key([dockerfile, lock, _FILES / 'operator', package, base or ''])}"
    if engine.has_image(name):
        return name
    with cache.lock("operator-image"):
        if engine.has_image(name):
            return name
        wheels = _wheels(cache, [lock, _FILES / "operator" / "pip.lock"])
        say(f"Building {name}.")
        work = _clean(cache, "operator")
        for file in (dockerfile, lock):
            shutil.copy(file, work)
        shutil.copytree(wheels, work / "wheels", copy_function=os.link)
        shutil.copytree(package, work / "operator" / "packhorse", ignore=shutil.ignore_patterns("__pycache__"))
        arguments = ["--build-arg", f"BASE={base}"] if base else []
        engine.build(*arguments, "--tag", name, work, log=cache.log("build-operator"))
        remove(work)
    return name


def default_base(dockerfile: str) -> str:
    """The base that the text of a Dockerfile names by `ARG BASE=`."""
    found = re.search(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    if not found:
        raise ClusterError("The Dockerfile has no line ARG BASE=IMAGE.")
    return found[1]


def platforms(machine: str) -> list[str]:
    """The tags of the wheels that run on the base, the newest first."""
    return [*(f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 4, -1)), f"manylinux2014_{machine}"]


def _operator_base(cache: Cache, engine: Engine) -> str | None:
    """What to build the operator's image on: None for the Dockerfile's own base, where that can be had."""
    recipe = content_key([Path(debootstrap.__file__), "operator-base", "1"])
    name = f"packhorse/base:{recipe}"
    archive = cache.root / "images" / f"base-{recipe}.tar.gz"
    if engine.has_image(name):
        return name
    if not archive.exists() and registry.pull(engine, default_base((ROOT / "Dockerfile").read_text())):
        return None
    with cache.lock("image-base"):
        if not engine.has_image(name):
            if not archive.exists():
                _debian_image(cache, engine, name=name, recipe=recipe, packages=["python3", "busybox-static"])
                registry.save(cache, engine, [name], archive)
            else:
                registry.load(engine, archive)
    return name


def _ours_or_pulled(cache: Cache, engine: Engine, name: str, recipe: str, make: Callable[[], None]) -> str:
    """The image `name`: as its registry has it, or as `make` makes it (then labelled with its recipe's key)."""
    archive = cache.root / "images" / f"{name.replace('/', '_').replace(':', '_')}-{recipe}.tar.gz"

    def present() -> bool:
        if not engine.has_image(name):
            return False
        label = engine.docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{_KEY_LABEL}"}}}}', name)
        return label in ("", recipe)  # no label: it was pulled

    if present():
        return name
    if not archive.exists() and not engine.has_image(name) and registry.pull(engine, name):
        return name
    with cache.lock(f"image-{name.rsplit('/', 1)[-1].partition(':')[0]}"):
        if not present():
            if not archive.exists():
                make()
                registry.save(cache, engine, [name], archive)
            else:
                registry.load(engine, archive)
    return name


def _debian_image(cache: Cache, engine: Engine, *, name: str, recipe: str, packages: list[str]) -> None:
    """Make an image of a minimal Debian 12 with these packages."""
    say(f"Making {name} from Debian's packages (about 40 s).")
    work = _clean(cache, recipe)
    root = work / "debian"
    debootstrap.make(cache, root, packages)
    tar = work / "layer.tar"
    run(["tar", "--directory", root, "--numeric-owner", "--create", "--file", tar, "."])
    engine.docker("import", "--change", f"LABEL {_KEY_LABEL}={recipe}", "--change", 'CMD ["/bin/bash"]', tar, name)
    remove(work)


def _wheels(cache: Cache, locks: list[Path]) -> Path:
    """A folder with the wheels that the lock files name, for the base's Python, each checked by its hash."""
    machine = platform.machine()
    target = cache.root / "wheels" / content_key([*locks, _PYTHON, *platforms(machine)])
    if target.exists():
        return target
    say("Fetching the locked Python packages (about 10 s).")
    with cache.lock("wheels"):
        if not target.exists():
            _download(cache, locks, target, machine)
    return target


def _download(cache: Cache, locks: list[Path], target: Path, machine: str) -> None:
    with cache.publish(target) as part:
        wanted = [word for lock in locks for word in ("--requirement", str(lock))]
        allowed = [word for tag in platforms(machine) for word in ("--platform", tag)]
        run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON,
             "--abi", f"cp{_PYTHON.replace('.', '')}", "--abi", "abi3", "--abi", "none", *allowed,
             "--dest", part, *wanted],
            log=cache.log("wheels"),
        )  # fmt: skip


def _clean(cache: Cache, name: str) -> Path:
    """A new, empty folder for temporary files; what an interrupted earlier try left is removed."""
    work = cache.root / "work" / name
    remove(work)
    work.mkdir(parents=True)
    return work
