"""One active operator, by a Lease as Kubernetes' own components use it.

Not Kopf's peering, which takes a minute to fail over, and not the official client's leader election, which cannot let
go of a lease when its holder stops: the next one would wait for nothing.
"""

import asyncio
import logging
import time

from packhorse.clock import timestamp
from packhorse.cluster.client import LEASE, ApiError, ApiUnavailableError, Client

_log = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """The lease could not be renewed in time: somebody else may hold it now."""


class Lease:
    """A lease that one of several candidates holds at a time.

    Whether a holder is dead is judged by this process's own clock: nothing depends on clocks that agree.

    Args:
        identity: Names this candidate, unlike any other.
        duration: Seconds without renewal after which others may take the lease.
        period: Seconds between two tries, or two renewals.
    """

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, *, duration: float = 15.0, period: float = 2.0
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._period = period
        self._seen = ""
        self._seen_at = 0.0

    async def acquire(self) -> None:
        """Wait until this candidate holds the lease."""
        waiting = False
        while not await self._try():
            if not waiting:
                _log.info("another operator holds the lease %s; waiting for it", self._name)
                waiting = True
            await asyncio.sleep(self._period)

    async def keep(self) -> None:
        """Renew the lease until cancelled. Raises LeaseLostError well before others may take it."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._period)
            if await self._try():
                renewed = time.monotonic()
            elif time.monotonic() - renewed > self._duration * 2 / 3:
                raise LeaseLostError(f"the lease {self._name} was not renewed for {time.monotonic() - renewed:.0f} s")

    async def release(self) -> None:
        """Let go, so that the next candidate need not wait."""
        try:
            found = await self._client.find(LEASE, self._namespace, self._name)
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                await self._client.replace(LEASE, {**found, "spec": {**found["spec"], "holderIdentity": ""}})
        except (ApiError, ApiUnavailableError) as error:
            _log.warning("the lease %s was not let go: %s; it runs out by itself", self._name, error)

    async def _try(self) -> bool:
        """Take or renew the lease; False where somebody else holds it, or the API server does not answer."""
        try:
            found = await self._client.find(LEASE, self._namespace, self._name)
            spec = {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._duration),
                "renewTime": timestamp(),
            }
            if found is None:
                body = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": spec}
                await self._client.create(LEASE, self._namespace, body)
                return True
            holder = found["spec"].get("holderIdentity", "")
            if holder not in {"", self._identity} and not self._expired(found["metadata"]["resourceVersion"]):
                return False
            if holder != self._identity:
                spec["acquireTime"] = spec["renewTime"]
                spec["leaseTransitions"] = found["spec"].get("leaseTransitions", 0) + 1
            # carries the resource version that was read: of two who try, one succeeds
            await self._client.replace(LEASE, {**found, "spec": {**found["spec"], **spec}})
        except (ApiError, ApiUnavailableError) as error:
            _log.warning("lease %s: %s", self._name, error)
            return False
        return True

    def _expired(self, version: str) -> bool:
        """Whether the holder has not renewed for a whole duration, while we were looking."""
        if version != self._seen:
            self._seen, self._seen_at = version, time.monotonic()
        return time.monotonic() - self._seen_at > self._duration
