"""What the machinery decides before it touches anything: which cluster, which tools, which images."""

from pathlib import Path

import pytest

from tests.cluster import golang, images, tools
from tests.cluster.cluster import choose_kubeconfig, images_given
from tests.cluster.command import ClusterError
from tests.cluster.engine import lacks_sys_resource
from tests.cluster.loading import full_name
from tests.cluster.registry import registry_of


def test_kubeconfig_that_is_named_wins() -> None:
    env = {"PACKHORSE_KUBECONFIG": "/b", "KUBECONFIG": "/c"}
    assert choose_kubeconfig("/a", env) == (Path("/a"), "")
    assert choose_kubeconfig(None, env) == (Path("/b"), "")


def test_kubeconfig_of_the_environment_is_not_used_and_that_is_said() -> None:
    path, remark = choose_kubeconfig(None, {"KUBECONFIG": "/home/me/production"})
    assert path is None
    assert "/home/me/production" in remark
    assert "--kubeconfig" in remark


def test_without_any_kubeconfig_there_is_nothing_to_say() -> None:
    assert choose_kubeconfig(None, {}) == (None, "")


def test_images_for_a_cluster_that_takes_none_from_here() -> None:
    given = images_given({"PACKHORSE_IMAGE": "example.com:5000/packhorse:1"})
    assert given == images.Images("example.com:5000/packhorse:1", images.AZURITE_IMAGE, images.TASK_IMAGE)
    given = images_given({"PACKHORSE_IMAGE": "p:1", "AZURITE_IMAGE": "a:1", "TASK_IMAGE": "t:1"})
    assert given == images.Images("p:1", "a:1", "t:1")


@pytest.mark.parametrize("env", [{}, {"PACKHORSE_IMAGE": ""}, {"PACKHORSE_IMAGE": "example.com:5000/packhorse"}])
def test_images_that_nobody_gave(env: dict[str, str]) -> None:
    with pytest.raises(ClusterError, match="PACKHORSE_IMAGE"):
        images_given(env)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("kind v0.33.0 go1.26.8 linux/amd64", (0, 33)),
        ("v3.22.0+gunknown", (3, 22)),
        ("v1.32.4-dispatcher", (1, 32)),
        ("no version", None),
        ("", None),
    ],
)
def test_parse_version(text: str, version: tuple[int, int] | None) -> None:
    assert tools.parse_version(text) == version


def test_which_tools_will_do() -> None:
    assert [tools.kind_will_do(version) for version in ((0, 26), (0, 27), (1, 0), None)] == [False, True, True, False]
    assert [tools.kubectl_will_do((1, minor)) for minor in (32, 33, 35, 36)] == [False, True, True, False]
    assert [tools.helm_will_do(version) for version in ((2, 17), (3, 13), (3, 14), (4, 0))] == [
        False,
        False,
        True,
        True,
    ]
    assert not tools.kubectl_will_do(None)
    assert not tools.helm_will_do(None)


@pytest.mark.parametrize(
    ("version", "enough"),
    [("go1.26.8", True), ("go1.21.0", True), ("go1.19.8", False), ("go2.0", True), ("devel", False), ("", False)],
)
def test_which_go_will_do(version: str, *, enough: bool) -> None:
    assert golang.new_enough(version) is enough


def test_required_version() -> None:
    single = "module x\n\ngo 1.24.0\n\nrequire example.com/a v1.2.3 // indirect\n"
    block = "require (\n\texample.com/a/b v0.1.0\n\texample.com/a v1.2.4\n)\n"
    assert golang.required_version(single, "example.com/a") == "v1.2.3"
    assert golang.required_version(block, "example.com/a") == "v1.2.4"
    with pytest.raises(ClusterError, match=r"example\.com/c"):
        golang.required_version(block, "example.com/c")


def test_every_component_has_its_module_and_a_key_of_its_own() -> None:
    components = [value for value in vars(golang).values() if isinstance(value, golang.Component)]
    assert len(components) >= 11
    assert len({component.key for component in components}) == len(components)
    assert all(component.version.startswith("v") for component in components)


@pytest.mark.parametrize(
    ("name", "registry", "full"),
    [
        ("debian:bookworm-slim", "", "docker.io/library/debian:bookworm-slim"),
        ("packhorse/packhorse:1", "", "docker.io/packhorse/packhorse:1"),
        ("localhost/x:1", "localhost", "localhost/x:1"),
        ("registry:5000/x:1", "registry:5000", "registry:5000/x:1"),
        (images.AZURITE_IMAGE, images.AZURITE_IMAGE.split("/")[0], images.AZURITE_IMAGE),
    ],
)
def test_names_of_images(name: str, registry: str, full: str) -> None:
    assert registry_of(name) == registry
    assert full_name(name) == full


def test_default_base_is_pinned() -> None:
    assert "@sha256:" in images.default_base((images.ROOT / "Dockerfile").read_text())
    with pytest.raises(ClusterError, match="ARG BASE"):
        images.default_base("FROM scratch\n")


def test_platforms_are_those_of_the_base_and_older() -> None:
    tags = images.platforms("x86_64")
    assert tags[0] == "manylinux_2_36_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64"} <= set(tags)


@pytest.mark.parametrize(
    ("effective", "bounding", "lacks"),
    [
        ("000001ffffffffff", "000001ffffffffff", False),
        ("000001fffeffffff", "000001fffeffffff", True),
        ("000001ffffffffff", "000001fffeffffff", True),
        ("0000000000000000", "000001ffffffffff", True),
    ],
)
def test_capability_to_raise_limits(effective: str, bounding: str, *, lacks: bool) -> None:
    status = f"Name:\tpython\nCapEff:\t{effective}\nCapBnd:\t{bounding}\n"
    assert lacks_sys_resource(status) is lacks
