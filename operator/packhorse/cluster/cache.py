"""Objects as last seen, for decisions.

Kopf's own indices are slow to start with and keep what vanished during a re-list. This cache is filled by a list of our
own at start, kept by Kopf's events, never goes back in time, and is compared with the API server now and then.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

Key = tuple[str, str]
"""Namespace and name."""

T = TypeVar("T")


def key_of(raw: Mapping[str, Any]) -> Key:
    """The key of an object of the API server."""
    return raw["metadata"].get("namespace", ""), raw["metadata"]["name"]


class Cache(Generic[T]):
    """The objects of one kind, parsed once each."""

    def __init__(self, parse: Callable[[Mapping[str, Any]], T]) -> None:
        self._parse = parse
        self._objects: defaultdict[str, dict[str, T]] = defaultdict(dict)
        self._versions: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def __iter__(self) -> Iterator[T]:
        for objects in self._objects.values():
            yield from objects.values()

    def get(self, key: Key) -> T | None:
        """One object, or None."""
        return self._objects.get(key[0], {}).get(key[1])

    def in_namespace(self, namespace: str) -> Iterable[T]:
        """All objects of a namespace."""
        return self._objects.get(namespace, {}).values()

    def keys(self) -> set[Key]:
        """The keys of all objects."""
        return set(self._versions)

    def put(self, raw: Mapping[str, Any]) -> T | None:
        """Take an object as the API server shows it now; None where it is older than what is known."""
        key, version = key_of(raw), int(raw["metadata"]["resourceVersion"])
        if version < self._versions.get(key, 0) or version <= self._gone.get(key, -1):
            return None
        parsed = self._parse(raw)
        self._objects[key[0]][key[1]] = parsed
        self._versions[key] = version
        self._gone.pop(key, None)
        return parsed

    def remove(self, key: Key, version: int) -> T | None:
        """Take note that an object was deleted at this resource version; what was known of it."""
        if version < self._versions.get(key, 0):
            return None
        self._gone[key] = version
        self._versions.pop(key, None)
        return self._objects.get(key[0], {}).pop(key[1], None)

    def forget_gone(self) -> None:
        """Drop the memory of deleted objects: after a fresh list no older event is to be feared."""
        self._gone.clear()
