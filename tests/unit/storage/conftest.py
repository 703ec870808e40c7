"""Storage accounts for tests."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from packhorse.storage.account import Account
from packhorse.storage.credentials import AccountConfiguration
from tests.unit.storage.servers import Azurite, WebServer, running_azurite

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


Open = Callable[..., Account]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens accounts, and closes them in the end."""
    accounts: list[Account] = []

    def open_account(configuration: AccountConfiguration, **options: object) -> Account:
        account = Account(configuration, **options)  # type: ignore[arg-type]
        accounts.append(account)
        return account

    yield open_account
    for account in accounts:
        account.close()


@pytest.fixture
def container() -> str:
    """A name that no other test uses."""
    return f"container-{next(_numbers)}"


@pytest.fixture
def account(azurite: Azurite, opened: Open, container: str) -> Account:
    """An account by its key, whose container is not there yet."""
    return opened(azurite.configuration(container))
