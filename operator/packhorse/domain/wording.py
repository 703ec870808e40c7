"""Words that several messages share."""

from collections.abc import Sequence


def some(names: Sequence[str], most: int) -> str:
    """The first ``most`` names, and how many more there are: ``a, b and 7 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
