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
    """The objects of one kind, parsed once each. Whoever subscribes hears of every change, our own writes included."""

    def __init__(self, parse: Callable[[Mapping[str, Any]], T]) -> None:
        self._parse = parse
        self._objects: defaultdict[str, dict[str, T]] = defaultdict(dict)
        self._versions: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}
        self._subscribers: list[Callable[[Key, T | None, T | None], None]] = []

    def __len__(self) -> int:
        return len(self._versions)

    def __iter__(self) -> Iterator[T]:
        for objects in self._objects.values():
            yield from objects.values()

    def subscribe(self, subscriber: Callable[[Key, T | None, T | None], None]) -> None:
        """Call ``subscriber(key, before, now)`` after each change; ``now`` is None for an object that is gone.

        It is called at once, too, for each object that is there already.
        """
        self._subscribers.append(subscriber)
        for key in tuple(self._versions):
            subscriber(key, None, self.get(key))

    def get(self, key: Key) -> T | None:
        """One object, or None."""
        return self._objects.get(key[0], {}).get(key[1])

    def by_name(self, namespace: str) -> Mapping[str, T]:
        """All objects of a namespace by name, as they are whenever it is looked at."""
        return self._objects.get(namespace, {})

    def in_namespace(self, namespace: str) -> Iterable[T]:
        """All objects of a namespace."""
        return self.by_name(namespace).values()

    def versions(self) -> dict[Key, int]:
        """The resource version of every object."""
        return dict(self._versions)

    def put(self, raw: Mapping[str, Any]) -> T | None:
        """Take an object as the API server shows it; None where that is no news."""
        key, version = key_of(raw), int(raw["metadata"]["resourceVersion"])
        if version <= max(self._versions.get(key, -1), self._gone.get(key, -1)):
            return None
        before, now = self.get(key), self._parse(raw)
        self._objects[key[0]][key[1]] = now
        self._versions[key] = version
        self._gone.pop(key, None)
        self._tell(key, before, now)
        return now

    def remove(self, key: Key, version: int) -> None:
        """Take note that an object was gone at this resource version."""
        if version < self._versions.get(key, -1):
            return
        self._gone[key] = max(version, self._gone.get(key, -1))
        self._versions.pop(key, None)
        before = self._objects.get(key[0], {}).pop(key[1], None)
        if before is not None:
            self._tell(key, before, None)

    def forget_gone(self) -> None:
        """Drop the memory of objects that are gone: after a fresh list no older event is to be feared."""
        self._gone.clear()

    def _tell(self, key: Key, before: T | None, now: T | None) -> None:
        for subscriber in self._subscribers:
            subscriber(key, before, now)
