"""kind, kubectl and helm: the ones on the PATH if they will do, else built from their Go modules."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cluster import golang
from tests.cluster.cache import Cache
from tests.cluster.command import CommandError, run
from tests.cluster.progress import say

Version = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Tools:
    """Where the command-line tools are."""

    kind: Path
    kubectl: Path
    helm: Path


def parse_version(text: str) -> Version | None:
    """The first version in a text, as its major and minor number; None if there is none."""
    found = re.search(r"v?(\d+)\.(\d+)\.\d+", text)
    return (int(found[1]), int(found[2])) if found else None


def kind_will_do(version: Version | None) -> bool:
    """From 0.27 on kind knows node images with containerd 2."""
    return version is not None and version >= (0, 27)


def kubectl_will_do(version: Version | None) -> bool:
    """Kubectl is supported one minor version around the server's, which is 1.34."""
    return version is not None and (1, 33) <= version <= (1, 35)


def helm_will_do(version: Version | None) -> bool:
    """The chart is for Helm 3 and 4; older ones of 3 do not know all that it uses."""
    return version is not None and (version >= (3, 14))


def kind(cache: Cache) -> Path:
    """kind, to make clusters with."""
    return _tool(cache, "kind", ["version"], kind_will_do, golang.KIND)


def kubectl(cache: Cache) -> Path:
    """kubectl; where the node image was built here, the one that came with it."""
    if (folder := golang.built(cache, golang.KUBERNETES)).exists():
        return folder / "kubectl"
    return _tool(cache, "kubectl", ["version", "--client", "--output=json"], kubectl_will_do, golang.KUBECTL)


def helm(cache: Cache) -> Path:
    """helm."""
    return _tool(cache, "helm", ["version", "--short"], helm_will_do, golang.HELM)


def ensure(cache: Cache) -> Tools:
    """All three, built if need be."""
    return Tools(kind(cache), kubectl(cache), helm(cache))


def _tool(
    cache: Cache, name: str, question: list[str], will_do: Callable[[Version | None], bool], component: golang.Component
) -> Path:
    target = golang.built(cache, component) / name
    if target.exists():
        return target
    if found := shutil.which(name):
        try:
            answer = run([found, *question], timeout=20)
        except CommandError:
            answer = ""
        if name == "kubectl" and answer:
            answer = str(json.loads(answer).get("clientVersion", {}).get("gitVersion", ""))
        if will_do(parse_version(answer)):
            return Path(found)
        say(f"{found} is {answer.strip() or 'no version that it tells'}, which will not do here.")
    return golang.build(cache, component) / name
