"""The one writer of status: it compares first, and sends only what differs."""

from collections.abc import Mapping
from typing import Any

from packhorse.cluster.client import ApiError, Client, kind_of
from packhorse.model import Resource
from packhorse.model.meta import Status


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes ``old`` into ``new``; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch


async def write_status(client: Client, resource: Resource, status: Status) -> dict[str, Any] | None:
    """Write a status where it differs from what the resource shows.

    The patch is bound to the object's resourceVersion: neither a namesake that was made meanwhile (the API server
    minds no uid in a patch of the status) nor what somebody else wrote is ever overwritten.

    Returns:
        The object as it is then, or None where there was nothing to write or the object is gone.

    Raises:
        ApiError: With the reason Conflict where the object is not as ``resource`` shows it any more; look again.
        ApiUnavailableError: The status may have been written or not.
    """
    current = resource.status if isinstance(resource.status, Status) else None  # type: ignore[attr-defined]
    patch = merge_patch(current.dump_given() if current else {}, status.dump())
    if not patch:
        return None
    body = {"metadata": {"resourceVersion": resource.metadata.resource_version}, "status": patch}
    try:
        return await client.patch(kind_of(type(resource)), *resource.key, body, subresource="status")
    except ApiError as error:
        if error.not_found:
            return None
        raise
