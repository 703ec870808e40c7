"""Every form of a variable that any of Batch's documents uses, and what the form without a version stands for."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packhorse.domain.environment import (
    NODE_ROOT,
    PREFIX,
    CollisionError,
    flatten,
    node_variables,
    package_variables,
    task_variables,
)
from packhorse.model.names import ID_PATTERN, VERSION_PATTERN, application_name, package_name
from packhorse.model.reference import EnvironmentSetting
from packhorse.protocol import Package, VisiblePackage
from tests.unit.objects import deployed

IDS = st.from_regex(ID_PATTERN, fullmatch=True)
VERSIONS = st.from_regex(VERSION_PATTERN, fullmatch=True)


def directory(item: VisiblePackage) -> str:
    return str(NODE_ROOT / item.package.directory)


@given(IDS, VERSIONS)
def test_every_form_in_every_case_leads_to_the_directory(application_id: str, version: str) -> None:
    item = deployed(application_id, version)
    variables = package_variables([item], {})
    for name in (application_id, application_id.lower(), application_id.upper()):
        for number in (version, version.lower(), version.upper()):
            flat = f"{name}_{number}".replace(".", "_").replace("-", "_")
            assert variables[f"AZ_BATCH_APP_PACKAGE_{flat}"] == directory(item)
            assert variables[f"AZ_BATCH_APP_PACKAGE_{name}#{number}"] == directory(item)
        assert variables["AZ_BATCH_APP_PACKAGE_" + name.replace("-", "_")] == directory(item)
    assert set(variables.values()) == {directory(item)}


@given(IDS, VERSIONS)
def test_flattened_names_can_be_used_in_any_shell(application_id: str, version: str) -> None:
    flat = [name for name in package_variables([deployed(application_id, version)], {}) if "#" not in name]
    for name in flat:
        assert name.replace("_", "").isalnum()
        assert name.isascii()


# The rows of Microsoft's documents, and of a real task's environment.
@pytest.mark.parametrize(
    ("application_id", "version", "name"),
    [
        ("blender", "2.7", "AZ_BATCH_APP_PACKAGE_BLENDER#2.7"),
        ("blender", "2.7", "AZ_BATCH_APP_PACKAGE_blender_2_7"),
        ("FOO", "1", "AZ_BATCH_APP_PACKAGE_FOO#1"),
        ("FOO", "1", "AZ_BATCH_APP_PACKAGE_FOO_1"),
        ("foo", "1", "AZ_BATCH_APP_PACKAGE_FOO_1"),
        ("Agent-linux-x64", "1.1.46.0", "AZ_BATCH_APP_PACKAGE_agent_linux_x64_1_1_46_0"),
        ("MyBatchApplication", "1.5", "AZ_BATCH_APP_PACKAGE_mybatchapplication_1_5"),
        ("MyBatchApplication", "1.5", "AZ_BATCH_APP_PACKAGE_MyBatchApplication_1_5"),
        ("blender", "2.7", "AZ_BATCH_APP_PACKAGE_BLENDER"),
        ("litware", "1.1001.2b", "AZ_BATCH_APP_PACKAGE_LITWARE"),
        ("litware", "1.1001.2b", "AZ_BATCH_APP_PACKAGE_litware"),
        ("Foo", "7", "AZ_BATCH_APP_PACKAGE_Foo"),
    ],
)
def test_names_that_batch_documents_use(application_id: str, version: str, name: str) -> None:
    item = deployed(application_id, version)
    assert package_variables([item], {})[name] == directory(item)


def test_flattening() -> None:
    assert flatten("a.b-c#d_e") == "a_b_c_d_e"


@given(st.text(st.sampled_from("aB1_.-#") | st.characters(codec="utf-8")), st.text("aB1_.-#"))
def test_flattening_changes_three_characters_and_nothing_else(text: str, more: str) -> None:
    flat = flatten(text)
    assert flat == text.translate({ord(character): "_" for character in ".-#"})
    assert flatten(flat) == flat
    assert flatten(text + more) == flat + flatten(more)


@given(IDS)
def test_flattening_and_changing_case_may_come_in_any_order(application_id: str) -> None:
    assert flatten(application_id.upper()) == flatten(application_id).upper()
    assert flatten(application_id.lower()) == flatten(application_id).lower()


def test_the_value_names_the_content() -> None:
    item = deployed("Blender", "2.7-RC1")
    value = package_variables([item], {})["AZ_BATCH_APP_PACKAGE_Blender"]
    assert PurePosixPath(value) == PurePosixPath("/mnt/batch/tasks/applications/blender/2.7-rc1", item.package.sha256)


OLD, NEW = deployed("blender", "2.7"), deployed("blender", "3.0")
OLD_BY_DEFAULT = deployed("blender", "2.7", by_default=True)
NEW_BY_DEFAULT = deployed("blender", "3.0", by_default=True)


@pytest.mark.parametrize(
    ("visible", "default", "chosen"),
    [
        pytest.param([OLD, NEW], "2.7", "2.7", id="the default version, where it is visible"),
        pytest.param([NEW, OLD], "3.0", "3.0", id="the default version, whatever the order"),
        pytest.param([OLD_BY_DEFAULT, NEW], "3.0", "3.0", id="the default switched after the node started"),
        pytest.param([OLD_BY_DEFAULT, NEW_BY_DEFAULT], "3.0", "3.0", id="task asked for the default after the switch"),
        pytest.param([OLD_BY_DEFAULT, NEW], "4.0", "2.7", id="what a reference without version brought"),
        pytest.param([OLD, NEW_BY_DEFAULT], None, "3.0", id="the same with no default any more"),
        pytest.param([OLD], None, "2.7", id="the only version visible"),
        pytest.param([OLD], "3.0", "2.7", id="the only version visible though another is the default"),
        pytest.param([OLD, NEW], None, None, id="two versions and nothing to choose by"),
        pytest.param([OLD, NEW], "4.0", None, id="two versions, the default not among them"),
        pytest.param([OLD, OLD], None, "2.7", id="pool and task refer to the same content"),
    ],
)
def test_the_name_without_a_version(visible: list[VisiblePackage], default: str | None, chosen: str | None) -> None:
    variables = package_variables(visible, {"blender": default} if default else {})
    wanted = {"2.7": directory(OLD), "3.0": directory(NEW)}.get(chosen or "")
    for name in ("blender", "BLENDER"):
        assert variables.get(PREFIX + name) == wanted


def test_the_default_version_is_compared_without_case() -> None:
    one, two = deployed("Blender", "2.7-RC"), deployed("Blender", "3.0")
    assert package_variables([two, one], {"blender": "2.7-rc"})[PREFIX + "BLENDER"] == directory(one)


def test_applications_choose_apart() -> None:
    ffmpeg = deployed("ffmpeg", "7.1")
    variables = package_variables([OLD, NEW, ffmpeg], {"blender": "3.0", "ffmpeg": "2.7"})
    assert variables[PREFIX + "blender"] == directory(NEW)
    assert variables[PREFIX + "ffmpeg"] == directory(ffmpeg)


@pytest.mark.parametrize("by_default", [False, True])
def test_a_task_sees_the_newer_content_of_a_version_that_its_node_has_too(by_default: bool) -> None:
    """The package was updated after the node had installed it, and the task brought it anew."""
    on_the_node = deployed("blender", "2.7", "before", by_default=by_default)
    own = deployed("blender", "2.7", "after")
    variables = package_variables([on_the_node, NEW, own], {})
    assert variables[PREFIX + "blender_2_7"] == directory(own)
    assert variables[PREFIX + "blender#2.7"] == directory(own)
    assert variables.get(PREFIX + "blender") == (directory(own) if by_default else None)


@pytest.mark.parametrize(
    ("one", "two", "name"),
    [
        (deployed("a", "b_1"), deployed("a_b", "1"), "AZ_BATCH_APP_PACKAGE_a_b_1"),
        (deployed("a", "1-0"), deployed("a", "1.0"), "AZ_BATCH_APP_PACKAGE_a_1_0"),
        (deployed("a", "1"), deployed("a_1", "2"), "AZ_BATCH_APP_PACKAGE_a_1"),
    ],
)
def test_packages_that_want_one_variable_are_refused_with_both_named(
    one: VisiblePackage, two: VisiblePackage, name: str
) -> None:
    with pytest.raises(CollisionError) as caught:
        package_variables([one, two], {})
    for part in (one.package.reference, two.package.reference, f"both set {name};"):
        assert part in str(caught.value)


# Few letters, so that ids meet often: in another case, with the other hyphen, or where their variables alone are one.
CLOSE_IDS = st.text("aB-_1", min_size=1, max_size=4)
CLOSE_VERSIONS = st.text("aB-_.1", min_size=1, max_size=4).filter(lambda text: text[0] != ".")
CLOSE = st.builds(deployed, CLOSE_IDS, CLOSE_VERSIONS, st.sampled_from(["one", "two"]), by_default=st.booleans())


def name_of(item: VisiblePackage) -> str:
    """The name of its object: what is one in Kubernetes."""
    return package_name(item.package.application_id, item.package.version)


def application_of(item: VisiblePackage) -> str:
    return application_name(item.package.application_id)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[VisiblePackage], dict[str, str]]:
    """Visible packages, each version once and at most one by default for an application; and default versions.

    A default is spelled in lower case, as a catalog tells it; sometimes with the other hyphen.
    """
    visible: list[VisiblePackage] = []
    for item in draw(st.lists(CLOSE, max_size=5, unique_by=name_of)):
        taken = any(other.by_default and application_of(other) == application_of(item) for other in visible)
        visible.append(VisiblePackage(item.package, item.by_default and not taken))
    defaults: dict[str, str] = {}
    for item in visible:
        version = draw(st.sampled_from([None, item.package.version.lower(), "never-heard-of"]))
        if version is not None:
            version = version.replace("-", "_") if draw(st.booleans()) else version
            for other in visible:
                if application_of(other) == application_of(item):
                    defaults[other.package.application_id.lower()] = version
    return visible, defaults


def forms(package: Package) -> Iterator[str]:
    """The versioned names, as the documents have them: each of id and version as given, in lower and upper case."""
    given_id, given_version = package.application_id, package.version
    for application_id in (given_id, given_id.lower(), given_id.upper()):
        for version in (given_version, given_version.lower(), given_version.upper()):
            yield f"{PREFIX}{application_id}#{version}"
            yield f"{PREFIX}{application_id}_{version}".replace(".", "_").replace("-", "_")


def unversioned(own: list[VisiblePackage], default: str | None) -> VisiblePackage | None:
    """What the name without a version stands for: the first of the three ways that gives a package."""
    matching = [item for item in own if default is not None and same(item.package.version, default)]
    by_default = [item for item in own if item.by_default]
    only = own if len(own) == 1 else []
    return next(iter([*matching, *by_default, *only]), None)


def same(one: str, other: str) -> bool:
    return one.lower().replace("-", "_") == other.lower().replace("-", "_")


def wanted(visible: list[VisiblePackage], defaults: dict[str, str]) -> dict[str, set[str]]:
    """Who wants each variable, by the words of the documents: the references of the packages, by name."""
    wishes: dict[str, set[str]] = {}
    for item in visible:
        for name in forms(item.package):
            wishes.setdefault(name, set()).add(item.package.reference)
    for item in visible:
        application_id = item.package.application_id
        own = [other for other in visible if same(other.package.application_id, application_id)]
        chosen = unversioned(own, defaults.get(application_id.lower()))
        if chosen is item:
            for spelling in (application_id, application_id.lower(), application_id.upper()):
                wishes.setdefault(PREFIX + spelling.replace("-", "_"), set()).add(item.package.reference)
    return wishes


def outcome(visible: list[VisiblePackage], defaults: dict[str, str]) -> dict[str, str] | None:
    """The variables; None where they are refused."""
    try:
        return package_variables(visible, defaults)
    except CollisionError:
        return None


@given(situations())
def test_exactly_the_documents_names_are_set_or_two_packages_want_one(
    situation: tuple[list[VisiblePackage], dict[str, str]],
) -> None:
    visible, defaults = situation
    wishes = wanted(visible, defaults)
    of_reference = {item.package.reference: directory(item) for item in visible}
    try:
        variables = package_variables(visible, defaults)
    except CollisionError as error:
        told = re.fullmatch(r"the packages (\S+) and (\S+) would both set (\S+); refer to one of them .*", str(error))
        assert told is not None
        assert told[1] != told[2]
        assert {told[1], told[2]} <= wishes[told[3]]
    else:
        assert {name: {value} for name, value in variables.items()} == {
            name: {of_reference[reference] for reference in references} for name, references in wishes.items()
        }
        assert all(len(references) == 1 for references in wishes.values())


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_versions_does_not_matter(
    situation: tuple[list[VisiblePackage], dict[str, str]], random: Random
) -> None:
    visible, defaults = situation
    shuffled = random.sample(visible, len(visible))
    assert outcome(shuffled, defaults) == outcome(visible, defaults)


@given(st.lists(CLOSE, max_size=5), st.dictionaries(CLOSE_IDS.map(str.lower), CLOSE_VERSIONS.map(str.lower)))
def test_what_is_visible_twice_is_visible_once(visible: list[VisiblePackage], defaults: dict[str, str]) -> None:
    once = outcome(visible, defaults)
    assert outcome([*visible, *visible], defaults) == once
    assert outcome(visible, defaults) == once


@given(CLOSE_IDS, CLOSE_VERSIONS, st.booleans())
def test_ids_and_versions_that_differ_in_case_or_hyphens_alone_are_one(
    application_id: str, version: str, by_default: bool
) -> None:
    """The node installed what was deleted since, and came back spelled in another way."""
    on_the_node = deployed(application_id, version, "before", by_default=by_default)
    spellings: list[Callable[[str], str]] = [
        str.lower,
        str.upper,
        lambda text: text.replace("-", "_"),
        lambda text: text.swapcase().replace("_", "-"),
    ]
    for spelled in spellings:
        own = deployed(spelled(application_id), spelled(version), "after")
        assert package_variables([on_the_node, own], {}) == package_variables([own], {})


def test_an_application_that_came_back_with_the_other_hyphen_is_one_with_what_the_node_has_of_it() -> None:
    on_the_node, own = deployed("my-tool", "1", by_default=True), deployed("My_Tool", "2")
    variables = package_variables([on_the_node, own], {"my-tool": "2", "my_tool": "2"})
    assert variables[PREFIX + "my_tool"] == variables[PREFIX + "My_Tool"] == directory(own)
    assert variables[PREFIX + "my_tool_1"] == directory(on_the_node)


@given(st.lists(CLOSE, max_size=3), st.lists(CLOSE, max_size=3), st.lists(CLOSE, max_size=3))
def test_a_tasks_packages_are_visible_to_no_other_task(
    node: list[VisiblePackage], own: list[VisiblePackage], others: list[VisiblePackage]
) -> None:
    before = outcome([*node, *others], {})
    outcome([*node, *own], {})
    after = outcome([*node, *others], {})
    assert after == before
    if after is not None:
        assert set(after.values()) <= {directory(item) for item in [*node, *others]}


@given(situations(), st.lists(CLOSE, max_size=3))
def test_a_task_finds_its_own_packages_and_the_other_versions_of_its_node(
    situation: tuple[list[VisiblePackage], dict[str, str]], own: list[VisiblePackage]
) -> None:
    node, defaults = situation
    variables = outcome([*node, *own], defaults)
    if variables is None:
        return
    newest = {name_of(item): item for item in [*node, *own]}
    for item in newest.values():
        assert {variables[name] for name in forms(item.package)} == {directory(item)}


@pytest.mark.parametrize("default", ["2.7b", "2.7B"])
@pytest.mark.parametrize("version", ["2.7b", "2.7B"])
def test_a_default_version_in_another_case_is_that_version(version: str, default: str) -> None:
    chosen = deployed("blender", version)
    assert package_variables([OLD, chosen, NEW], {"blender": default})[PREFIX + "blender"] == directory(chosen)


@pytest.mark.parametrize(("version", "default"), [("2.7_RC", "2.7-rc"), ("2.7-RC", "2.7_rc")])
def test_a_default_version_with_the_other_hyphen_is_that_version(version: str, default: str) -> None:
    """A reference without a version means it too: both give the name of one object."""
    chosen = deployed("blender", version)
    assert package_variables([OLD, chosen, NEW], {"blender": default})[PREFIX + "blender"] == directory(chosen)


def test_of_two_that_came_by_default_the_later_counts_where_neither_is_the_default_now() -> None:
    for first, second in ((OLD_BY_DEFAULT, NEW_BY_DEFAULT), (NEW_BY_DEFAULT, OLD_BY_DEFAULT)):
        assert package_variables([first, second], {})[PREFIX + "blender"] == directory(second)
    again = package_variables([OLD_BY_DEFAULT, NEW_BY_DEFAULT, OLD], {"blender": "4.0"})
    assert again[PREFIX + "blender"] == directory(OLD), "what is named once more is the later one"


def test_a_name_without_a_version_collides_only_where_it_is_set() -> None:
    """``a_1`` is version 1 of ``a``, and also the default version of ``a_1``, where that is to be found."""
    one, two, three = deployed("a", "1"), deployed("a_1", "2"), deployed("a_1", "3")
    assert package_variables([one, two, three], {})[PREFIX + "a_1"] == directory(one)
    with pytest.raises(CollisionError, match="the packages a:1 and a_1:3 would both set AZ_BATCH_APP_PACKAGE_a_1;"):
        package_variables([one, two, three], {"a_1": "3"})


@given(CLOSE_IDS, CLOSE_VERSIONS, CLOSE_IDS, CLOSE_VERSIONS)
def test_two_packages_collide_in_every_case_or_in_none(one: str, first: str, other: str, second: str) -> None:
    visible = [deployed(one, first, "one"), deployed(other, second, "two")]
    refused = outcome(visible, {}) is None
    for change in (str.lower, str.upper, str.swapcase):
        changed = [deployed(change(one), change(first), "one"), visible[1]]
        assert (outcome(changed, {}) is None) == refused


@given(IDS, VERSIONS, st.sampled_from(["/mnt/batch/tasks", "/", "/data/node 1"]))
def test_values_are_absolute_directories_below_the_nodes_root(application_id: str, version: str, root: str) -> None:
    item = deployed(application_id, version)
    (value,) = set(package_variables([item], {}, PurePosixPath(root)).values())
    assert PurePosixPath(value) == PurePosixPath(root) / item.package.directory
    assert PurePosixPath(value).is_absolute()
    assert ".." not in PurePosixPath(value).parts


@given(IDS, VERSIONS)
def test_no_package_takes_another_variable_of_batch_or_one_that_a_user_may_set(
    application_id: str, version: str
) -> None:
    """A user's settings may not begin with AZ_BATCH_: their own rule says so, and has examples of these very names."""
    names = package_variables([deployed(application_id, version)], {}).keys()
    assert all(name.startswith(PREFIX) and len(name) > len(PREFIX) for name in names)
    of_batch = node_variables("render", "render-3").keys() | task_variables(
        account="team", job_id="nightly", name="frame-1", attempt=2
    )
    assert not any(name.startswith(PREFIX) for name in of_batch)
    (rule,) = EnvironmentSetting.rules
    assert rule.rule == "!self.name.startsWith('AZ_BATCH_')"
    assert {name for name in of_batch | names if not name.startswith("AZ_BATCH_")} == {"HOME"}


def test_nodes_can_load_this_module_without_the_models() -> None:
    """A node's agent uses it, and has to stay small; a package loads with any module of it, which no linter sees."""
    program = (
        "import sys, packhorse.domain.environment; print(*sorted({'pydantic', 'packhorse.model'} & set(sys.modules)))"
    )
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=paths, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_nothing_visible_sets_nothing() -> None:
    assert package_variables([], {"blender": "2.7"}) == {}


def test_variables_of_a_node() -> None:
    assert node_variables("render", "render-3") == {
        "AZ_BATCH_ROOT_DIR": "/mnt/batch/tasks",
        "AZ_BATCH_NODE_ROOT_DIR": "/mnt/batch/tasks",
        "AZ_BATCH_NODE_SHARED_DIR": "/mnt/batch/tasks/shared",
        "AZ_BATCH_NODE_STARTUP_DIR": "/mnt/batch/tasks/startup",
        "AZ_BATCH_NODE_STARTUP_WORKING_DIR": "/mnt/batch/tasks/startup/wd",
        "AZ_BATCH_NODE_MOUNTS_DIR": "/mnt/batch/tasks/fsmounts",
        "AZ_BATCH_NODE_ID": "render-3",
        "AZ_BATCH_NODE_IS_DEDICATED": "true",
        "AZ_BATCH_POOL_ID": "render",
    }


def test_variables_of_a_task() -> None:
    assert task_variables(account="team", job_id="nightly", name="frame-1", attempt=2) == {
        "AZ_BATCH_ACCOUNT_NAME": "team",
        "AZ_BATCH_JOB_ID": "nightly",
        "AZ_BATCH_TASK_ID": "frame-1",
        "AZ_BATCH_TASK_DIR": "/mnt/batch/tasks/workitems/nightly/job-1/frame-1",
        "AZ_BATCH_TASK_WORKING_DIR": "/mnt/batch/tasks/workitems/nightly/job-1/frame-1/wd",
        "AZ_BATCH_TASK_ATTEMPT": "2",
        "HOME": "/mnt/batch/tasks/workitems/nightly/job-1/frame-1/wd",
    }
