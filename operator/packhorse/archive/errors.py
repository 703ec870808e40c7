"""The one error of this package, and how it shows names that a stranger chose."""

SHOWN_NAME = 200
"""Characters of a name that go into a message."""

REPACK = "Make the ZIP file again with a current tool, for example 'zip -r' or 7-Zip."


class ArchiveError(Exception):
    """A ZIP file is damaged, or holds what a package may not hold.

    Attributes:
        reason: What is wrong.
        entry: Name of the entry that it is about, None if it is about the whole file.
        remedy: What the package's author can do.
    """

    def __init__(self, reason: str, *, entry: str | None = None, remedy: str = REPACK) -> None:
        subject = "The ZIP file" if entry is None else f"Entry {shown(entry)}"
        super().__init__(f"{subject} {reason}. {remedy}")
        self.reason = reason
        self.entry = entry
        self.remedy = remedy


def shown(name: str) -> str:
    """Return a name in quotes, cut to a sensible length, with nothing in it that a terminal would act upon."""
    text = ascii(name) if any(not char.isprintable() for char in name) else f"'{name}'"
    return text if len(text) <= SHOWN_NAME else f"{text[:SHOWN_NAME]}...'"
