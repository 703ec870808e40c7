"""An API server in memory, behind the real client's methods: objects, resource versions, patches, watches, failures."""

import asyncio
import base64
import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

from packhorse.cluster.client import ApiError, ApiUnavailableError, Client, Kind

Event = tuple[str, Kind, dict[str, Any]]
"""ADDED, MODIFIED or DELETED; of which kind; the object."""

_PATH = re.compile(
    r"/apis?/(?P<version>[^/]+(?:/v[^/]+)?)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status|scale))?"
)


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386: ``old`` after the patch."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FakeApi(Client):
    """A client with its API server.

    Attributes:
        latency: Seconds that the next request takes each way.
        refuse: Asked at each request (method, path): an error to raise in place of carrying it out.
        lose: Asked at each request that was carried out: whether its answer gets lost.
        requests: Every request that reached the server: method and path.
        reviews: The status of a TokenReview by token.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[Kind, str, str], dict[str, Any]] = {}
        self.latency: Callable[[], float] = lambda: 0.0
        self.refuse: Callable[[str, str], Exception | None] = lambda method, path: None
        self.lose: Callable[[str, str], bool] = lambda method, path: False
        self.requests: list[tuple[str, str]] = []
        self.reviews: dict[str, dict[str, Any]] = {}
        self._version = 1000
        self._watchers: list[Callable[[Event], None]] = []

    async def close(self) -> None:
        """Nothing is open."""

    # --- what tests do to it -------------------------------------------------------------------------------------

    def watch(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``watcher`` with every event from now on, until the returned function is called."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def put(self, kind: Kind, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object or replace it, as somebody else."""
        key = (kind, raw["metadata"]["namespace"], raw["metadata"]["name"])
        return self._store(key, copy.deepcopy(dict(raw)))

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object, as somebody else."""
        raw = self.objects.pop((kind, namespace, name))
        self._version += 1
        raw["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", kind, raw)

    def delete_softly(self, kind: Kind, namespace: str, name: str, *, since: str = "2026-05-01T12:00:00Z") -> None:
        """Delete an object as a user does: one with finalizers stays until they are gone."""
        raw = self.objects[kind, namespace, name]
        if not raw["metadata"].get("finalizers"):
            self.remove(kind, namespace, name)
            return
        self._store((kind, namespace, name), {**raw, "metadata": {**raw["metadata"], "deletionTimestamp": since}})

    def change(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        """Merge a patch into an object, as a user does."""
        self._patch((kind, namespace, name), patch, status=False)

    def all(self, kind: Kind) -> list[dict[str, Any]]:
        """Every object of a kind."""
        return [raw for (found, _, _), raw in self.objects.items() if found == kind]

    # --- what the client asks ------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        await asyncio.sleep(self.latency())
        error = self.refuse(method, path)
        if error is not None:
            raise error
        self.requests.append((method, path))
        if query and query.get("dryRun") == "All":
            return body
        answer = copy.deepcopy(self._carry_out(method, path, copy.deepcopy(body), content_type))
        lost = self.lose(method, path)
        await asyncio.sleep(self.latency())
        if lost:
            raise ApiUnavailableError(f"{method} {path}: the answer is lost")
        return answer

    def _carry_out(self, method: str, path: str, body: Any, content_type: str) -> Any:
        match = _PATH.fullmatch(path)
        assert match is not None, path
        namespace, plural, name = match["namespace"] or "", match["plural"], match["name"] or ""
        if plural == "tokenreviews":
            return {"status": self.reviews.get(body["spec"]["token"], {"authenticated": False})}
        kind = Kind(match["version"], plural)
        key = (kind, namespace, name)
        match method:
            case "GET" if not name:
                items = [raw for raw in self.all(kind) if namespace in {"", raw["metadata"]["namespace"]}]
                return {"items": items, "metadata": {}}
            case "GET":
                return self._find(key)
            case "POST":
                return self._create((kind, namespace, body["metadata"]["name"]), body)
            case "DELETE":
                self._delete(key, body)
                return None
            case "PATCH" if "apply" in content_type:
                return self._apply(key, body)
            case "PATCH" if match["part"] == "scale":
                return self._patch(key, {**body, "spec": {"targetNodes": body["spec"]["replicas"]}}, status=False)
            case "PATCH":
                return self._patch(key, body, match["part"] == "status")
        raise AssertionError(f"{method} {path}")

    def _find(self, key: tuple[Kind, str, str]) -> dict[str, Any]:
        if key not in self.objects:
            raise ApiError(404, "NotFound", f'{key[0].plural} "{key[2]}" not found')
        return self.objects[key]

    def _create(self, key: tuple[Kind, str, str], body: dict[str, Any]) -> dict[str, Any]:
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f'{key[0].plural} "{key[2]}" already exists')
        for name, text in body.pop("stringData", {}).items():
            body.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
        return self._store(key, body)

    def _delete(self, key: tuple[Kind, str, str], body: Mapping[str, Any]) -> None:
        self._find(key)
        wanted = body.get("preconditions", {}).get("uid")
        if wanted not in {None, self._find(key)["metadata"]["uid"]}:
            raise ApiError(409, "Conflict", "the UID in the precondition does not match the UID in record")
        self.remove(*key)

    def _apply(self, key: tuple[Kind, str, str], body: dict[str, Any]) -> dict[str, Any]:
        if key not in self.objects:
            return self._create(key, body)
        body.pop("stringData", None)
        return self._patch(key, body, status=False)

    def _patch(self, key: tuple[Kind, str, str], body: Mapping[str, Any], status: bool) -> dict[str, Any]:
        """As a real API server does: a patch of the status changes that alone, and minds no uid."""
        old = self._find(key)
        expected = body.get("metadata", {}).get("resourceVersion")
        if expected not in {None, old["metadata"]["resourceVersion"]}:
            raise ApiError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {key[0].plural} "{key[2]}": the object has been modified;'
                " please apply your changes to the latest version and try again",
            )
        uid = body.get("metadata", {}).get("uid")
        if not status and uid not in {None, old["metadata"]["uid"]}:
            raise ApiError(422, "Invalid", f'"{key[2]}" is invalid: metadata.uid: Invalid value: field is immutable')
        if status:
            new = {**old, "status": merged(old.get("status", {}), body.get("status", {}))}
        else:
            new = {**merged(old, body), **({"status": old["status"]} if "status" in old else {})}
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"] = {**new["metadata"], "generation": new["metadata"]["generation"] + 1}
        stored = self._store(key, new)
        if "deletionTimestamp" in stored["metadata"] and not stored["metadata"].get("finalizers"):
            self.remove(*key)
        return stored

    def _store(self, key: tuple[Kind, str, str], raw: dict[str, Any]) -> dict[str, Any]:
        old = self.objects.get(key)
        self._version += 1
        given = {"uid": f"uid-{self._version}", "generation": 1, "creationTimestamp": f"2026-05-01T11:{self._version}Z"}
        raw["metadata"] = {**given, **raw["metadata"], "resourceVersion": str(self._version)}
        self.objects[key] = raw
        self._tell("ADDED" if old is None else "MODIFIED", key[0], raw)
        return raw

    def _tell(self, event: str, kind: Kind, raw: Mapping[str, Any]) -> None:
        for watcher in tuple(self._watchers):
            watcher((event, kind, copy.deepcopy(dict(raw))))
