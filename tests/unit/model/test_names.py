"""Names that are derived from ids and versions."""

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from packhorse.model.names import (
    ID_PATTERN,
    VERSION_PATTERN,
    InvalidNameError,
    application_name,
    check_id,
    check_version,
    package_name,
)

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
IDS = st.from_regex(ID_PATTERN, fullmatch=True)
VERSIONS = st.from_regex(VERSION_PATTERN, fullmatch=True)


def plain(text: str) -> str:
    """What counts of an id or a version."""
    return text.lower().replace("_", "-")


def allowed(application_id: str, version: str = "1") -> bool:
    try:
        check_id(application_id)
        check_version(version)
    except InvalidNameError:
        return False
    return True


@given(IDS, VERSIONS)
def test_names_of_what_is_allowed_are_legal(application_id: str, version: str) -> None:
    names = (application_name(application_id), package_name(application_id, version))
    legal = all(SUBDOMAIN.fullmatch(name) and len(name) <= 253 for name in names)
    assert legal == allowed(application_id, version)


@given(IDS, VERSIONS, IDS, VERSIONS)
def test_names_differ_unless_ids_differ_in_case_or_hyphens_alone(one: str, first: str, other: str, second: str) -> None:
    assume(allowed(one, first) and allowed(other, second))
    same = (plain(one), plain(first)) == (plain(other), plain(second))
    assert (package_name(one, first) == package_name(other, second)) == same
    assert (application_name(one) == application_name(other)) == (plain(one) == plain(other))


@given(IDS)
def test_case_and_hyphens_do_not_matter(application_id: str) -> None:
    for same in (application_id.upper(), application_id.replace("_", "-"), application_id.replace("-", "_").lower()):
        assert application_name(same) == application_name(application_id)


@pytest.mark.parametrize(
    ("application_id", "version", "application", "package"),
    [
        ("Blender", "2.7", "blender", "blender.2.7"),
        ("My_Tool", "1.0_RC1", "my-tool", "my-tool.1.0-rc1"),
        ("a" * 64, "b" * 64, "a" * 64, "a" * 64 + "." + "b" * 64),
    ],
)
def test_examples(application_id: str, version: str, application: str, package: str) -> None:
    assert allowed(application_id, version)
    assert (application_name(application_id), package_name(application_id, version)) == (application, package)


@pytest.mark.parametrize("bad", ["", "a" * 65, "with space", "ä", "a.b", "a\n", "a/b"])
def test_no_ids(bad: str) -> None:
    with pytest.raises(InvalidNameError, match="letters, digits, hyphens and underscores"):
        check_id(bad)


@pytest.mark.parametrize("bad", ["", "a" * 65, ".1", "1 0", "1/0", "1\n"])
def test_no_versions(bad: str) -> None:
    with pytest.raises(InvalidNameError, match="letters, digits, hyphens, underscores and periods"):
        check_version(bad)


@pytest.mark.parametrize(
    ("check", "bad"),
    [(check_id, "-a"), (check_id, "a_"), (check_version, "1-"), (check_version, "1..0"), (check_version, "1.-0")],
)
def test_what_gives_no_legal_name_is_told_with_that_name(check: Callable[[str], None], bad: str) -> None:
    with pytest.raises(InvalidNameError, match=re.escape(f"('{plain(bad)}')")):
        check(bad)
