"""The time, as Kubernetes writes it."""

import datetime


def timestamp() -> str:
    """Now, RFC 3339 in UTC with microseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
