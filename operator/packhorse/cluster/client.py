"""The Kubernetes API as plain JSON, by the official client's asyncio transport.

The official client's typed models cost memory and time and know nothing of our kinds; what is used of it is what is
hard to get right: finding the API server, TLS, and credentials that rotate.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from packhorse.model import Resource
from packhorse.model.meta import API_VERSION

FIELD_MANAGER = "packhorse"
PAGE = 500
"""Objects a page when listing."""

_APPLY = "application/apply-patch+yaml"
_SURROGATES = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


@dataclass(frozen=True)
class Kind:
    """A kind of object and where the API server has it, such as ``apps/v1`` and ``statefulsets``."""

    api_version: str
    plural: str
    namespaced: bool = field(default=True, compare=False)

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of a collection, of one object, or of a part of it."""
        parts = ["/api" if "/" not in self.api_version else "/apis", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


def kind_of(resource: type[Resource]) -> Kind:
    """The kind of one of our own resources."""
    return Kind(API_VERSION, resource.plural)


NAMESPACE = Kind("v1", "namespaces", namespaced=False)
POD = Kind("v1", "pods")
SECRET = Kind("v1", "secrets")
CONFIG_MAP = Kind("v1", "configmaps")
VOLUME_CLAIM = Kind("v1", "persistentvolumeclaims")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "networkpolicies")
STATEFUL_SET = Kind("apps/v1", "statefulsets")
EVENT = Kind("events.k8s.io/v1", "events")
LEASE = Kind("coordination.k8s.io/v1", "leases")
TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "tokenreviews", namespaced=False)


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: HTTP status.
        reason: Kubernetes' reason, such as NotFound or Conflict.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})")
        self.status = status
        self.reason = reason

    @property
    def not_found(self) -> bool:
        """There is no such object."""
        return self.status == 404


class ApiUnavailableError(Exception):
    """The API server did not answer; the request may or may not have been carried out."""


class Client:
    """Requests to the API server. Close it after use.

    Raises (all methods): ApiError, ApiUnavailableError.
    """

    def __init__(self, api: ApiClient, timeout: float = 15.0) -> None:
        self._api = api
        self._timeout = timeout

    @classmethod
    async def connect(cls, *, connections: int = 100) -> "Client":
        """By the service account inside a cluster, else by the kubeconfig."""
        configuration = Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
            # no proxy leads to the API server from inside, and looking for one costs a file a request
            configuration.client_session_kwargs = {"trust_env": False}
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        configuration.connection_pool_maxsize = connections
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Make one request and return the decoded answer."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        if content_type == _APPLY:
            # with a charset the client sends the body as it is, else as JSON
            headers["Content-Type"], body = f"{_APPLY}; charset=utf-8", as_yaml(body)
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        try:
            response = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=aiohttp.ClientTimeout(total=self._timeout)
            )
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailableError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if response.status >= 300:
            raise _error(response.status, data)
        return msgspec.json.decode(data) if data else None

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        return await self.request("GET", kind.path(namespace, name))  # type: ignore[no-any-return]

    async def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """One object, or None where there is none."""
        try:
            return await self.get(kind, namespace, name)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncIterator[dict[str, Any]]:
        """All objects of a kind, in a namespace or in all, page by page."""
        query = {"limit": str(PAGE)}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self.request("GET", kind.path(namespace), query=query)
            for item in page["items"]:
                yield item
            if not page["metadata"].get("continue"):
                return
            query["continue"] = page["metadata"]["continue"]

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; one that exists already is an ApiError with the reason AlreadyExists."""
        path = kind.path(namespace)
        return await self.request("POST", path, query={"fieldManager": FIELD_MANAGER}, body=body)  # type: ignore[no-any-return]

    async def replace(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; a resourceVersion in it that is not the current one is an ApiError, reason Conflict."""
        path = kind.path(body["metadata"]["namespace"], body["metadata"]["name"])
        return await self.request("PUT", path, query={"fieldManager": FIELD_MANAGER}, body=body)  # type: ignore[no-any-return]

    async def apply(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of an object of ours: what we set is ours, whoever had it."""
        path = kind.path(body["metadata"]["namespace"], body["metadata"]["name"])
        return await self.request(  # type: ignore[no-any-return]
            "PATCH",
            path,
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=body,
            content_type=_APPLY,
        )

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], *, subresource: str | None = None
    ) -> dict[str, Any]:
        """Merge a patch into an object, or into a part of it such as ``status``."""
        return await self.request(  # type: ignore[no-any-return]
            "PATCH",
            kind.path(namespace, name, subresource),
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type="application/merge-patch+json",
        )

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete an object; nothing happens where there is none, or another one than ``uid``."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", kind.path(namespace, name), body=body)
        except ApiError as error:
            if not error.not_found and not (uid and error.status == 409):
                raise


def as_yaml(body: Any) -> str:
    """An object as YAML, which is JSON but for one thing.

    Where JSON takes two escapes for one character, as for emoji, YAML takes one, and refuses the two.
    """

    def join(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        return f"\\U{0x10000 + ((int(match[1], 16) & 0x3FF) << 10) + (int(match[2], 16) & 0x3FF):08x}"

    return _SURROGATES.sub(join, json.dumps(body))


def _error(status: int, data: bytes) -> ApiError:
    try:
        body = msgspec.json.decode(data)
        return ApiError(status, body.get("reason", ""), body.get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        return ApiError(status, "", data[:200].decode(errors="replace"))
