"""Status conditions: a new observation of each type, joined with what was said before."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from packhorse.model import Condition

READY = "Ready"
STORAGE_LINKED = "StorageLinked"
PACKAGES_RESOLVED = "PackagesResolved"
NODES_UP_TO_DATE = "NodesUpToDate"
SCHEDULED = "Scheduled"
COMPLETE = "Complete"
FAILED = "Failed"

ROLLING_UPDATE_STOPPED = "RollingUpdateStopped"

_STATUS: dict[bool | None, Literal["True", "False", "Unknown"]] = {True: "True", False: "False", None: "Unknown"}


@dataclass(frozen=True)
class Observation:
    """What a condition shall say now. ``status`` None means that it is not known."""

    type: str
    status: bool | None
    reason: str
    message: str = ""


def conditions(
    earlier: Iterable[Condition], observed: Iterable[Observation], *, generation: int, now: str
) -> tuple[Condition, ...]:
    """The conditions of a status after these observations.

    Types that are not observed now are dropped. The time of the last transition stays where the status stays.

    Args:
        earlier: The conditions until now.
        observed: One observation a type.
        generation: ``metadata.generation`` of the object that was observed.
        now: RFC 3339.
    """
    before = {condition.type: condition for condition in earlier}
    result = []
    for observation in observed:
        status = _STATUS[observation.status]
        old = before.get(observation.type)
        result.append(
            Condition(
                type=observation.type,
                status=status,
                reason=observation.reason,
                message=observation.message,
                last_transition_time=old.last_transition_time if old and old.status == status else now,
                observed_generation=generation,
            )
        )
    return tuple(result)
