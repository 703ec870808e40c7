"""A cluster with Secrets, and accounts in memory that they link; time is virtual."""

import asyncio
import base64
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from packhorse.archive import Limits
from packhorse.cluster.client import SECRET
from packhorse.domain.packages import Blob, Content, Missing, NotLinked, Unavailable
from packhorse.operator.settings import Settings
from packhorse.operator.storage import LinkedStorage
from packhorse.storage.credentials import AccountConfiguration
from packhorse.storage.errors import NotLinkedError, UnavailableError
from tests.unit.operator.fake_api import FakeApi
from tests.unit.virtual_time import run

T = TypeVar("T")

SETTINGS = Settings("system", "pod", "image", "svc:8443", storage_secret="account", namespace_storage=True)
KEYS = {name: base64.b64encode(name.encode()).decode() for name in ("first", "second", "third")}
LATENCY = 0.1


@dataclass
class FakeAccount:
    """An account in memory.

    Attributes:
        trouble: Raised by everything that asks the account.
        asked: How often each method was called.
        signs: Whether it can sign without being asked.
    """

    configuration: AccountConfiguration
    blobs: dict[str, Blob] = field(default_factory=dict)
    trouble: UnavailableError | None = None
    asked: Counter[str] = field(default_factory=Counter)
    signs: bool = True
    closed: bool = False
    reading: Callable[[Callable[[int, int], None], threading.Event], None] = lambda _progress, _stopped: None

    @property
    def url(self) -> str:
        return f"{self.configuration.endpoint}/"

    @property
    def container_url(self) -> str:
        return f"{self.configuration.endpoint}/{self.configuration.container}"

    def find(self, blob: str) -> Blob | Missing:
        self._count("find")
        return self.blobs.get(blob, Missing())

    def list(self, folder: str, most: int) -> dict[str, Blob] | None:
        self._count("list")
        found = {path: blob for path, blob in self.blobs.items() if path.startswith(folder)}
        return found if len(found) <= most else None

    def delete(self, blob: str) -> None:
        self._count("delete")
        self.blobs.pop(blob, None)

    def verify(
        self,
        blob: str,
        _limits: Limits,
        progress: Callable[[int, int], None],
        stopped: threading.Event,
        *,
        seen: Blob,
    ) -> Content:
        assert seen == self.blobs[blob]
        self._count("verify")
        self.reading(progress, stopped)
        return Content(self.blobs[blob], "digest", 1, 2)

    def can_sign(self) -> bool:
        return self.signs

    def readable(self, blob: str, lifetime: Any) -> str:
        if not self.signs:
            self._count("readable")
        return f"{self.container_url}/{blob}?read&{lifetime.total_seconds():.0f}"

    def writable(self, blob: str) -> str:
        self._count("writable")
        return f"{self.container_url}/{blob}?write"

    def close(self) -> None:
        self.closed = True

    def _count(self, method: str) -> None:
        self.asked[method] += 1
        if self.trouble is not None:
            raise self.trouble


class World:
    """A cluster with Secrets, and the accounts that they link.

    Attributes:
        accounts: All accounts that were opened, by their key; by their name where there is none.
        changed: What ``on_change`` was told.
        refuse: Accounts that cannot be opened.
    """

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.api = FakeApi()
        self.accounts: dict[str, FakeAccount] = {}
        self.opened = 0
        self.refuse: NotLinkedError | None = None
        self.changed: list[str | None] = []
        self.storage = LinkedStorage(
            self.api,
            settings,
            "authority",
            open_account=self._open,  # type: ignore[arg-type]
            run=self._run,
        )
        self.storage.on_change(self.changed.append)

    def link(self, key: str, namespace: str = "system", name: str = "account", **more: str) -> None:
        """Put a Secret with an account of this key."""
        data = {"accountName": "account", "accountKey": KEYS[key], **more}
        self.put(namespace, name, {name: value for name, value in data.items() if value})

    def put(self, namespace: str, name: str, data: dict[str, str]) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.api.put(SECRET, {"metadata": {"namespace": namespace, "name": name}, "data": encoded})

    def account(self, key: str = "first") -> FakeAccount:
        return self.accounts[KEYS[key]]

    async def look(self, namespace: str = "ns", blob: str = "ns/a.zip", max_age: float = 0) -> Any:
        return await self.storage.look(namespace, blob, max_age)

    def secret_reads(self) -> int:
        return len(self.api.requests)

    def _open(self, configuration: AccountConfiguration) -> FakeAccount:
        if self.refuse is not None:
            raise self.refuse
        self.opened += 1
        account = FakeAccount(configuration)
        self.accounts[configuration.key or configuration.name] = account
        return account

    async def _run(self, question: Callable[[], T]) -> T:
        await asyncio.sleep(LATENCY)
        return question()


def live(main: Callable[[World], Coroutine[Any, Any, None]], settings: Settings = SETTINGS) -> None:
    async def all_of_it() -> None:
        world = World(settings)
        await main(world)
        world.storage.close()

    run(all_of_it())


def message(seen: object) -> str:
    assert isinstance(seen, NotLinked | Unavailable)
    return seen.message
