"""The transfer against Azurite: through an API server, as from a laptop, and directly, as to an account of Azure."""

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from aiohttp import web
from azure.storage.blob import BlobServiceClient, generate_blob_sas

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import PROXY, FakeCluster, secret
from tests.unit.cli.fake_operator import UPLOAD, Operator, add_package, get
from tests.unit.cli.fake_storage import FakeStorage
from tests.unit.storage.servers import ACCOUNT, KEY, Azurite, running_azurite

NAME = "default/ffmpeg.7.0.2.zip"
_HOP = {"host", "authorization", "content-length", "transfer-encoding", "connection", "keep-alive", "content-encoding"}


class Passage(FakeStorage):
    """Passes everything on to Azurite, and takes it for the storage that the operator looks into.

    Attributes:
        interrupt_after: Interrupt the command when so many blocks were passed on; None for never.
    """

    def __init__(self, azurite: Azurite, authority: Path, container: str) -> None:
        super().__init__()
        parts = urlsplit(azurite.endpoint)
        self._host = f"{parts.scheme}://{parts.netloc}"
        self._http = urllib3.PoolManager(ca_certs=str(authority), maxsize=8)
        self.service = BlobServiceClient(azurite.endpoint, credential=KEY, connection_verify=str(authority))
        self.container = self.service.get_container_client(container)
        self.container.create_container()
        self.interrupt_after: int | None = None
        self._passed = 0

    @property
    def blobs(self) -> dict[str, bytes]:
        """What is there, by the path that the operator thinks of."""
        return {
            f"/packhorse/packages/{blob.name}": self.container.download_blob(blob.name).readall()
            for blob in self.container.list_blobs()
        }

    def leave(self, permissions: str = "rcw", proxy: str | None = PROXY) -> dict[str, Any]:
        """The data of a Secret for the package's blob."""
        signature = generate_blob_sas(
            account_name=ACCOUNT,
            container_name=self.container.container_name,
            blob_name=NAME,
            account_key=KEY,
            permission=permissions,
            expiry=datetime.now(UTC) + timedelta(hours=4),
        )
        return secret(f"{self.container.get_blob_client(NAME).url}?{signature}", proxy)

    async def answer(self, request: web.Request, path: str) -> web.StreamResponse:
        """Ask Azurite."""
        comp = request.query.get("comp", "")
        self.requests.append((request.method, path, comp))
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"{self._host}{path}?{request.rel_url.raw_query_string}"
        found = await asyncio.to_thread(
            self._http.request, request.method, url, body=body or None, headers=headers, decode_content=False
        )
        kept = {name: value for name, value in found.headers.items() if name.lower() not in _HOP}
        self._passed += comp == "block"
        if self._passed == self.interrupt_after:
            self.interrupt_after = None
            os.kill(os.getpid(), signal.SIGINT)
        if request.method == "HEAD":
            kept["Content-Length"] = found.headers["Content-Length"]
        return web.Response(status=found.status, headers=kept, body=found.data)

    def close(self) -> None:
        """Close its connections."""
        self._http.clear()
        self.container.close()
        self.service.close()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def authority(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Azurite's, which the system is made to trust."""
    path = tmp_path / "authority.crt"
    path.write_text(azurite.authority.certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


@pytest.fixture
def storage(
    azurite: Azurite, authority: Path, cluster: FakeCluster, request: pytest.FixtureRequest
) -> Iterator[Passage]:
    container = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:63].strip("-")
    passage = Passage(azurite, authority, container)
    cluster.storage = passage
    yield passage
    passage.close()


def make_folder(place: Path) -> Path:
    (place / "ffmpeg").mkdir()
    (place / "ffmpeg" / "ffmpeg").write_bytes(os.urandom(60_000_000))
    return place / "ffmpeg"


@pytest.mark.usefixtures("abandoned")
def test_upload_is_interrupted_goes_on_and_is_downloaded(
    storage: Passage, cluster: FakeCluster, packhorse: Run, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path)
    cluster.react(Operator(data=storage.leave()))
    storage.interrupt_after = 3

    interrupted = packhorse("package", "upload", "ffmpeg", "7.0.2", str(folder))
    assert interrupted.exit_code == 130
    assert get(cluster)["metadata"]["annotations"][UPLOAD] == "requested"
    assert storage.blobs == {}

    finished = packhorse("package", "upload", "ffmpeg", "7.0.2", str(folder))
    assert finished.exit_code == 0, finished.output
    assert "Going on with an earlier upload: " in finished.stderr

    downloaded = packhorse("package", "download", "ffmpeg", "7.0.2", "-f", str(tmp_path / "again.zip"))
    assert downloaded.exit_code == 0, downloaded.output
    digest = hashlib.sha256((tmp_path / "again.zip").read_bytes()).hexdigest()
    assert digest == get(cluster)["status"]["sha256"]
    assert packhorse("package", "verify", "ffmpeg", "7.0.2", str(folder)).exit_code == 0


def test_blocks_of_another_tool_do_not_stand_in_the_way(
    storage: Passage, cluster: FakeCluster, packhorse: Run, tmp_path: Path
) -> None:
    cluster.react(Operator(data=storage.leave()))
    blob = storage.container.get_blob_client(NAME)
    blob.upload_blob(b"what is there")
    blob.stage_block("0123456789abcdef0123456789abcdef", b"left by another tool")
    add_package(cluster)

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(make_folder(tmp_path)), "--replace")

    assert result.exit_code == 0, result.output
    (content,) = storage.blobs.values()
    assert hashlib.sha256(content).hexdigest() == get(cluster)["spec"]["sha256"]


def test_account_is_reached_directly(storage: Passage, cluster: FakeCluster, packhorse: Run, tmp_path: Path) -> None:
    cluster.react(Operator(data=storage.leave(proxy=None)))

    uploaded = packhorse("package", "upload", "ffmpeg", "7.0.2", str(make_folder(tmp_path)))
    downloaded = packhorse("package", "download", "ffmpeg", "7.0.2", "-f", str(tmp_path / "again.zip"))

    assert uploaded.exit_code == 0, uploaded.output
    assert downloaded.exit_code == 0, downloaded.output
    assert storage.requests == []


@pytest.mark.parametrize("proxy", [PROXY, None])
def test_leave_without_the_right_is_told_without_its_signature(
    proxy: str | None, storage: Passage, cluster: FakeCluster, packhorse: Run, tmp_path: Path
) -> None:
    cluster.react(Operator(data=storage.leave("r", proxy)))

    result = packhorse("package", "upload", "ffmpeg", "7.0.2", str(make_folder(tmp_path)))

    assert result.exit_code == 1
    assert "refuses the upload: AuthorizationPermissionMismatch (HTTP 403)" in result.stderr
    assert "sig=" not in result.output
