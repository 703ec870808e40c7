"""Printing: columns as kubectl prints them, ages, sizes, and whole objects."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from packhorse.cli.options import Manifest, Output

_GAP = "   "
_UNITS = ("B", "kB", "MB", "GB", "TB")


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of columns; an empty cell shows as ``<none>``, as kubectl has it."""
    lines = [list(heading), *([cell or "<none>" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A line for each fact: its name, and its value below the other values."""
    width = max(len(name) for name, _ in pairs) + 1
    return "\n".join(f"{name + ':':<{width}}  {value}" for name, value in pairs)


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, in the two largest units: ``45s``, ``12m``, ``3h20m``, ``9d``."""
    if not timestamp:
        return ""
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)
    return span(passed.total_seconds())


def span(duration: float) -> str:
    """A number of seconds in the two largest units: ``45s``, ``12m``, ``3h20m``, ``9d``."""
    seconds = max(0, int(duration))
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 180:
        return f"{minutes}m"
    if hours < 48:
        return f"{hours}h{minutes % 60}m" if hours < 8 and minutes % 60 else f"{hours}h"
    return f"{days}d"


def size(count: float) -> str:
    """A number of bytes in decimal units: ``28.4 MB``."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def dump(value: Any, form: Output | Manifest) -> str:
    """An object as YAML or JSON, with no newline at its end."""
    if form.value == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")


def objects(items: list[dict[str, Any]], kind: str, form: Output) -> str:
    """Objects in one of the forms that are not a table."""
    if form is Output.NAME:
        return "\n".join(f"{kind}.packhorse.dev/{item['metadata']['name']}" for item in items)
    for item in items:
        item["metadata"].pop("managedFields", None)  # as kubectl: nobody reads them
    return dump({"apiVersion": "v1", "kind": "List", "items": items}, form)


def one_object(item: dict[str, Any], kind: str, form: Output) -> str:
    """One object in one of the forms that are not a table."""
    if form is Output.NAME:
        return objects([item], kind, form)
    item["metadata"].pop("managedFields", None)
    return dump(item, form)


def say(text: str) -> None:
    """A line for people, beside the result: on standard error."""
    print(text, file=sys.stderr, flush=True)
