"""Events: what a person should notice, in ``kubectl describe`` and ``kubectl get events``."""

import logging
import uuid
from collections import OrderedDict

from packhorse.clock import timestamp
from packhorse.cluster.client import EVENT, ApiError, ApiUnavailableError, Client
from packhorse.model import Resource
from packhorse.model.meta import API_VERSION

_log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Events that are remembered, so that none is told twice in a row."""


class EventRecorder:
    """Writes events; one that cannot be written is logged, and holds nobody up."""

    def __init__(self, client: Client, reporter: str) -> None:
        self._client = client
        self._reporter = reporter
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def record(
        self, resource: Resource, reason: str, note: str, *, action: str = "Reconcile", warning: bool = False
    ) -> None:
        """Write an event about a resource, unless the last one of this reason said the same."""
        about = (resource.metadata.uid, reason)
        if self._last.get(about) == note:
            return
        self._last[about] = note
        self._last.move_to_end(about)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        namespace, name = resource.key
        body = {
            "metadata": {"name": f"{name[:200]}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": timestamp(),
            "reportingController": "packhorse.dev/operator",
            "reportingInstance": self._reporter,
            "action": action,
            "reason": reason,
            "note": note[:1024],
            "type": "Warning" if warning else "Normal",
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": resource.kind,
                "namespace": namespace,
                "name": name,
                "uid": resource.metadata.uid,
            },
        }
        try:
            await self._client.create(EVENT, namespace, body)
        except (ApiError, ApiUnavailableError) as error:
            if isinstance(error, ApiError) and "being terminated" in str(error):
                return  # nobody reads the events of a namespace that goes
            _log.warning("event %s about %s %s/%s: %s", reason, resource.kind, namespace, name, error)
