"""Storage accounts to test against: Azurite, and web servers that answer as they are told."""

import base64
import io
import os
import re
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packhorse.operator.authority import KeyPair, issue, new_authority
from packhorse.storage.credentials import AccountConfiguration
from tests.cluster import azurite
from tests.cluster.cache import Cache

ACCOUNT = "packhorse"
KEY = base64.b64encode(b"a key for tests alone").decode()


def package(*contents: bytes) -> bytes:
    """A ZIP file with these files, stored as they are."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"bin/{number}", content)
    return data.getvalue()


@dataclass(frozen=True)
class Azurite:
    """A running Azurite.

    Attributes:
        endpoint: With the account's name in its path, as emulators have it.
        authority: Whose certificate checks its own.
    """

    endpoint: str
    authority: KeyPair

    def configuration(self, container: str, key: str | None = KEY) -> AccountConfiguration:
        """How to sign in to it."""
        return AccountConfiguration(ACCOUNT, self.endpoint, container, key, self.authority.certificate)


@contextmanager
def running_azurite(folder: Path) -> Iterator[Azurite]:
    """Azurite with TLS by a private authority, and with sign-in by tokens, on a port of its own."""
    authority = new_authority()
    pair = issue(authority, "localhost")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_text(pair.certificate)
    key.write_text(pair.key)
    options = {
        "--location": folder / "data", "--blobHost": "127.0.0.1", "--blobPort": 0, "--oauth": "basic",
        "--cert": certificate, "--key": key,
    }  # fmt: skip
    words = [str(word) for option in options.items() for word in option]
    program = azurite.command(azurite.modules(Cache(), "Testing against a storage account"))
    process = subprocess.Popen(
        [*program, *words, "--silent", "--skipApiVersionCheck", "--disableTelemetry"],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}", "NODE_ENV": "production"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Azurite(f"https://localhost:{_port(process)}/{ACCOUNT}", authority)
    finally:
        process.terminate()
        process.communicate()


def _port(process: "subprocess.Popen[str]") -> int:
    """Where it listens, once it does."""
    said = []
    for line in process.stdout or ():
        said.append(line)
        if found := re.search(r"successfully listen\w* on https://[^:]+:(\d+)", line):
            return int(found[1])
    raise AssertionError(f"Azurite did not start: {''.join(said)}")


@dataclass(frozen=True)
class Answer:
    """What a server says to a request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    method: str
    path: str
    headers: Mapping[str, str]


class WebServer:
    """A server that answers as it is told.

    Attributes:
        answer: Told the request, it says what to answer.
        requests: What it was asked so far.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Request], Answer] = lambda _request: Answer(404)
        self.requests: list[Request] = []
        this = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                request = Request(self.command, self.path, dict(self.headers.items()))
                this.requests.append(request)
                answer = this.answer(request)
                self.send_response(answer.status)
                headers = {"Content-Length": str(len(answer.body)), **answer.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing of clients that hang up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Its address, with an account's name."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{ACCOUNT}"

    def configuration(self) -> AccountConfiguration:
        """How to sign in to it."""
        return AccountConfiguration(ACCOUNT, self.endpoint, "packages", KEY)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
