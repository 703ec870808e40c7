"""The rules of the kinds, by the examples of the unit tests: what the API server lets pass, and in which words not.

Nothing is created but what an example is an update of; everything else is a dry run, over one connection.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import ApiException, CustomObjectsApi

from packhorse.model.meta import GROUP, VERSION
from packhorse.model.names import InvalidNameError, check_id, check_version
from tests.cluster import Cluster
from tests.e2e.conftest import make_namespace
from tests.unit.model.rule_examples import EXAMPLES, UNFIT, UNNAMEABLE, Example, Fields, Named

pytestmark = pytest.mark.cluster

APPLY: dict[str, Any] = {
    "field_manager": "packhorse-tests",
    "force": True,
    "_content_type": "application/apply-patch+yaml",
}


class Server:
    """The API server, with the namespaces that the examples take."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = config.new_client_from_config(str(cluster.kubeconfig))
        self._objects = CustomObjectsApi(self._client)
        self._namespaces: list[str] = []
        self._earlier: dict[tuple[str, str], list[Fields]] = {}

    def close(self) -> None:
        """Give back what was taken."""
        self._client.close()
        if self._namespaces:
            self._cluster.run_kubectl("delete", "namespace", *self._namespaces, "--wait=false")

    def refusals(self, example: Example) -> list[str]:
        """Why it would refuse an example, one entry a reason; none where it would accept it."""
        place: dict[str, Any] = {"group": GROUP, "version": VERSION, "plural": example.resource.plural}
        asked: dict[str, Any] = {"dry_run": "All", "field_validation": "Strict", "body": example.manifest()}
        try:
            if example.before is None:
                self._objects.create_namespaced_custom_object(**place, namespace=self._namespace(0), **asked)
            else:
                place |= {"namespace": self._namespace(self._number(example)), "name": example.name}
                self._objects.patch_namespaced_custom_object(**place, body=example.manifest(example.before), **APPLY)
                self._objects.patch_namespaced_custom_object(**place, **asked, **APPLY)
        except ApiException as error:
            status = json.loads(error.body or "{}")
            if status.get("reason") != "Invalid":
                raise
            return [f"{cause['field']}: {cause['message']}" for cause in status["details"]["causes"]]
        return []

    def _number(self, example: Example) -> int:
        """Which namespace: nothing is in the first, and objects of one name that are to be different take one each."""
        known = self._earlier.setdefault((example.resource.kind, example.name), [])
        if example.before not in known:
            known.append(example.before or {})
        return 1 + known.index(example.before or {})

    def _namespace(self, number: int) -> str:
        while len(self._namespaces) <= number:
            self._namespaces.append(make_namespace(self._cluster).name)
        return self._namespaces[number]


@pytest.fixture(scope="module")
def server(installed: Cluster) -> Iterator[Server]:
    """The API server of the cluster that the product is installed on."""
    made = Server(installed)
    yield made
    made.close()


def proposal(text: str) -> str | None:
    """The spelling that a refusal proposes."""
    found = re.search(r"""such as ['"]([^'"]*)['"]""", text)
    return found and found[1]


def check(named: Named) -> None:
    """Refuse it as the command line does."""
    check_id(named.application_id)
    if named.version is not None:
        check_version(named.version)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_is_let_pass_or_refused_for_its_rule_alone(server: Server, example: Example) -> None:
    refusals = server.refusals(example)
    if example.told is None:
        assert refusals == []
    else:
        assert len(refusals) == 1, refusals
        assert example.told in refusals[0]


@pytest.mark.parametrize("named", UNFIT, ids=str)
def test_ids_and_versions_that_are_none_are_refused_by_the_schema(server: Server, named: Named) -> None:
    refusals = server.refusals(named.example)
    assert any(str(named.example.told) in refusal for refusal in refusals), refusals
    assert not any("metadata.name must be" in refusal or proposal(refusal) for refusal in refusals), refusals


@pytest.mark.parametrize("named", UNNAMEABLE, ids=str)
def test_what_gives_no_legal_name_is_refused_with_the_reason_and_a_legal_spelling(server: Server, named: Named) -> None:
    refusals = server.refusals(named.example)
    (told,) = [refusal for refusal in refusals if str(named.example.told) in refusal]
    assert any("RFC 1123" in refusal for refusal in refusals), refusals
    assert not any("metadata.name must be" in refusal for refusal in refusals), refusals
    with pytest.raises(InvalidNameError) as caught:
        check(named)
    assert proposal(told) == proposal(str(caught.value))
