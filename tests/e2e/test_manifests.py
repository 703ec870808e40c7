"""The manifests of ``manifests/``: the API server takes each of them as it is."""

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import ROOT, Namespace

pytestmark = pytest.mark.cluster


def test_kustomize_makes_what_the_api_server_takes(installed: Cluster) -> None:
    folder = ROOT / "manifests" / "install"
    options = ("--server-side", "--dry-run=server", "--force-conflicts", "--field-manager=e2e")
    told = installed.run_kubectl("apply", *options, "-k", folder)
    assert "deployment.apps/packhorse-operator serverside-applied" in told
    assert told.count("customresourcedefinition") == 4


def test_the_samples_are_taken(namespace: Namespace) -> None:
    told = namespace.kubectl("apply", "--dry-run=server", "-k", str(ROOT / "manifests" / "samples"))
    for kind in ("application.", "applicationpackage.", "pool.", "task."):
        assert kind in told
