"""What is refused for everybody at admission: changes of locked packages, and what is beyond a quota."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import Cluster
from tests.cluster.command import CommandError
from tests.e2e.conftest import ROOT, Namespace, eventually, make_namespace, pack, pool, resource, without_operator

pytestmark = pytest.mark.cluster

OTHER = "b" * 64
LOCKED = "application locked does not allow updates, and its version 1.0 was active: it cannot be "
ALLOW = "set spec.allowUpdates: true of application locked"
COLLECTION = "/apis/packhorse.dev/v1alpha1/namespaces/{}/applicationpackages"


def application(name: str, **spec: object) -> dict[str, Any]:
    return resource("Application", name, **spec)


def package(application_id: str, version: str, **spec: object) -> dict[str, Any]:
    name = f"{application_id}.{version}".lower()
    return resource("ApplicationPackage", name, applicationId=application_id, version=version, **spec)


def denied(namespace: Namespace, *args: str, stdin: str | None = None) -> str:
    """The words by which the API server refuses what kubectl asks for."""
    with pytest.raises(CommandError) as caught:
        namespace.kubectl(*args, stdin=stdin)
    assert "denied request" in str(caught.value)
    return str(caught.value)


def lock(namespace: Namespace, folder: Path, name: str = "locked") -> None:
    """An application that allows no updates, with an active version 1.0."""
    namespace.apply(application(name, allowUpdates=False))
    namespace.cli("package", "upload", name, "1.0", str(pack(folder / f"{name}.zip", {"hello": "#!/bin/sh\necho"})))
    eventually(lambda: policy_knows(namespace, f"{name}.1.0"), "the policies know of it")


def policy_knows(namespace: Namespace, name: str) -> bool:
    """Whether the policies have seen that the application is locked: their news may be a moment old."""
    try:
        namespace.kubectl("delete", "phpkg", name, "--dry-run=server")
    except CommandError as error:
        return "denied request" in str(error)
    return False


@pytest.fixture(scope="module")
def locked(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """A namespace with the package locked.1.0, which nobody may change or delete."""
    lock(namespace, tmp_path_factory.mktemp("packages"))
    return namespace


CHANGED = yaml.safe_dump(package("locked", "1.0", sha256=OTHER))
MOVED = yaml.safe_dump(package("locked", "1.0", blob="elsewhere.zip"))
REPLACE = [
    ("apply", ("apply", "-f", "-"), CHANGED),
    ("server-side apply", ("apply", "--server-side", "--force-conflicts", "-f", "-"), CHANGED),
    ("apply of another path", ("apply", "-f", "-"), MOVED),
    ("merge patch", ("patch", "phpkg", "locked.1.0", "--type=merge", "-p", f'{{"spec":{{"sha256":"{OTHER}"}}}}'), None),
    (
        "JSON patch",
        ("patch", "phpkg", "locked.1.0", "--type=json", "-p", '[{"op":"add","path":"/spec/blob","value":"x.zip"}]'),
        None,
    ),
    ("a request to upload", ("annotate", "phpkg", "locked.1.0", "packhorse.dev/upload=requested"), None),
    ("an upload that ended", ("annotate", "phpkg", "locked.1.0", "packhorse.dev/upload=2026-01-01T00:00:00Z"), None),
]
DELETE = [
    ("delete", ("delete", "phpkg", "locked.1.0")),
    ("delete, orphaning", ("delete", "phpkg", "locked.1.0", "--cascade=orphan")),
    ("delete with no grace", ("delete", "phpkg", "locked.1.0", "--force", "--grace-period=0")),
    ("delete by kind and label", ("delete", "phpkg", "-l", "!no-such-label")),
    ("delete all", ("delete", "phpkg", "--all")),
]


@pytest.mark.parametrize(("args", "stdin"), [case[1:] for case in REPLACE], ids=[case[0] for case in REPLACE])
def test_a_locked_package_is_not_replaced(locked: Namespace, args: Sequence[str], stdin: str | None) -> None:
    words = denied(locked, *args, stdin=stdin)
    assert f"{LOCKED}replaced; upload it as a new version, or {ALLOW}" in words


@pytest.mark.parametrize("args", [case[1] for case in DELETE], ids=[case[0] for case in DELETE])
def test_a_locked_package_is_not_deleted(locked: Namespace, args: Sequence[str]) -> None:
    assert f"{LOCKED}deleted; {ALLOW}" in denied(locked, *args)


def test_a_locked_package_is_not_deleted_with_its_collection(locked: Namespace) -> None:
    assert f"{LOCKED}deleted; {ALLOW}" in denied(locked, "delete", "--raw", COLLECTION.format(locked.name))


def test_kubectl_replace_by_force_does_not_get_past_the_lock(locked: Namespace) -> None:
    before = locked.get("phpkg", "locked.1.0")["metadata"]["uid"]
    assert f"{LOCKED}deleted" in denied(locked, "replace", "--force", "-f", "-", stdin=CHANGED)
    assert locked.get("phpkg", "locked.1.0")["metadata"]["uid"] == before


@pytest.mark.alone
def test_the_lock_holds_while_the_operator_is_away(locked: Namespace, installed: Cluster) -> None:
    with without_operator(installed):
        for _, args, stdin in REPLACE:
            assert f"{LOCKED}replaced" in denied(locked, *args, stdin=stdin)
        for _, deletion in DELETE:
            assert f"{LOCKED}deleted" in denied(locked, *deletion)


def test_what_changes_no_content_is_let_through(locked: Namespace) -> None:
    digest = locked.get("phpkg", "locked.1.0")["status"]["sha256"]
    locked.kubectl("label", "phpkg", "locked.1.0", "team=render")
    locked.kubectl("annotate", "phpkg", "locked.1.0", "packhorse.dev/verify=2026-01-01T00:00:00Z")
    # the digest that it has anyway, and the path that is the default
    locked.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-",
                   stdin=yaml.safe_dump(package("locked", "1.0", sha256=digest, blob="locked.1.0.zip")))  # fmt: skip
    eventually(lambda: locked.get("phpkg", "locked.1.0")["status"]["state"] == "Active", "it is active as before")
    spec = locked.get("phpkg", "locked.1.0")["spec"]
    assert (spec["sha256"], spec["blob"]) == (digest, "locked.1.0.zip")
    unpin = ("patch", "phpkg", "locked.1.0", "--type=json", "-p", '[{"op":"remove","path":"/spec/sha256"}]')
    assert f"{LOCKED}replaced" in denied(locked, *unpin)


def test_versions_that_were_never_active_are_not_locked(locked: Namespace, tmp_path: Path) -> None:
    locked.apply(package("locked", "2.0", sha256=OTHER))
    locked.apply(package("locked", "2.0", sha256="c" * 64))
    locked.kubectl("delete", "phpkg", "locked.2.0")
    locked.cli("package", "upload", "locked", "3.0", str(pack(tmp_path / "new.zip", {"new": "content"})))
    assert locked.get("phpkg", "locked.3.0")["status"]["state"] == "Active"


def test_other_applications_and_namespaces_are_untouched(locked: Namespace, installed: Cluster, tmp_path: Path) -> None:
    other = make_namespace(installed)
    content = str(pack(tmp_path / "free.zip", {"hello": "#!/bin/sh"}))
    for where, name in ((locked, "free"), (other, "locked")):
        where.cli("package", "upload", name, "1.0", content)
        where.kubectl("patch", "phpkg", f"{name}.1.0", "--type=merge", "-p", '{"spec":{"blob":"elsewhere.zip"}}')
        where.kubectl("delete", "phpkg", f"{name}.1.0")
    installed.run_kubectl("delete", "namespace", other.name, "--wait=false")


def test_updates_can_be_allowed_again(namespace: Namespace, tmp_path: Path) -> None:
    lock(namespace, tmp_path, "strict")
    namespace.kubectl("patch", "phapp", "strict", "--type=merge", "-p", '{"spec":{"allowUpdates":true}}')
    eventually(lambda: not policy_knows(namespace, "strict.1.0"), "the policies know that it is not locked")
    namespace.kubectl("delete", "phpkg", "strict.1.0")


def test_an_application_that_is_deleted_locks_nothing(namespace: Namespace, tmp_path: Path) -> None:
    lock(namespace, tmp_path, "leaving")
    namespace.kubectl("delete", "phapp", "leaving", "--wait=false")
    eventually(lambda: not policy_knows(namespace, "leaving.1.0"), "the policies know that it is not locked")
    namespace.kubectl("delete", "phpkg", "leaving.1.0")
    namespace.kubectl("wait", "phapp/leaving", "--for=delete", "--timeout=120s")


def test_a_namespace_with_locked_packages_is_deleted(installed: Cluster, tmp_path: Path) -> None:
    doomed = make_namespace(installed)
    lock(doomed, tmp_path)
    installed.run_kubectl("delete", "namespace", doomed.name, "--timeout=120s")


def test_an_application_has_as_many_packages_as_the_quota_says(namespace: Namespace) -> None:
    namespace.apply(application("many"), *(package("many", str(number)) for number in range(40)))
    eventually(lambda: namespace.get("phapp", "many").get("status", {}).get("packages") == 40, "all are counted")

    def refused() -> str:
        try:
            namespace.kubectl(
                "create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(package("many", "one-more"))
            )
        except CommandError as error:
            return str(error)
        return ""

    words = eventually(refused, "one more is refused")
    assert "application many has 40 packages, and the quota packagesPerApplication is 40" in words
    assert "quotas.packagesPerApplication" in words
    assert one_more_is_refused_by_every_client(namespace)
    namespace.kubectl("delete", "phpkg", "many.39")
    eventually(lambda: not refused(), "there is room again")
    namespace.apply(package("many", "one-more"))


def one_more_is_refused_by_every_client(namespace: Namespace) -> bool:
    body = yaml.safe_dump(package("MANY", "one-more"))
    for command in (("create",), ("apply",), ("apply", "--server-side")):
        assert "the quota packagesPerApplication is 40" in denied(namespace, *command, "-f", "-", stdin=body)
    return True


def references(count: int) -> list[dict[str, str]]:
    return [{"applicationId": f"app-{number}"} for number in range(count)]


def test_a_pool_refers_to_as_many_packages_as_the_quota_says(namespace: Namespace) -> None:
    words = "refers to 11 packages, and the quota referencesPerPool is 10"
    assert f"pool greedy {words}" in namespace.refused(pool("greedy", 0, "debian:bookworm-slim", references(11)))
    namespace.apply(pool("modest", 0, "debian:bookworm-slim", references(10)))
    answer = namespace.refused(pool("modest", 0, "debian:bookworm-slim", references(11)))
    assert f"pool modest {words}; leave some out, or have the quota raised (chart: quotas.referencesPerPool)" in answer
    namespace.kubectl("scale", "phpool", "modest", "--replicas=0")
    namespace.kubectl("delete", "phpool", "modest")


def test_a_namespace_has_as_many_objects_as_its_quota_says(installed: Cluster) -> None:
    namespace = make_namespace(installed)
    sample = yaml.safe_load((ROOT / "manifests" / "samples" / "quota.yaml").read_text())
    sample["spec"]["hard"] = dict.fromkeys(sample["spec"]["hard"], "1")
    namespace.apply(sample)
    eventually(lambda: namespace.get("quota", "packhorse").get("status", {}).get("used"), "the quota counts")
    namespace.apply(application("first"), package("first", "1"))
    for body in (application("second"), package("first", "2")):
        assert "exceeded quota: packhorse" in namespace.refused(body)
    assert len(namespace.list("phpkg")) == len(namespace.list("phapp")) == 1
    installed.run_kubectl("delete", "namespace", namespace.name, "--wait=false")


@pytest.mark.parametrize("name", ["allow-updates", "package-quota", "reference-quota"])
def test_the_api_server_finds_no_fault_with_the_expressions(installed: Cluster, name: str) -> None:
    def checked() -> dict[str, Any]:
        policy = json.loads(
            installed.run_kubectl("get", "validatingadmissionpolicy", f"packhorse-{name}", "-o", "json")
        )
        status: dict[str, Any] = policy.get("status", {})
        return status if status.get("observedGeneration") == policy["metadata"]["generation"] else {}

    status = eventually(checked, "the policy's expressions are checked")
    assert status.get("typeChecking", {}).get("expressionWarnings", []) == []
