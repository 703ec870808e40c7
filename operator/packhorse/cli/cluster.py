"""The API server, as the command line uses it: plain JSON in and out, and errors that people understand."""

import contextlib
import http
import json
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client.rest import RESTClientObject

from packhorse import __version__
from packhorse.cli.errors import ApiError, ConnectionLostError
from packhorse.cli.output import say
from packhorse.cli.refusals import refusal, unreachable

Json = dict[str, Any]

FIELD_MANAGER = "packhorse-cli"
_PAGE = 500  # objects in one answer to a list
_WATCH = 240  # seconds of one watch; well below what load balancers allow
_CONNECT_TIMEOUT = 10.0  # seconds
_READ_TIMEOUT = 60.0
_RECONNECTS = 6


@dataclass(frozen=True)
class Kind:
    """Where the objects of a kind are found."""

    api: str
    plural: str
    singular: str


APPLICATIONS = Kind("apis/packhorse.dev/v1alpha1", "applications", "application")
PACKAGES = Kind("apis/packhorse.dev/v1alpha1", "applicationpackages", "applicationpackage")
POOLS = Kind("apis/packhorse.dev/v1alpha1", "pools", "pool")
TASKS = Kind("apis/packhorse.dev/v1alpha1", "tasks", "task")
SECRETS = Kind("api/v1", "secrets", "secret")
PODS = Kind("api/v1", "pods", "pod")


@dataclass(frozen=True)
class Change:
    """What a watch saw.

    Attributes:
        names: Objects that came, changed or went.
        objects: All objects as they are now, by name. Shared between changes, so not to be kept.
    """

    names: frozenset[str]
    objects: Mapping[str, Json]


@dataclass
class _State:
    """What a watch knows so far; no version: it has to list first."""

    objects: dict[str, Json] = field(default_factory=dict)
    version: str = ""
    known: bool = False


class Cluster:
    """One namespace of one cluster.

    Attributes:
        namespace: Its name.
        configuration: The Kubernetes client's configuration: address, certificates, credentials.
        patience: Seconds to wait for an answer.
    """

    def __init__(self, configuration: Any, namespace: str) -> None:
        self.configuration = configuration
        self.namespace = namespace
        self.patience = _READ_TIMEOUT
        self._pool = RESTClientObject(configuration).pool_manager
        self._date = ""

    def close(self) -> None:
        """Close the connections that are kept for further requests."""
        self._pool.clear()

    def authorization(self) -> str | None:
        """The Authorization header's value, fresh where a plug-in makes it; None with a client certificate."""
        token = self.configuration.auth_settings().get("BearerToken")
        return str(token["value"]) if token else self._basic()

    def _basic(self) -> str | None:
        return self.configuration.get_basic_auth_token() if self.configuration.username else None

    def clock(self) -> str:
        """The API server's time, to the second, RFC 3339, as of its last answer; objects are dated by it, too.

        This machine's own time where no answer told.
        """
        try:
            told = parsedate_to_datetime(self._date)
        except ValueError:
            told = datetime.now(UTC)
        return told.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def url(self, kind: Kind, name: str = "", subresource: str = "", query: Mapping[str, str] | None = None) -> str:
        """Address of a collection, of an object in it or of an object's subresource."""
        path = f"{kind.api}/namespaces/{quote(self.namespace)}/{kind.plural}"
        path += "".join(f"/{quote(part)}" for part in (name, subresource) if part)
        return f"{self.configuration.host}/{path}" + (f"?{urlencode(query)}" if query else "")

    def get(self, kind: Kind, name: str) -> Json:
        """One object.

        Raises:
            ApiError: There is none of this name (status 404), or it may not be read.
        """
        return self._json("GET", kind, name)

    def find(self, kind: Kind, name: str) -> Json | None:
        """One object, or None where there is none of this name."""
        try:
            return self.get(kind, name)
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise

    def objects(self, kind: Kind, selector: str = "") -> list[Json]:
        """All objects of a kind, or those with these labels."""
        return self._list(kind, {"labelSelector": selector} if selector else {})[0]

    def create(self, kind: Kind, manifest: Json) -> Json:
        """Create an object."""
        return self._json("POST", kind, body=manifest, query={"fieldManager": FIELD_MANAGER})

    def apply(self, kind: Kind, manifest: Json, *, force: bool = False, dry_run: bool = False) -> Json:
        """Create or change an object by server-side apply.

        Args:
            kind: Its kind.
            manifest: What it has to have.
            force: Take fields over from other managers.
            dry_run: Only ask whether it would be accepted.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        return self._json(
            "PATCH",
            kind,
            manifest["metadata"]["name"],
            body=manifest,
            content_type="application/apply-patch+yaml",
            query={**query, "dryRun": "All"} if dry_run else query,
        )

    def merge(self, kind: Kind, name: str, patch: Json, *, subresource: str = "") -> Json:
        """Change fields of an object, or of its subresource; None removes one."""
        return self._json(
            "PATCH",
            kind,
            name,
            subresource,
            body=patch,
            content_type="application/merge-patch+json",
            query={"fieldManager": FIELD_MANAGER},
        )

    def delete(self, kind: Kind, name: str, *, resource_version: str = "") -> Json:
        """Delete an object; it may stay for a while, until its finalizers are done.

        Args:
            kind: Its kind.
            name: Its name.
            resource_version: Delete it only if it is as it was then; else ApiError with the reason Conflict.
        """
        body = {"preconditions": {"resourceVersion": resource_version}} if resource_version else None
        return self._json("DELETE", kind, name, body=body)

    def follow(
        self, kind: Kind, *, name: str = "", selector: str = "", deadline: float | None = None
    ) -> Generator[Change]:
        """All objects first, as one change, then each change, until the deadline (of ``time.monotonic``).

        A connection that breaks is made again, with growing pauses, and what was missed meanwhile is found out.

        Raises:
            ConnectionLostError: The cluster did not come back.
            ApiError: The objects may not be read.
        """
        query = {"labelSelector": selector} if selector else {}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        state = _State()
        failures = 0
        while True:
            try:
                for change in self._changes(kind, query, state, deadline):
                    failures = 0
                    yield change
            except ConnectionLostError as error:
                failures += 1
                if not state.known or failures > _RECONNECTS:
                    raise
                say(f"{error.message} Trying again.")
                time.sleep(0.25 * 2**failures)
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _changes(
        self, kind: Kind, query: Mapping[str, str], state: "_State", deadline: float | None
    ) -> Iterator[Change]:
        """List if the changes since the last time are not to be had, then watch once."""
        if not state.version:
            items, state.version = self._list(kind, query)
            listed = {item["metadata"]["name"]: item for item in items}
            names = frozenset(state.objects) | frozenset(listed)
            state.objects.clear()
            state.objects.update(listed)
            state.known = True
            yield Change(names, state.objects)
        for event in self._watch(kind, query, state.version, deadline):
            item = event["object"]
            if event["type"] == "ERROR":
                if item.get("code") != http.HTTPStatus.GONE:
                    raise refusal(item.get("code", 0), json.dumps(item).encode())
                state.version = ""  # the server has forgotten what happened since then
                return
            state.version = item["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            name = item["metadata"]["name"]
            if event["type"] == "DELETED":
                state.objects.pop(name, None)
            else:
                state.objects[name] = item
            yield Change(frozenset([name]), state.objects)

    def _list(self, kind: Kind, query: Mapping[str, str]) -> tuple[list[Json], str]:
        """All objects, page by page, and the resourceVersion to watch from."""
        items: list[Json] = []
        more = ""
        while True:
            page = {**query, "limit": str(_PAGE), **({"continue": more} if more else {})}
            answer = self._json("GET", kind, query=page)
            items += answer.get("items") or []
            more = answer["metadata"].get("continue", "")
            if not more:
                return items, str(answer["metadata"]["resourceVersion"])

    def _watch(self, kind: Kind, query: Mapping[str, str], version: str, deadline: float | None) -> Iterator[Json]:
        left = _WATCH if deadline is None else deadline - time.monotonic()
        seconds = max(1, min(_WATCH, int(left) + 1))
        watch = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        url = self.url(kind, query={**query, **watch})
        with self._open("GET", url, read_timeout=seconds + _READ_TIMEOUT) as response:
            rest = b""
            for piece in _pieces(response):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line:
                        yield json.loads(line)

    def _json(
        self,
        method: str,
        kind: Kind,
        name: str = "",
        subresource: str = "",
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        headers = {"Content-Type": content_type} if body is not None else {}
        data = json.dumps(body).encode() if body is not None else None
        with self._open(method, self.url(kind, name, subresource, query), data=data, headers=headers) as response:
            answer: Json = json.loads(b"".join(_pieces(response)))
            return answer

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout: float | None = None,
    ) -> Iterator[Any]:
        """An answer whose status is good, its body still to be read."""
        sent = {"Accept": "application/json", "User-Agent": f"packhorse/{__version__}", **(headers or {})}
        if authorization := self.authorization():
            sent["Authorization"] = authorization
        try:
            response = self._pool.request(
                method,
                url,
                body=data,
                headers=sent,
                preload_content=False,
                retries=False,
                timeout=urllib3.Timeout(
                    connect=min(_CONNECT_TIMEOUT, self.patience), read=read_timeout or self.patience
                ),
            )
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(self.configuration.host, error) from error
        self._date = response.headers.get("Date", "")
        try:
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                raise refusal(response.status, b"".join(_pieces(response)))
            yield response
        finally:
            response.close()  # a watch that is left early cannot be used again


def _pieces(response: Any) -> Iterator[bytes]:
    """The body as it arrives."""
    try:
        while piece := response.read1(1 << 16):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ConnectionLostError(f"The connection to the cluster broke off: {error}") from error
