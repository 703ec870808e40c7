"""One HTTP connection at a time, read straight into a buffer of the caller's.

It goes without a pool and without automatic retries: who fetches a blob has to see to both himself. Bytes take
no detour on their way from TLS into the buffer.
"""

import http.client
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit


class Link:
    """One connection at a time, kept open from request to request.

    Attributes:
        connected: Whether there is one.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context
        self._connection: http.client.HTTPConnection | None = None
        self._origin = ("", "")
        self.connected = False

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, url: str, headers: dict[str, str], connect: float, read: float) -> http.client.HTTPResponse:
        """Ask for a URL, with these time limits in seconds.

        Raises:
            ValueError: It is no URL for this.
            HTTPException: The answer makes no sense.
            OSError: There is no connection, or no answer.
        """
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("only http and https")
        origin = (address.scheme, address.netloc)
        if self._connection is None or origin != self._origin:
            self.close()
            if address.scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    address.hostname, address.port, timeout=connect, context=self._context()
                )
            else:
                self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=connect)
            self._origin = origin
        connection = self._connection
        # The server may have ended it after its last answer.
        self.connected = connection.sock is not None
        if not self.connected:
            connection.connect()
            self.connected = True
        connection.sock.settimeout(read)
        connection.request("GET", f"{address.path or '/'}?{address.query}", headers=headers)
        return connection.getresponse()

    def close(self) -> None:
        """Close it, if there is one; the next request opens another."""
        self.connected = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """Have another thread that waits for bytes wait no longer."""
        connection = self._connection
        if connection is not None and isinstance(connection.sock, socket.socket):
            with suppress(OSError):
                # Not the one of TLS, which is not for several threads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def describe(error: Exception, *, connecting: bool = False) -> str:
    """Say what happened to a connection, in words that hold no signature."""
    if isinstance(error, socket.gaierror):
        return "the storage account's host name cannot be resolved"
    if isinstance(error, ssl.SSLError):
        return "the storage account's certificate is not trusted, or TLS failed"
    if connecting and not isinstance(error, TimeoutError):
        return "no connection to the storage account"
    if isinstance(error, TimeoutError):
        return "the storage account does not answer in time"
    return f"the connection broke off ({type(error).__name__})"
