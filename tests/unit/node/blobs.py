"""A storage account in miniature: an HTTP server that serves ranges of one blob, and fails as it is told."""

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from packhorse.protocol import Download

ETAG = '"0x8DC0FFEE"'
SIGNATURE = "sig=top-secret"


@dataclass
class Fault:
    """One answer that goes wrong.

    Attributes:
        status: Sent in place of 206, without the blob.
        headers: Sent as well; they replace those of a good answer.
        keep: Bytes of the range that are sent before the connection breaks off.
        silent: Nothing is sent until the server ends.
        trickle: The range is sent byte by byte, each in time and all of them never.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    keep: int | None = None
    silent: bool = False
    trickle: bool = False


@dataclass
class Request:
    """What a client asked for."""

    path: str
    start: int
    stop: int
    if_match: str


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up, which they do on purpose here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class BlobServer:
    """Serves ``content``; each request takes the next of ``faults``, or asks ``decide`` for one."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag = ETAG
        self.faults: list[Fault] = []
        self.decide: Callable[[Request], Fault | None] | None = None
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def download(self, signature: str = SIGNATURE) -> Download:
        url = f"http://127.0.0.1:{self._server.server_port}/container/blob.zip?{signature}"
        return Download(url=url, etag=ETAG, size=len(self.content))

    def next_fault(self, request: Request) -> Fault:
        with self.lock:
            self.requests.append(request)
            if self.faults:
                return self.faults.pop(0)
        return (self.decide and self.decide(request)) or Fault()


def _handler(blob: BlobServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert match is not None
            request = Request(self.path, int(match[1]), int(match[2]) + 1, self.headers["If-Match"])
            fault = blob.next_fault(request)
            if fault.silent:
                blob.ended.wait()
                self.close_connection = True
                return
            status = fault.status or (206 if request.if_match == blob.etag else 412)
            body = blob.content[request.start : request.stop] if status == 206 else b"<Error>top-secret</Error>"
            headers = {"Content-Length": str(len(body)), "ETag": blob.etag}
            if status == 206:
                headers["Content-Range"] = f"bytes {request.start}-{request.stop - 1}/{len(blob.content)}"
            self.send_response(status)
            for name, value in (headers | fault.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if fault.keep is not None:
                body = body[: fault.keep]
                self.close_connection = True
            for byte in body if fault.trickle else b"":
                self.wfile.write(bytes([byte]))
                if blob.ended.wait(0.01):
                    return
            if not fault.trickle:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: pytest shows what failed."""

    return Handler
