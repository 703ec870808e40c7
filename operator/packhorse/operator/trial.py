"""Asks the API server whether nodes could be made of a pool's template, before one is lost by it.

A StatefulSet is accepted with a template that no pod can be made of: Pod Security, priority classes, service accounts,
limits and webhooks are looked at when a pod is created, and no earlier. A node that is rebooted would not come back. So
a pod is created first as a dry run, by which nothing is stored and everybody who has a say is asked.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from packhorse.cluster.client import POD, ApiError, Client
from packhorse.domain.nodepod import trial_pod

_log = logging.getLogger(__name__)

_UNREADABLE = ("failed to create typed patch object", "failed to convert new object")
"""How the API server begins, with status 500, where an object to apply has fields that its kind has not."""
_NO_FAULT = re.compile("(exceeded|failed) quota|does not support dry run|cannot create resource|being terminated")
"""What keeps a trial from being made, and says nothing of the template."""


def at_fault(error: ApiError) -> bool:
    """Whether the object that was sent is what is wrong: to send it again will not help."""
    return error.status in {400, 403, 422} or (error.status == 500 and str(error).startswith(_UNREADABLE))


async def refusal(client: Client, node_set: Mapping[str, Any]) -> str | None:
    """Why no node could be made of a pool's StatefulSet, in the API server's words; None where one could.

    None also where that cannot be found out, as with a quota that is used up or a webhook that does not answer: the
    StatefulSet's controller tries again until a node is made.

    Raises:
        ApiUnavailableError: The API server did not answer.
    """
    pod = trial_pod(node_set)
    path = POD.path(pod["metadata"]["namespace"])
    try:
        await client.request("POST", path, query={"dryRun": "All", "fieldValidation": "Strict"}, body=pod)
    except ApiError as error:
        if at_fault(error) and not _NO_FAULT.search(str(error)):
            return str(error).replace(pod["metadata"]["name"], node_set["metadata"]["name"])
        _log.info(
            "pool %s/%s: no trial of its nodes: %s", pod["metadata"]["namespace"], node_set["metadata"]["name"], error
        )
    return None
