"""Finalizers: an object of ours waits for us when it is deleted.

Each change is bound to the object as it was seen, so that neither a namesake nor another's finalizer is touched.
"""

from collections.abc import Sequence
from typing import Any

from packhorse.cluster.client import ApiError, Client, kind_of
from packhorse.model import Resource


async def add_finalizer(client: Client, resource: Resource, finalizer: str) -> dict[str, Any] | None:
    """Have an object wait for us; the object as it is then, None where it did already or is gone.

    Raises:
        ApiError: With the reason Conflict where the object is not as ``resource`` shows it any more; look again.
    """
    if finalizer in resource.metadata.finalizers:
        return None
    return await _write(client, resource, [*resource.metadata.finalizers, finalizer])


async def remove_finalizer(client: Client, resource: Resource, finalizer: str) -> None:
    """Let an object go, as far as we are concerned; nothing happens where it does not wait or is gone.

    Raises:
        ApiError: With the reason Conflict where the object is not as ``resource`` shows it any more; look again.
    """
    if finalizer in resource.metadata.finalizers:
        await _write(client, resource, [name for name in resource.metadata.finalizers if name != finalizer])


async def _write(client: Client, resource: Resource, finalizers: Sequence[str]) -> dict[str, Any] | None:
    metadata = {
        "uid": resource.metadata.uid,
        "resourceVersion": resource.metadata.resource_version,
        "finalizers": finalizers or None,
    }
    try:
        return await client.patch(kind_of(type(resource)), *resource.key, {"metadata": metadata})
    except ApiError as error:
        if error.not_found:
            return None
        raise
