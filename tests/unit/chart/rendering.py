"""The chart and the manifests as objects: what Helm and kustomize make of them."""

import functools
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import tools
from tests.cluster.cache import Cache

Object = dict[str, Any]
"""One Kubernetes object, as parsed from YAML."""

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "packhorse"
CRDS = ROOT / "crds"
MANIFESTS = ROOT / "manifests"
NAMESPACE = "packhorse-system"
HOOK = "helm.sh/hook"


@functools.cache
def helm() -> Path:
    """The program."""
    return tools.helm(Cache())


@functools.cache
def kubectl() -> Path:
    """The program."""
    return tools.kubectl(Cache())


def template(
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "packhorse",
    kube_version: str = "1.31.0",
    chart: Path = CHART,
) -> subprocess.CompletedProcess[str]:
    """What `helm template` says to these values over the chart's own."""
    return _template(yaml.safe_dump(values or {}), release, kube_version, chart)


@functools.cache  # many tests look at the same rendering
def _template(values: str, release: str, kube_version: str, chart: Path) -> subprocess.CompletedProcess[str]:
    command = [str(helm()), "template", release, str(chart), "--namespace", NAMESPACE, "--values", "-"]
    command += ["--kube-version", kube_version]
    return subprocess.run(command, input=values, capture_output=True, text=True, check=False)


def forget() -> None:
    """Render anew from here on."""
    _template.cache_clear()


def notes(values: Mapping[str, Any], scratch: Path) -> str:
    """What is shown after an installation with these values. `scratch` is an empty folder to work in.

    Helm shows notes where it installs, which takes a cluster. So a copy of the chart prints them as an object.
    """
    chart = scratch / "packhorse"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text(
        '{{ dict "kind" "Notes" "metadata" (dict "name" "notes") "text" (tpl (.Files.Get "notes.txt") .) | toYaml }}'
    )
    done = template(values, chart=chart)
    assert done.returncode == 0, done.stderr
    return str(find(parse(done.stdout), "Notes", "notes")["text"])


def render(values: Mapping[str, Any] | None = None, *, release: str = "packhorse") -> list[Object]:
    """The objects of the chart with these values over its own."""
    done = template(values, release=release)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def refusal(values: Mapping[str, Any]) -> str:
    """What Helm says when it refuses these values."""
    done = template(values)
    assert done.returncode != 0, f"{values} were accepted"
    return done.stderr


def kustomize(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    done = subprocess.run([str(kubectl()), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def parse(text: str) -> list[Object]:
    """All objects of a text of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def key(item: Object) -> tuple[str, str, str]:
    """What tells an object from all others of one rendering: kind, namespace and name."""
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def keys(objects: Iterable[Object]) -> set[tuple[str, str]]:
    """Kind and name of each."""
    return {(item["kind"], item["metadata"]["name"]) for item in objects}


def find(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    found = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def hooks(objects: Iterable[Object]) -> list[Object]:
    """Those that Helm makes at some moment only, in the order that it makes them in."""
    found = [item for item in objects if HOOK in item["metadata"].get("annotations", {})]
    return sorted(found, key=lambda item: int(item["metadata"]["annotations"][f"{HOOK}-weight"]))


def lasting(objects: Iterable[Object]) -> list[Object]:
    """Those that are there from the installation to the uninstallation."""
    return [item for item in objects if HOOK not in item["metadata"].get("annotations", {})]


def pod_templates(objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """Name and pod template of everything that makes pods."""
    for item in objects:
        if "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]


def environment(objects: Iterable[Object]) -> dict[str, str]:
    """The operator's variables that have plain values."""
    [container] = find(objects, "Deployment", "packhorse-operator")["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
