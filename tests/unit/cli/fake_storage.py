"""A storage account for the command line to talk to: blocks and their lists, ranges, marks, and one signature."""

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from aiohttp import web

SIGNATURE = "good"


@dataclass
class Blob:
    """A blob.

    Attributes:
        data: What it holds.
        etag: Another one each time that it is written.
        blocks: Ids and sizes of what it was made of.
    """

    data: bytes
    etag: str
    blocks: dict[str, int] = field(default_factory=dict)


class Counter:
    """Counts, and lets another thread wait for a count."""

    def __init__(self) -> None:
        self._count = 0
        self._condition = threading.Condition()

    def add(self) -> None:
        """Count one more."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait_for(self, count: int) -> bool:
        """Whether so many were counted, now or within half a minute."""
        with self._condition:
            return self._condition.wait_for(lambda: self._count >= count, timeout=30)


class FakeStorage:
    """The account's blobs, and what is asked of it.

    Attributes:
        stored: The blobs, by path.
        blocks: Blocks that no list has named, by path and then by id.
        requests: Method, path and query's ``comp`` of everything that was asked.
        on_block: What to do once when a block arrives, one entry for each block.
        on_range: What to do once when a range is asked for, one entry for each.
        throttle: How many blocks to refuse, asking for patience.
        taken: How many blocks were taken.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Blob] = {}
        self.blocks: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.on_block: list[Callable[[], None]] = []
        self.on_range: list[Callable[[], None]] = []
        self.throttle = 0
        self.taken = Counter()
        self._writes = 0

    @property
    def blobs(self) -> dict[str, bytes]:
        """What is there, by path."""
        return {path: blob.data for path, blob in self.stored.items()}

    def count(self, comp: str) -> int:
        """How many requests there were of this kind."""
        return sum(asked == comp for _, _, asked in self.requests)

    def put(self, path: str, data: bytes) -> None:
        """Write a blob, as another tool does."""
        self._writes += 1
        self.stored[path] = Blob(data, f'"{self._writes}"')

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer a request for a blob."""
        comp = request.query.get("comp", "")
        self.requests.append((request.method, path, comp))
        if request.method == "PUT" and not comp and "x-ms-blob-type" not in request.headers:
            return _error(400, "MissingRequiredHeader")
        if request.query.get("sig") != SIGNATURE:
            return _error(403, "AuthenticationFailed")
        match request.method, comp:
            case "PUT", "block":
                return await self._block(request, path)
            case "PUT", "blocklist":
                return self._commit(path, await request.read())
            case "GET", "blocklist":
                return self._list(path)
            case "GET" | "HEAD", "":
                return self._read(request, path)
        return _error(400, "UnsupportedHttpVerb")

    async def _block(self, request: web.Request, path: str) -> web.Response:
        data = await request.read()
        if self.on_block:
            await asyncio.to_thread(self.on_block.pop(0))  # it may wait: other connections are served meanwhile
        if self.throttle:
            self.throttle -= 1
            return _error(503, "ServerBusy")
        if base64.b64decode(request.headers["Content-MD5"]) != hashlib.md5(data).digest():  # noqa: S324
            return _error(400, "Md5Mismatch")
        name = request.query["blockid"]
        there = self.blocks.setdefault(path, {})
        if any(len(other) != len(name) for other in there):
            return _error(400, "InvalidBlobOrBlock")
        there[name] = data
        self.taken.add()
        return web.Response(status=201, headers={"x-ms-request-id": "1"})

    def _commit(self, path: str, body: bytes) -> web.Response:
        names = [element.text or "" for element in ET.fromstring(body)]  # noqa: S314  # from our own client
        there = self.blocks.pop(path, {})
        before = self._committed(path)
        if any(name not in there and name not in before for name in names):
            return _error(400, "InvalidBlockList")
        found = {name: there[name] if name in there else before[name] for name in names}
        self.put(path, b"".join(found.values()))
        self.stored[path].blocks = {name: len(data) for name, data in found.items()}
        headers = {"ETag": self.stored[path].etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return web.Response(status=201, headers=headers)

    def _committed(self, path: str) -> dict[str, bytes]:
        blob, result, offset = self.stored.get(path), {}, 0
        for name, size in (blob.blocks if blob else {}).items():
            assert blob is not None
            result[name] = blob.data[offset : offset + size]
            offset += size
        return result

    def _list(self, path: str) -> web.Response:
        if path not in self.stored and path not in self.blocks:
            return _error(404, "BlobNotFound")
        root = ET.Element("BlockList")
        kinds = {"CommittedBlocks": self._committed(path), "UncommittedBlocks": self.blocks.get(path, {})}
        for kind, blocks in kinds.items():
            parent = ET.SubElement(root, kind)
            for name, data in blocks.items():
                block = ET.SubElement(parent, "Block")
                ET.SubElement(block, "Name").text = name
                ET.SubElement(block, "Size").text = str(len(data))
        return web.Response(body=ET.tostring(root), content_type="application/xml")

    def _read(self, request: web.Request, path: str) -> web.Response:
        blob = self.stored.get(path)
        if blob is None:
            return _error(404, "BlobNotFound")
        if request.headers.get("If-Match", blob.etag) != blob.etag:
            return _error(412, "ConditionNotMet")
        headers = {
            "ETag": blob.etag,
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
        }
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(blob.data))})
        if self.on_range:
            self.on_range.pop(0)()
        wanted = request.headers.get("x-ms-range") or request.headers["Range"]
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        data = blob.data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(data) - 1}/{len(blob.data)}"
        return web.Response(status=206, body=data, headers=headers)


def _error(status: int, code: str) -> web.Response:
    body = f"<Error><Code>{code}</Code><Message>{code}.</Message></Error>".encode()
    return web.Response(status=status, headers={"x-ms-error-code": code}, body=body, content_type="application/xml")
