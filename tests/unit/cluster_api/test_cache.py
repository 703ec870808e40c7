"""The cache never goes back in time, and whoever subscribes hears of every change."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from packhorse.cluster.cache import Cache, Key, key_of

Change = tuple[str, str | None, str | None]


def raw(name: str, version: int, namespace: str = "team") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)}}


def parse(found: Mapping[str, Any]) -> str:
    return f"{found['metadata']['name']}@{found['metadata']['resourceVersion']}"


def listen(cache: Cache[str]) -> list[Change]:
    """Everything that the cache tells from now on."""
    heard: list[Change] = []
    cache.subscribe(lambda key, before, now: heard.append((key[1], before, now)))
    return heard


def test_keys() -> None:
    assert key_of(raw("a", 1)) == ("team", "a")
    assert key_of({"metadata": {"name": "node-1"}}) == ("", "node-1")


def test_objects_come_change_and_go() -> None:
    cache = Cache(parse)
    heard = listen(cache)
    assert cache.put(raw("a", 1)) == "a@1"
    assert cache.put(raw("a", 3)) == "a@3"
    assert cache.put(raw("b", 2, "other")) == "b@2"
    cache.remove(("team", "a"), 4)
    assert heard == [("a", None, "a@1"), ("a", "a@1", "a@3"), ("b", None, "b@2"), ("a", "a@3", None)]
    assert (list(cache), len(cache)) == (["b@2"], 1)
    assert list(cache.in_namespace("team")) == []
    assert list(cache.in_namespace("other")) == ["b@2"]
    assert list(cache.in_namespace("unknown")) == []
    assert cache.versions() == {("other", "b"): 2}


def test_older_news_are_none() -> None:
    cache = Cache(parse)
    cache.put(raw("a", 9))
    heard = listen(cache)
    assert cache.put(raw("a", 9)) is None
    assert cache.put(raw("a", 8)) is None
    cache.remove(("team", "a"), 8)
    assert cache.get(("team", "a")) == "a@9"
    assert heard == [("a", None, "a@9")]


def test_versions_are_numbers() -> None:
    cache = Cache(parse)
    cache.put(raw("a", 9))
    assert cache.put(raw("a", 10)) == "a@10"


def test_what_is_gone_does_not_come_back_by_older_news() -> None:
    cache = Cache(parse)
    cache.put(raw("a", 5))
    cache.remove(("team", "a"), 7)
    assert cache.put(raw("a", 6)) is None
    assert cache.get(("team", "a")) is None
    assert cache.put(raw("a", 8)) == "a@8"


def test_gone_before_it_was_seen() -> None:
    cache = Cache(parse)
    heard = listen(cache)
    cache.remove(("team", "a"), 7)
    assert cache.put(raw("a", 6)) is None
    assert heard == []
    cache.forget_gone()
    assert cache.put(raw("a", 6)) == "a@6"


def test_who_subscribes_late_hears_of_what_is_there() -> None:
    cache = Cache(parse)
    cache.put(raw("a", 1))
    cache.put(raw("b", 2))
    assert listen(cache) == [("a", None, "a@1"), ("b", None, "b@2")]


def test_a_subscriber_may_change_the_cache() -> None:
    """As when an object that is seen is deleted at once."""
    cache = Cache(parse)
    cache.put(raw("a", 1))
    cache.put(raw("b", 2))
    heard: list[Change] = []

    def remove(key: Key, before: str | None, now: str | None) -> None:
        heard.append((key[1], before, now))
        if now is not None:
            cache.remove(key, 10)

    cache.subscribe(remove)
    assert heard == [("a", None, "a@1"), ("a", "a@1", None), ("b", None, "b@2"), ("b", "b@2", None)]
    assert len(cache) == 0


NEWS = st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from("ab"), st.integers(1, 20)), max_size=30)


@given(NEWS)
def test_news_in_any_order(news: list[tuple[str, str, int]]) -> None:
    """The newest counts; the changes that were told lead from nothing to what is there."""
    cache = Cache(parse)
    heard = listen(cache)
    newest: dict[str, tuple[int, str]] = {}
    for kind, name, version in news:
        known, _ = newest.get(name, (0, ""))
        if kind == "put":
            cache.put(raw(name, version))
            if version > known:
                newest[name] = (version, kind)
        else:
            cache.remove(("team", name), version)
            if version >= known:
                newest[name] = (version, kind)
    wanted = {name: f"{name}@{version}" for name, (version, kind) in newest.items() if kind == "put"}
    assert sorted(cache) == sorted(wanted.values())
    state: dict[str, str] = {}
    for name, before, now in heard:
        assert state.pop(name, None) == before
        assert before != now
        if now is not None:
            state[name] = now
    assert state == wanted
