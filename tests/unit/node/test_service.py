"""Plain requests to the node service, against a server that has a certificate of the operator's kind."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import certifi
import msgspec
import pytest
import urllib3

from packhorse.node.service import Address, LeaveRefusedError, NodeServiceClient, ServiceError, trust
from packhorse.operator.authority import new_authority
from packhorse.protocol import Detail, Download, Package, PoolPackages, Problem
from tests.unit.node.service import NodeService
from tests.unit.objects import deployed, digest

BLENDER = Package("blender", "2.7", digest("blender"), 7)
PROBLEM = Problem("ApplicationPackageError", "One or more are invalid", (Detail("Cause", "no such version"),))


@pytest.fixture
async def service() -> AsyncIterator[NodeService]:
    async with NodeService().serve() as service:
        yield service


@pytest.fixture
def client(service: NodeService, tmp_path: Path) -> Iterator[NodeServiceClient]:
    client = NodeServiceClient(service.address(tmp_path), service.context)
    yield client
    client.close()


async def test_what_to_install(service: NodeService, client: NodeServiceClient) -> None:
    service.packages = PoolPackages((deployed("blender", "2.7"),), {"A": "1"})
    assert await asyncio.to_thread(client.packages) == service.packages


async def test_leave_to_fetch(service: NodeService, client: NodeServiceClient) -> None:
    service.downloads["2.7"] = Download("https://account/blob?sig=secret", "0x1", 7)
    assert await asyncio.to_thread(client.download, BLENDER) == service.downloads["2.7"]


async def test_no_leave_to_fetch(client: NodeServiceClient) -> None:
    with pytest.raises(LeaveRefusedError, match=r"blender:2\.7 is not for this node") as caught:
        await asyncio.to_thread(client.download, BLENDER)
    assert caught.value.code == "BlobAccessDenied"


async def test_a_problem_is_passed_on(service: NodeService, client: NodeServiceClient) -> None:
    service.packages = (409, msgspec.json.encode(PROBLEM))
    with pytest.raises(ServiceError, match=r"409.*no such version") as caught:
        await asyncio.to_thread(client.packages)
    assert caught.value.problem == PROBLEM


@pytest.mark.parametrize("status", [401, 503])
async def test_what_may_pass_by_itself_is_no_problem_of_the_packages(
    service: NodeService, client: NodeServiceClient, status: int
) -> None:
    service.packages = (status, msgspec.json.encode(PROBLEM))
    with pytest.raises(ServiceError) as caught:
        await asyncio.to_thread(client.packages)
    assert caught.value.busy


@pytest.mark.parametrize("body", [b"<html>", b"", b"{}", b"\xff"])
@pytest.mark.parametrize("status", [200, 502])
async def test_an_answer_that_makes_no_sense(
    service: NodeService, client: NodeServiceClient, status: int, body: bytes
) -> None:
    service.packages = (status, body)
    with pytest.raises(ServiceError, match=f"answered {status} and something unreadable"):
        await asyncio.to_thread(client.packages)


async def test_nobody_answers(tmp_path: Path, service: NodeService) -> None:
    (tmp_path / "token").write_text("t")
    gone = NodeServiceClient(Address("localhost:1", tmp_path / "token"), service.context)
    with pytest.raises(ServiceError, match="localhost:1 does not answer") as caught:
        await asyncio.to_thread(gone.packages)
    assert caught.value.problem is None
    with pytest.raises(LeaveRefusedError, match="does not answer"):
        await asyncio.to_thread(gone.download, BLENDER)


async def test_a_service_that_somebody_else_vouches_for_is_told_nothing(service: NodeService, tmp_path: Path) -> None:
    stranger = ssl.create_default_context(cadata=new_authority().certificate)
    client = NodeServiceClient(service.address(tmp_path), stranger)
    with pytest.raises(ServiceError, match="certificate verify failed"):
        await asyncio.to_thread(client.packages)
    assert service.asked == []


async def test_a_token_that_is_not_there_yet(service: NodeService, tmp_path: Path) -> None:
    client = NodeServiceClient(Address(f"localhost:{service.port}", tmp_path / "none"), service.context)
    with pytest.raises(ServiceError, match="none"):
        await asyncio.to_thread(client.packages)


async def test_trust(service: NodeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's authority and the public ones, for everything in the process."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "ca.crt").write_text(service.authority.certificate)
    context = trust(tmp_path / "ca.crt")
    public = ssl.create_default_context(cafile=certifi.where())
    assert len(context.get_ca_certs()) == len(public.get_ca_certs()) + 1
    client = NodeServiceClient(service.address(tmp_path), context)
    assert await asyncio.to_thread(client.packages) == service.packages
    client.close()

    def anybody() -> int:
        with urllib3.PoolManager(ssl_context=ssl.create_default_context()) as pool:
            return pool.request("GET", f"https://localhost:{service.port}/", retries=False).status

    assert await asyncio.to_thread(anybody) == 404
