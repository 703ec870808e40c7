"""Durations as people type them."""

import re

from packhorse.cli.errors import UsageError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> float | None:
    """Seconds of a duration such as ``90s``, ``1h30m`` or ``90``; None, which is no limit, for ``0``.

    Raises:
        UsageError: It is no duration.
    """
    if not re.fullmatch(r"\d+|(\d+[dhms])+", text):
        raise UsageError(f"'{text}' is no duration: write for example 90s, 5m or 1h30m, or 0 for no limit.")
    if text.isdigit():
        return float(text) or None
    return float(sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([dhms])", text))) or None
