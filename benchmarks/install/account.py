"""The storage account: a real Azurite on this machine, over HTTPS as in the product."""

import base64
import datetime
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from benchmarks.install.loads import Load
from packhorse.operator.authority import issue, new_authority
from tests.cluster import azurite
from tests.cluster.cache import Cache

ACCOUNT = "packhorse"
KEY = base64.b64encode(b"a key for benchmarks alone").decode()
CONTAINER = "packages"
START = 30.0
"""Seconds that Azurite has to start."""
LIFETIME = datetime.timedelta(hours=2)


@dataclass
class Account:
    """A running Azurite.

    Attributes:
        authority: File with the certificate that its own is checked by.
        process: Its process id.
        log: File where it notes each request.
    """

    client: Any
    authority: Path
    process: int
    log: Path

    def upload(self, load: Load) -> tuple[str, str]:
        """Store a package. Returns a URL to read it by, and its ETag."""
        blob = self.client.get_blob_client(CONTAINER, f"{load.name}.zip")
        with load.path.open("rb") as file:
            blob.upload_blob(file, overwrite=True, max_concurrency=2)
        signature = generate_blob_sas(
            ACCOUNT,
            CONTAINER,
            f"{load.name}.zip",
            account_key=KEY,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.datetime.now(datetime.UTC) + LIFETIME,
        )
        return f"{blob.url}?{signature}", blob.get_blob_properties().etag

    def requests(self) -> int:
        """How many requests for blobs it has answered so far."""
        return len(re.findall(r'"GET /', self.log.read_text(errors="replace")))

    def cpu(self) -> float:
        """Seconds of CPU time that it has used so far."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_account(cache: Cache, folder: Path) -> Iterator[Account]:
    """Azurite on a port of its own, which ends with the context."""
    authority = new_authority()
    pair = issue(authority, "localhost")
    files = {"ca.crt": authority.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    for name, text in files.items():
        (folder / name).write_text(text)
    options = {
        "--location": folder / "data", "--blobHost": "127.0.0.1", "--blobPort": 0, "--cert": folder / "tls.crt",
        "--key": folder / "tls.key",
    }  # fmt: skip
    words = [str(word) for option in options.items() for word in option]
    log = folder / "azurite.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*azurite.command(azurite.modules(cache, "The benchmark")), *words, "--skipApiVersionCheck",
             "--disableTelemetry"],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}", "NODE_ENV": "production"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        url = f"https://localhost:{_port(process, log)}/{ACCOUNT}"
        client = BlobServiceClient(url, credential=KEY, connection_verify=str(folder / "ca.crt"))
        client.create_container(CONTAINER)
        with client:
            yield Account(client, folder / "ca.crt", process.pid, log)
    finally:
        process.terminate()
        process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"successfully listen\w* on https://[^:]+:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"Azurite did not start: {log.read_text()}")
