"""Names that are derived from ids and versions."""

import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from packhorse.model.names import (
    ID_PATTERN,
    NAMEABLE_ID,
    NAMEABLE_VERSION,
    VERSION_PATTERN,
    InvalidNameError,
    application_name,
    check_id,
    check_version,
    object_name,
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


@given(IDS, VERSIONS)
def test_the_patterns_of_the_rules_tell_what_gives_a_legal_name(application_id: str, version: str) -> None:
    assert bool(re.fullmatch(NAMEABLE_ID, application_id)) == allowed(application_id)
    assert bool(re.fullmatch(NAMEABLE_VERSION, version)) == allowed("a", version)


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


@given(IDS, VERSIONS)
def test_what_is_allowed_is_so_in_every_case_and_with_every_hyphen(application_id: str, version: str) -> None:
    given_so = allowed(application_id, version)
    assert allowed(application_id.swapcase(), version.swapcase()) == given_so
    assert allowed(plain(application_id), plain(version)) == given_so
    assert allowed(plain(application_id).replace("-", "_"), plain(version).replace("-", "_")) == given_so


@given(IDS, VERSIONS)
def test_a_package_is_named_after_its_application(application_id: str, version: str) -> None:
    application, _, rest = package_name(application_id, version).partition(".")
    assert application == application_name(application_id)
    assert rest == object_name(version)
    assert package_name(application, rest) == package_name(application_id, version), "a name is its own name"


def message(check: Callable[[str], None], text: str) -> str | None:
    try:
        check(text)
    except InvalidNameError as error:
        return str(error)
    return None


ANYTHING = st.text(st.characters(codec="utf-8") | st.sampled_from("aB1_-. "), max_size=70)


@pytest.mark.parametrize(("check", "pattern"), [(check_id, ID_PATTERN), (check_version, VERSION_PATTERN)])
@given(text=ANYTHING)
def test_a_refusal_names_what_was_given_and_what_it_proposes_is_allowed(
    check: Callable[[str], None], pattern: str, text: str
) -> None:
    said = message(check, text)
    if said is None:
        assert re.fullmatch(pattern, text)
        return
    assert f"'{text}'" in said
    assert not said.endswith("."), "whoever shows it ends the sentence"
    proposed = re.search(r", such as '([^']*)'$", said)
    if proposed:
        assert proposed[1] != text
        assert message(check, proposed[1]) is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("", "'' is no application id: use letters, digits, hyphens and underscores, at most 64"),
        ("ä", "'ä' is no application id: use letters, digits, hyphens and underscores, at most 64"),
        ("a b", "'a b' is no application id: use letters, digits, hyphens and underscores, at most 64, such as 'a-b'"),
        (
            "a.b/",
            "'a.b/' is no application id: use letters, digits, hyphens and underscores, at most 64, such as 'a-b'",
        ),
        ("a\n", "'a\n' is no application id: use letters, digits, hyphens and underscores, at most 64, such as 'a'"),
        (
            "a" * 65,
            f"'{'a' * 65}' is no application id: it has 65 characters;"
            " use letters, digits, hyphens and underscores, at most 64",
        ),
        (
            "My_Tool_",
            "the application id 'My_Tool_' gives no name that Kubernetes allows ('my-tool-'):"
            " let it begin and end with a letter or a digit, such as 'My_Tool'",
        ),
        (
            "_",
            "the application id '_' gives no name that Kubernetes allows ('-'):"
            " let it begin and end with a letter or a digit",
        ),
    ],
)
def test_no_ids(bad: str, told: str) -> None:
    assert message(check_id, bad) == told


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("", "'' is no version: use letters, digits, hyphens, underscores and periods, at most 64"),
        (
            ".1",
            "'.1' is no version: use letters, digits, hyphens, underscores and periods, at most 64,"
            " with no period at the beginning, such as '1'",
        ),
        (
            "1 0",
            "'1 0' is no version: use letters, digits, hyphens, underscores and periods, at most 64, such as '1-0'",
        ),
        (
            "1" * 65,
            f"'{'1' * 65}' is no version: it has 65 characters;"
            " use letters, digits, hyphens, underscores and periods, at most 64",
        ),
        (
            "1..-0_RC",
            "the version '1..-0_RC' gives no name that Kubernetes allows ('1..-0-rc'): let it, and each part of it"
            " between periods, begin and end with a letter or a digit, such as '1.0_RC'",
        ),
    ],
)
def test_no_versions(bad: str, told: str) -> None:
    assert message(check_version, bad) == told
