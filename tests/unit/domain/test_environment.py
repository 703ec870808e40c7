"""Every form of a variable that any of Batch's documents uses, and what the form without a version stands for."""

from pathlib import PurePosixPath

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
from packhorse.model.names import ID_PATTERN, VERSION_PATTERN
from packhorse.protocol import VisiblePackage
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


@given(st.lists(st.builds(deployed, IDS, VERSIONS, by_default=st.booleans()), max_size=5, unique_by=str))
def test_every_package_is_found_by_its_own_name_or_all_are_refused(visible: list[VisiblePackage]) -> None:
    try:
        variables = package_variables(visible, {})
    except CollisionError:
        directories_of: dict[str, set[str]] = {}
        for item in visible:
            for name, value in package_variables([item], {}).items():
                directories_of.setdefault(name.upper(), set()).add(value)
        assert any(len(values) > 1 for values in directories_of.values())
        return
    for item in visible:
        own = f"{item.package.application_id}#{item.package.version}"
        assert variables[PREFIX + own] == directory(item)
    assert set(variables.values()) == {directory(item) for item in visible}


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
