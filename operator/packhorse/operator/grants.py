"""Leave to write or to read one blob: a URL with a signature, in a Secret, since whoever knows it can use it."""

import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from packhorse.archive import Limits
from packhorse.cluster.client import SECRET, Client
from packhorse.model import ApplicationPackage
from packhorse.model.meta import API_VERSION
from packhorse.operator.storage import LinkedStorage

RENEW = 3600.0
"""Seconds after which somebody who still waits gets new leave; it holds for four hours."""

_UPLOAD, _DOWNLOAD = "upload", "download"


class Grants:
    """Gives leave where a package's annotations ask for it, and takes it back.

    Args:
        client: To write Secrets by; they need not be read.
        storage: Who signs.
        embedded: ``host:port`` of the embedded storage, empty where there is none.
        proxy: Path on the API server by which it is reached from outside the cluster.
        limits: What a package may hold, for those who judge one before they send it.
        package_size: Most bytes of a ZIP file, 0 for no limit.
    """

    def __init__(
        self, client: Client, storage: LinkedStorage, *, embedded: str, proxy: str, limits: Limits, package_size: int
    ) -> None:
        self._client = client
        self._storage = storage
        self._embedded = embedded
        self._proxy = proxy
        self._limits = json.dumps({**dataclasses.asdict(limits), "packageSize": package_size})
        self._given: dict[tuple[str, str], float] = {}

    async def upload(self, package: ApplicationPackage) -> None:
        """Give leave to write the package's blob. Raises NotLinkedError and UnavailableError."""
        await self._give(package, _UPLOAD, self._storage.writable, {"limits": self._limits})

    async def download(self, package: ApplicationPackage) -> None:
        """Give leave to read the package's blob. Raises NotLinkedError and UnavailableError."""
        await self._give(package, _DOWNLOAD, self._storage.downloadable, {})

    async def end_upload(self, package: ApplicationPackage) -> None:
        """Take the leave to write back."""
        await self._take(package, _UPLOAD)

    async def end_download(self, package: ApplicationPackage) -> None:
        """Take the leave to read back, if we know that we gave it; it ends by itself in the end."""
        if (package.metadata.uid, _DOWNLOAD) in self._given:
            await self._take(package, _DOWNLOAD)

    def forget_all(self) -> None:
        """What was given may be good for nothing any more, such as after a change of keys: give it anew when asked."""
        self._given.clear()

    def forget(self, package: ApplicationPackage) -> None:
        """The package is gone, and its Secrets with it; or it asks no more, and may ask anew."""
        for what in (_UPLOAD, _DOWNLOAD):
            self._given.pop((package.metadata.uid, what), None)

    async def _give(
        self,
        package: ApplicationPackage,
        what: str,
        sign: Callable[[str, str], Awaitable[str]],
        more: dict[str, str],
    ) -> None:
        about = (package.metadata.uid, what)
        if time.monotonic() - self._given.get(about, float("-inf")) < RENEW:
            return
        url = await sign(package.metadata.namespace, package.blob)
        way = {"proxyPath": self._proxy} if self._embedded and urlsplit(url).netloc == self._embedded else {}
        owner = {
            "apiVersion": API_VERSION,
            "kind": package.kind,
            "name": package.metadata.name,
            "uid": package.metadata.uid,
        }
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": _secret_name(package, what),
                "namespace": package.metadata.namespace,
                "labels": {"app.kubernetes.io/managed-by": "packhorse"},
                "ownerReferences": [owner],
            },
            "stringData": {"url": url, **more, **way},
        }
        await self._client.apply(SECRET, body)
        self._given[about] = time.monotonic()

    async def _take(self, package: ApplicationPackage, what: str) -> None:
        await self._client.delete(SECRET, package.metadata.namespace, _secret_name(package, what))
        self._given.pop((package.metadata.uid, what), None)


def _secret_name(package: ApplicationPackage, what: str) -> str:
    return f"{package.metadata.name}.{what}"
