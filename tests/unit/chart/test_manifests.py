"""The kustomize manifests make what the chart makes, and the samples are good."""

import re
from copy import deepcopy
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from packhorse.model import RESOURCES, Application, ApplicationPackage, Pool, Task
from tests.unit.chart.rendering import (
    HOOK,
    MANIFESTS,
    Object,
    environment,
    find,
    hooks,
    key,
    kustomize,
    lasting,
    parse,
    render,
)

HELM_ONLY_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")
HELM_ONLY_ANNOTATIONS = ("helm.sh/resource-policy", HOOK, f"{HOOK}-weight", f"{HOOK}-delete-policy")
KUSTOMIZE_ONLY = {("Namespace", "", "packhorse-system")}


def neutral(item: Object) -> Object:
    """An object without what Helm alone adds."""
    item = deepcopy(item)
    metadata = item["metadata"]
    metadata["labels"] = {name: value for name, value in metadata["labels"].items() if name not in HELM_ONLY_LABELS}
    annotations = {
        name: value for name, value in metadata.pop("annotations", {}).items() if name not in HELM_ONLY_ANNOTATIONS
    }
    return {**item, "metadata": {**metadata, "annotations": annotations}}


def test_kustomize_makes_what_helm_makes() -> None:
    by_helm = {key(item): neutral(item) for item in lasting(render())}
    by_kustomize = {key(item): neutral(item) for item in kustomize(MANIFESTS / "install")}
    assert by_kustomize.keys() - by_helm.keys() == KUSTOMIZE_ONLY
    assert by_helm.keys() <= by_kustomize.keys()
    for name, item in by_helm.items():
        assert by_kustomize[name] == item


def test_kustomize_lets_go_of_everything_as_helm_does() -> None:
    """In a namespace of its own: that of Packhorse may be gone."""
    by_helm = [neutral(item) for item in hooks(render())]
    for item in by_helm:
        for holder in (item["metadata"], *item.get("subjects", ())):
            if "namespace" in holder:
                holder["namespace"] = "packhorse-uninstall"
    namespace, *by_kustomize = [neutral(item) for item in kustomize(MANIFESTS / "uninstall")]
    assert key(namespace) == ("Namespace", "", "packhorse-uninstall")
    assert {key(item): item for item in by_kustomize} == {key(item): item for item in by_helm}


@pytest.mark.parametrize(("folder", "name"), [("install", "packhorse-system"), ("uninstall", "packhorse-uninstall")])
def test_the_namespace_keeps_to_the_restricted_standard(folder: str, name: str) -> None:
    namespace = find(kustomize(MANIFESTS / folder), "Namespace", name)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_sample_quota_is_the_charts() -> None:
    [sample] = parse((MANIFESTS / "samples" / "quota.yaml").read_text())
    quota = find(render({"quotas": {"namespaces": ["render"]}}), "ResourceQuota", sample["metadata"]["name"])
    assert sample["spec"] == quota["spec"]


def beside_install(scratch: Path, kustomization: str) -> list[Object]:
    """The objects of a user's own kustomization in a folder beside `install`."""
    for name in ("crds", "manifests/install"):
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).mkdir()
        for file in (MANIFESTS.parent / name).iterdir():
            (scratch / name / file.name).write_bytes(file.read_bytes())
    folder = scratch / "manifests" / "mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(kustomization)
    return kustomize(folder)


def test_the_operator_knows_its_image_also_when_that_is_set_from_outside(tmp_path: Path) -> None:
    overlay = {
        "resources": ["../install"],
        "images": [{"name": "packhorse/packhorse", "newName": "r/p", "newTag": "9"}],
    }
    objects = beside_install(tmp_path, yaml.safe_dump(overlay))
    [container] = find(objects, "Deployment", "packhorse-operator")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == environment(objects)["PACKHORSE_IMAGE"] == "r/p:9"


def test_the_readmes_way_to_link_a_storage_account(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (MANIFESTS / "README.md").read_text(), re.DOTALL)
    objects = beside_install(tmp_path, example)
    linked = render({"azurite": {"enabled": False}, "storage": {"existingSecret": "storage-account"}})
    by_helm = {key(item): neutral(item) for item in lasting(linked)}
    by_kustomize = {key(item): neutral(item) for item in objects if key(item) not in KUSTOMIZE_ONLY}
    for rendering in (by_helm, by_kustomize):
        [container] = rendering["Deployment", "packhorse-system", "packhorse-operator"]["spec"]["template"]["spec"][
            "containers"
        ]
        container["env"].sort(key=itemgetter("name"))  # a patch puts what it changes first
    assert by_kustomize == by_helm


def only(model: type[Any], objects: list[Object]) -> list[Any]:
    return [model.model_validate(item) for item in objects if item["kind"] == model.kind]


def test_the_samples_work_together() -> None:
    objects = kustomize(MANIFESTS / "samples")
    assert {item["kind"] for item in objects} == {resource.kind for resource in RESOURCES}
    assert {item["apiVersion"] for item in objects} == {"packhorse.dev/v1alpha1"}
    [application], [package], [pool] = (only(model, objects) for model in (Application, ApplicationPackage, Pool))
    assert package.spec.application_id == application.id
    assert package.spec.version == application.spec.default_version
    known = {(application.id, None), (application.id, package.spec.version)}
    tasks = only(Task, objects)
    assert len(tasks) == 3
    for holder in (pool, *tasks):
        references = {(item.application_id, item.version) for item in holder.spec.application_package_references}
        assert references <= known
    assert {task.spec.pool for task in tasks} == {pool.metadata.name}
    program = MANIFESTS / "samples" / "hello" / "bin" / "hello"
    assert program.stat().st_mode & 0o111 == 0o111
    assert all("/bin/hello" in task.spec.command_line for task in tasks)


def test_links_in_the_readme_lead_somewhere() -> None:
    for readme in (MANIFESTS / "README.md", MANIFESTS.parent / "helm" / "packhorse" / "README.md"):
        links = re.findall(r"\]\(([^)#]+)\)", readme.read_text())
        assert links
        assert [link for link in links if not (readme.parent / link).exists()] == []
