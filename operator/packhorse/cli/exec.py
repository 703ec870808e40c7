"""Running a command in a node's container, over a WebSocket, as ``kubectl exec`` does: binary-safe, memory bounded."""

import http
import json
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import websocket
from kubernetes.stream.ws_client import create_websocket

from packhorse.cli.cluster import PODS, Cluster
from packhorse.cli.errors import ApiError, CliError, ConnectionLostError
from packhorse.cli.refusals import refusal


class NotStartedError(CliError):
    """The pod is there, but its container does not run, or has no such program."""


class Channel(IntEnum):
    """First byte of a message: what its rest is."""

    STDOUT = 1
    STDERR = 2
    STATUS = 3


@dataclass(frozen=True)
class Frame:
    """Some output of the command."""

    channel: Channel
    data: bytes


class Exec:
    """A running command. Leaving the context closes its standard input and the connection.

    Attributes:
        exit_code: None until the command's end was seen.
    """

    def __init__(self, cluster: Cluster, node: str, container: str, command: Sequence[str], *, stdin: bool):
        """Start it.

        Args:
            cluster: Where the pod is.
            node: Name of the pod.
            container: Name of the container in it.
            command: Program and arguments; no shell is added.
            stdin: Whether the command gets a standard input, which stays open as long as this connection: with it, the
                command can notice that nobody listens any more.

        Raises:
            ApiError: There is no such pod, or executing in it is not allowed.
            ConnectionLostError: The cluster or the node does not answer.
        """
        flags = {"stdout": "1", "stderr": "1", "tty": "0", "stdin": "1" if stdin else "0"}
        query = urlencode([("container", container), *flags.items(), *(("command", word) for word in command)])
        self.exit_code: int | None = None
        self._failure = ""
        self._socket = _open(cluster, f"{cluster.url(PODS, node, 'exec')}?{query}")

    def __enter__(self) -> "Exec":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._socket.close(timeout=1)
        self._socket.shutdown()  # close() alone leaves it open after an error

    @property
    def ended(self) -> bool:
        """Whether the command's end was seen."""
        return self.exit_code is not None

    def frames(self) -> Iterator[Frame]:
        """All output until the command's end.

        Raises:
            ConnectionLostError: The connection broke off before the end.
        """
        while not self.ended:
            if frame := self.read(None):
                yield frame

    def read(self, timeout: float | None) -> Frame | None:
        """The next output; None at the command's end, or if nothing came within the timeout (seconds).

        Raises:
            ConnectionLostError: The connection broke off before the end.
            NotStartedError: The command could not be started.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.01, deadline - time.monotonic())
            self._socket.settimeout(left)
            try:
                kind, data = self._socket.recv_data(control_frame=False)
            except websocket.WebSocketTimeoutException:
                return None
            except (websocket.WebSocketException, OSError) as error:
                raise ConnectionLostError(f"The connection to the node broke off: {error}") from error
            if kind == websocket.ABNF.OPCODE_CLOSE:
                raise ConnectionLostError("The connection to the node was closed.")
            if len(data) < 2 or data[0] not in set(Channel):
                continue  # empty messages open the channels; others belong to newer versions of the protocol
            channel = Channel(data[0])
            if channel is Channel.STATUS:
                self._end(json.loads(data[1:]))
                return None
            return Frame(channel, bytes(data[1:]))

    def _end(self, status: dict[str, Any]) -> None:
        if status.get("status") == "Success":
            self.exit_code = 0
            return
        for cause in (status.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode":
                self.exit_code = int(cause["message"])
                return
        raise NotStartedError(f"The node could not run the command: {status.get('message', 'no reason is given')}")


def _open(cluster: Cluster, url: str) -> Any:
    headers = {"authorization": authorization} if (authorization := cluster.authorization()) else {}
    try:
        return create_websocket(cluster.configuration, url.replace("http", "ws", 1), headers)
    except websocket.WebSocketBadStatusException as error:
        body = error.resp_body or b""
        refused = refusal(error.status_code, body if isinstance(body, bytes) else str(body).encode())
        raise _explained(refused) from error
    except (websocket.WebSocketException, OSError, ssl.SSLError) as error:
        raise ConnectionLostError(f"The node cannot be reached: {error}") from error


def _explained(refused: ApiError) -> CliError:
    if refused.status == http.HTTPStatus.FORBIDDEN:
        hint = "It takes the right to create and get pods/exec: ask the cluster's administrator."
        return ApiError(refused.message, hint, status=refused.status, reason=refused.reason)
    return refused
