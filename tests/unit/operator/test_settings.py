"""The operator's settings."""

import pytest

from packhorse.archive import Limits
from packhorse.operator.settings import Settings, SettingsError

LEAST = {"PACKHORSE_NAMESPACE": "system", "PACKHORSE_IMAGE": "packhorse:1", "PACKHORSE_NODE_SERVICE": "svc:8443"}


def test_the_least() -> None:
    assert Settings.from_environment(LEAST) == Settings(
        namespace="system",
        instance="packhorse-operator",
        image="packhorse:1",
        node_service="svc:8443",
        pull_policy="IfNotPresent",
        watch_namespaces=(),
        storage_secret="",
        storage_account="",
        storage_container="packhorse",
        namespace_storage=False,
        packages_per_application=40,
        package_size=195 << 30,
        limits=Limits(),
        embedded_storage="",
        node_network_policy=True,
        log_level="INFO",
    )


def test_everything() -> None:
    more = {
        "POD": "packhorse-0",
        "IMAGE_PULL_POLICY": "Always",
        "WATCH_NAMESPACES": "one, two,,three",
        "STORAGE_SECRET": "account",
        "STORAGE_ACCOUNT": "renderpackages",
        "STORAGE_CONTAINER": "packages",
        "NAMESPACE_STORAGE": "true",
        "PACKAGES_PER_APPLICATION": "0",
        "PACKAGE_SIZE": "5Gi",
        "PACKAGE_FILES": "1000000",
        "PACKAGE_FILE_SIZE": "1Gi",
        "PACKAGE_UNPACKED_SIZE": "2Gi",
        "PACKAGE_RATIO": "1032",
        "EMBEDDED_STORAGE": "azurite.system.svc:10000",
        "NODE_NETWORK_POLICY": "false",
        "LOG_LEVEL": "debug",
    }
    settings = Settings.from_environment(LEAST | {f"PACKHORSE_{name}": value for name, value in more.items()})
    assert settings == Settings(
        namespace="system",
        instance="packhorse-0",
        image="packhorse:1",
        node_service="svc:8443",
        pull_policy="Always",
        watch_namespaces=("one", "two", "three"),
        storage_secret="account",
        storage_account="renderpackages",
        storage_container="packages",
        namespace_storage=True,
        packages_per_application=0,
        package_size=5 << 30,
        limits=Limits(files=1_000_000, file_size=1 << 30, total_size=2 << 30, ratio=1032, directory_size=256_000_000),
        embedded_storage="azurite.system.svc:10000",
        node_network_policy=False,
        log_level="DEBUG",
    )


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("value", [None, ""])
def test_what_has_to_be_there_is_named(name: str, value: str | None) -> None:
    given = {key: text for key, text in LEAST.items() if key != name}
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        Settings.from_environment(given if value is None else {**given, name: value})


@pytest.mark.parametrize(("value", "said"), [("many", "no quantity"), ("-1", "below zero"), ("5 GB", "no quantity")])
def test_a_quota_that_is_none(value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"PACKHORSE_PACKAGE_SIZE={value} is {said}"):
        Settings.from_environment({**LEAST, "PACKHORSE_PACKAGE_SIZE": value})


def test_empty_means_the_default() -> None:
    empty = {"PACKHORSE_IMAGE_PULL_POLICY": "", "PACKHORSE_STORAGE_CONTAINER": "", "PACKHORSE_LOG_LEVEL": ""}
    assert Settings.from_environment(LEAST | empty) == Settings.from_environment(LEAST)


def test_from_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().image == "packhorse:1"


@pytest.mark.parametrize("name", ["FILES", "FILE_SIZE", "UNPACKED_SIZE", "RATIO"])
def test_limits_of_packages_are_numbers(name: str) -> None:
    with pytest.raises(SettingsError, match=f"PACKHORSE_PACKAGE_{name}=0 would allow no package"):
        Settings.from_environment(LEAST | {f"PACKHORSE_PACKAGE_{name}": "0"})
