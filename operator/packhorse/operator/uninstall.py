"""Lets all Applications and ApplicationPackages go: run after the operator was removed for good.

Both kinds wait at their deletion for the operator, by a finalizer each. With no operator they would wait for ever, and
with them their namespaces. Blobs stay in the storage account.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from packhorse.cluster.client import ApiError, ApiUnavailableError, Client, Kind, kind_of
from packhorse.cluster.finalizers import remove_finalizer
from packhorse.model import Application, ApplicationPackage, Resource
from packhorse.model.application import PACKAGES_FINALIZER
from packhorse.model.package import BLOB_FINALIZER

_log = logging.getLogger(__name__)

TRIES = 5
AT_ONCE = 16


async def release(client: Client, namespaces: tuple[str, ...]) -> int:
    """Take our finalizers off all objects; how many had one.

    Args:
        client: The API server.
        namespaces: Those that were served; none means all.

    Raises:
        ApiError, ApiUnavailableError: An object could not be changed, also after some tries.
    """
    slots = asyncio.Semaphore(AT_ONCE)
    released = 0
    for resource, finalizer in ((ApplicationPackage, BLOB_FINALIZER), (Application, PACKAGES_FINALIZER)):
        kind = kind_of(resource)
        for namespace in namespaces or (None,):
            found = [raw async for raw in _list(client, kind, namespace)]
            held = [raw for raw in found if finalizer in raw["metadata"].get("finalizers", ())]
            async with asyncio.TaskGroup() as group:
                for raw in held:
                    group.create_task(_release(client, resource, raw, finalizer, slots))
            released += len(held)
            _log.info("%s in %s: %d of %d released", kind.plural, namespace or "all namespaces", len(held), len(found))
    return released


async def _list(client: Client, kind: Kind, namespace: str | None) -> Any:
    try:
        async for raw in client.list(kind, namespace):
            yield raw
    except ApiError as error:
        if not error.not_found:  # the definitions of our kinds are gone already, and all objects with them
            raise


async def _release(
    client: Client, resource: type[Resource], raw: Mapping[str, Any], finalizer: str, slots: asyncio.Semaphore
) -> None:
    namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
    async with slots:
        for failures in range(1, TRIES + 1):
            current = await client.find(kind_of(resource), namespace, name)
            if current is None:
                return
            try:
                await remove_finalizer(client, resource.model_validate(current), finalizer)
            except ApiError as error:
                if error.reason != "Conflict" or failures == TRIES:
                    raise
            else:
                return


async def _main(namespaces: tuple[str, ...]) -> int:
    client = await Client.connect()
    try:
        return await release(client, namespaces)
    finally:
        await client.close()


def main() -> None:
    """Release everything, and say how much that was."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    names = os.environ.get("PACKHORSE_WATCH_NAMESPACES", "").split(",")
    try:
        released = asyncio.run(_main(tuple(name.strip() for name in names if name.strip())))
    except* (ApiError, ApiUnavailableError) as errors:
        sys.exit(f"not everything could be released: {errors.exceptions[0]}")
    _log.info("%d object(s) released", released)


if __name__ == "__main__":
    main()
