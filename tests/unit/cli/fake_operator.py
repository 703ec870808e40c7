"""Does with packages what the operator does: gives leave, creates applications, judges what was uploaded, lets go."""

import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.cli.fake_cluster import PROXY, FakeCluster, secret

Json = dict[str, Any]

UPLOAD, DOWNLOAD, VERIFY = "packhorse.dev/upload", "packhorse.dev/download", "packhorse.dev/verify"
FINALIZER = "packhorse.dev/blob"
FOLDER = "https://packhorse-azurite.packhorse-system.svc:10000/packhorse/packages/default/"
_SINCE = "2026-01-01T00:00:00Z"


def blob_path(name: str = "ffmpeg.7.0.2") -> str:
    """Where a package's blob lies, below the account's address."""
    return f"/packhorse/packages/default/{name}.zip"


def leave(name: str = "ffmpeg.7.0.2", hours: float = 4, signature: str = "good", **more: str) -> Json:
    """The data of a Secret by which a package's blob is reached for so long."""
    until = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    host = "https://packhorse-azurite.packhorse-system.svc:10000"
    return secret(f"{host}{blob_path(name)}?se={until}&sp=rcw&sig={signature}", PROXY, **more)


def condition(kind: str, status: str, message: str = "", reason: str = "Said") -> Json:
    """A condition of a status."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": _SINCE,
        "observedGeneration": 1,
    }


def add_package(cluster: FakeCluster, name: str = "ffmpeg.7.0.2", **fields: Any) -> Json:
    """A package as it is in the cluster; ``state``, ``sha256``, ``annotations`` and ``message`` say how."""
    application, _, version = name.partition(".")
    state, sha256 = fields.get("state", "Active"), fields.get("sha256", "ab" * 32)
    status: Json = {"state": state, "conditions": [condition("StorageLinked", "True", FOLDER)]}
    if state == "Active" or fields.get("activated"):
        status |= {"sha256": sha256, "size": 1000, "files": 1, "unpackedSize": 2000, "lastActivationTime": _SINCE}
    ready = "True" if state == "Active" else "False"
    status["conditions"].append(condition("Ready", ready, fields.get("message", ""), fields.get("reason", "Said")))
    cluster.put(
        "applicationpackages",
        name,
        metadata={"annotations": fields.get("annotations", {}), "finalizers": [FINALIZER]},
        spec={"applicationId": application, "version": version, **fields.get("spec", {"sha256": sha256})},
        status=status,
    )
    if cluster.find("applications", application) is None:
        cluster.put("applications", application, spec={"id": application, **fields.get("application", {})})
    return get(cluster, name)


def get(cluster: FakeCluster, name: str = "ffmpeg.7.0.2") -> Json:
    """A package that is there."""
    found = cluster.find("applicationpackages", name)
    assert found is not None
    return found


def zipped(content: bytes = b"#!/bin/sh\necho 7.0.2\n") -> bytes:
    """A ZIP file with one program, the same bytes whenever it is made: the program is dated 1980."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr(zipfile.ZipInfo("bin/ffmpeg"), content)
    return file.getvalue()


class Operator:
    """Reacts to packages.

    Attributes:
        failure: Why every upload is found to be bad; empty where none is.
        data: What the Secret of an upload holds; None for leave that is good.
        limits: What is told of the installation's limits.
        lives: Hours that leave is good for, one entry for each that is given; then 4.
    """

    def __init__(
        self, failure: str = "", data: Json | None = None, limits: Json | None = None, lives: list[float] | None = None
    ) -> None:
        self.failure = failure
        self.data = data
        self.limits = limits or {}
        self.lives = lives or []

    def __call__(self, cluster: FakeCluster, plural: str, item: Json) -> None:
        if plural == "applications" and "deletionTimestamp" in item["metadata"]:
            cluster.remove(plural, item["metadata"]["name"])
        if plural != "applicationpackages":
            return
        name = item["metadata"]["name"]
        if "deletionTimestamp" in item["metadata"]:
            cluster.storage.stored.pop(blob_path(name), None)
            cluster.remove(plural, name)
            return
        self._application(cluster, item)
        annotations = item["metadata"].get("annotations", {})
        self._upload(cluster, name, annotations.get(UPLOAD))
        self._download(cluster, name, annotations.get(DOWNLOAD))
        if VERIFY in annotations:
            self._verify(cluster, name)

    def _application(self, cluster: FakeCluster, item: Json) -> None:
        application = item["spec"]["applicationId"]
        if cluster.find("applications", application.lower()) is None:
            cluster.put("applications", application.lower(), spec={"id": application})

    def _upload(self, cluster: FakeCluster, name: str, annotation: str | None) -> None:
        if annotation == "requested":
            more = {"limits": json.dumps(self.limits)} if self.limits else {}
            hours = self.lives.pop(0) if self.lives else 4
            cluster.put("secrets", f"{name}.upload", data=self.data or leave(name, hours, **more))
        elif annotation:
            datetime.fromisoformat(annotation)
            self._judge(cluster, name)

    def _judge(self, cluster: FakeCluster, name: str) -> None:
        verifying = [condition("Ready", "False", "the blob is being read and verified", "Verifying")]
        cluster.update("applicationpackages", name, status={"state": "Pending", "conditions": verifying})
        data = cluster.storage.blobs.get(blob_path(name))
        if self.failure:
            self._fail(cluster, name, self.failure)
        elif data is None:
            missing = [condition("Ready", "False", "the account has no such blob", "ApplicationPackageBlobNotFound")]
            cluster.update("applicationpackages", name, status={"state": "Pending", "conditions": missing})
        else:
            self._activate(cluster, name, data)

    def _activate(self, cluster: FakeCluster, name: str, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        if get(cluster, name)["spec"].get("sha256", sha256) != sha256:
            self._fail(cluster, name, f"the blob has the SHA-256 {sha256}")
            return
        status = {"state": "Active", "sha256": sha256, "size": len(data), "files": 1, "lastActivationTime": _SINCE}
        ready = [condition("Ready", "True", "", "Activated"), condition("StorageLinked", "True", FOLDER)]
        cluster.update("applicationpackages", name, status={**status, "conditions": ready})
        self._list(cluster, get(cluster, name), len(data))
        if cluster.find("secrets", f"{name}.upload"):
            cluster.remove("secrets", f"{name}.upload")
        cluster.update("applicationpackages", name, metadata={"annotations": {UPLOAD: None}})

    def _list(self, cluster: FakeCluster, item: Json, size: int) -> None:
        """Have its application list a version."""
        version, application = item["spec"]["version"], item["spec"]["applicationId"].lower()
        earlier = (cluster.find("applications", application) or {}).get("status", {}).get("versions", [])
        others = [each for each in earlier if each["version"] != version]
        listed = {"version": version, "size": size, "lastActivationTime": _SINCE}
        cluster.update("applications", application, status={"id": application, "versions": [*others, listed]})

    def _fail(self, cluster: FakeCluster, name: str, why: str) -> None:
        refused = [condition("Ready", "False", why)]
        cluster.update("applicationpackages", name, status={"state": "Failed", "conditions": refused})

    def _download(self, cluster: FakeCluster, name: str, annotation: str | None) -> None:
        if annotation == "requested":
            cluster.put("secrets", f"{name}.download", data=self.data or leave(name))
        elif cluster.find("secrets", f"{name}.download"):
            cluster.remove("secrets", f"{name}.download")

    def _verify(self, cluster: FakeCluster, name: str) -> None:
        data = cluster.storage.blobs.get(blob_path(name), b"")
        reading = [condition("Ready", "True", "the blob is being read and verified: 1 of 2 GB", "Verifying")]
        cluster.update("applicationpackages", name, status={"conditions": reading})
        if hashlib.sha256(data).hexdigest() == get(cluster, name)["status"]["sha256"]:
            now = datetime.now(UTC).isoformat()
            cluster.update("applicationpackages", name, status={"lastVerificationTime": now})
        else:
            self._fail(cluster, name, "the blob was replaced")
        cluster.update("applicationpackages", name, metadata={"annotations": {VERIFY: None}})
