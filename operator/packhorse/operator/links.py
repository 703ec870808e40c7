"""Which storage account a namespace is linked to: read from Secrets, anew now and then, so that keys can change."""

import asyncio
import base64
import binascii
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packhorse.cluster.client import SECRET, ApiError, ApiUnavailableError, Client
from packhorse.domain.packages import Blob, Missing
from packhorse.operator.settings import Settings
from packhorse.storage.account import Account
from packhorse.storage.breaker import Breaker
from packhorse.storage.credentials import (
    HOW_TO_LINK,
    KEYS,
    AccountConfiguration,
    IdentityRule,
    identity_configuration,
    secret_configuration,
)
from packhorse.storage.errors import NotLinkedError
from packhorse.storage.flights import SharedQuestions

_log = logging.getLogger(__name__)

NAMESPACE_SECRET = "packhorse-storage"  # noqa: S105 (a name)
REFRESH = 30.0
"""Seconds until a Secret is read again."""
KEEP_LINK = 900.0
"""Seconds after which a namespace that nobody asks about is forgotten."""


@dataclass
class Listing:
    """One listing of a namespace's folder, done or under way; its result is None if the folder is too long."""

    asked_at: float
    task: asyncio.Task[dict[str, Blob] | None]


@dataclass(eq=False)
class Opened:
    """An account with all that is shared by those who are linked to it."""

    account: Account
    breaker: Breaker
    questions: SharedQuestions[str, Blob | Missing] = field(default_factory=SharedQuestions)
    listings: dict[str, Listing] = field(default_factory=dict)


@dataclass
class _Link:
    """What is known of one Secret.

    Attributes:
        linked: What it links; an error if it is of no use; None where there is no Secret.
        read_at: When it was read; minus infinity if it never was.
        used_at: When somebody last asked about it.
    """

    linked: AccountConfiguration | NotLinkedError | None = None
    opened: Opened | None = None
    read_at: float = float("-inf")
    used_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Links:
    """The accounts that Secrets link. Equal Secrets share an account.

    Args:
        client: To read Secrets by.
        settings: Which Secret, which container.
        authority: PEM certificate that the installation's account is checked by where its Secret has none.
        open_account: How an account is opened.
        changed: Called when what an owner is linked to has changed: a namespace, or None for the installation.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        authority: str,
        open_account: Callable[[AccountConfiguration], Account],
        changed: Callable[[str | None], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._authority = authority
        self._open_account = open_account
        self._changed = changed
        self._links: dict[str | None, _Link] = {}
        # An account is closed when the last link to it is gone, and nobody is asking it any more.
        self._opened: weakref.WeakValueDictionary[AccountConfiguration, Opened] = weakref.WeakValueDictionary()

    def close(self) -> None:
        """Close all connections."""
        for opened in list(self._opened.values()):
            opened.account.close()

    def owners(self, opened: Opened) -> list[str | None]:
        """Who is linked to an account by a Secret of their own."""
        return [owner for owner, link in self._links.items() if link.opened is opened]

    async def account_of(self, namespace: str) -> Opened:
        """The account that is linked to a namespace.

        Raises:
            NotLinkedError: There is none, or its Secret is of no use.
            ApiError, ApiUnavailableError: The Secret was never read yet, and cannot be.
        """
        link = await self._link(namespace) if self._settings.namespace_storage else None
        if link is None or link.linked is None:
            link = await self._link(None)
        if link.opened is not None:
            return link.opened
        if link.linked is not None:
            raise NotLinkedError(str(link.linked))
        if not self._settings.storage_secret:
            raise NotLinkedError(HOW_TO_LINK)
        raise NotLinkedError(
            f"there is no Secret {self._settings.namespace}/{self._settings.storage_secret}, which links the storage"
            " account; create it with the key connectionString"
        )

    async def _link(self, owner: str | None) -> _Link:
        moment = now()
        link = self._links.get(owner)
        if link is None:
            forgotten = [name for name, old in self._links.items() if name and moment - old.used_at >= KEEP_LINK]
            for name in forgotten:
                del self._links[name]
            link = self._links[owner] = _Link()
        link.used_at = moment
        if moment - link.read_at >= REFRESH:
            async with link.lock:
                if now() - link.read_at >= REFRESH:
                    await self._read(owner, link)
        return link

    async def _read(self, owner: str | None, link: _Link) -> None:
        """Read what an owner's Secret links now. Raises ApiError, ApiUnavailableError if it never was read before."""
        known = link.read_at > float("-inf")
        try:
            linked = await self._linked(owner)
        except (ApiError, ApiUnavailableError) as error:
            if not known:
                raise
            _log.warning("the Secret of the linked storage account was not read anew: %s", error)
            link.read_at = now()
            return
        link.read_at = now()
        if known and _same(linked, link.linked):
            return
        link.linked, link.opened = linked, None
        if isinstance(linked, AccountConfiguration):
            try:
                link.opened = self._open(linked)
            except NotLinkedError as error:
                link.linked = error
        if known:
            _log.info("the storage account of %s was linked anew", owner or "the installation")
            self._changed(owner)

    async def _linked(self, owner: str | None) -> AccountConfiguration | NotLinkedError | None:
        settings = self._settings
        namespace, name = (owner, NAMESPACE_SECRET) if owner else (settings.namespace, settings.storage_secret)
        source = f"the Secret {namespace}/{name}"
        try:
            if not name:
                if not settings.storage_account:
                    return None
                return identity_configuration(settings.storage_account, container=settings.storage_container)
            secret = await self._client.find(SECRET, namespace, name)
            if secret is None:
                return None
            rule = IdentityRule() if owner is None else await self._identity_rule()
            authority = "" if owner else self._authority
            return secret_configuration(
                _decoded(secret, source),
                source,
                container=settings.storage_container,
                identity=rule,
                authority=authority,
            )
        except NotLinkedError as error:
            return error
        except ApiError as error:
            if error.status != 403:
                raise
            return NotLinkedError(f"the operator may not read {source}; give its service account leave to get Secrets")

    async def _identity_rule(self) -> IdentityRule:
        """What an account name alone means in a namespace's Secret."""
        installation = (await self._link(None)).linked
        if not isinstance(installation, AccountConfiguration) or installation.key is not None:
            return IdentityRule(allowed=False)
        return IdentityRule(custom_endpoint=False, suffix=installation.suffix)

    def _open(self, configuration: AccountConfiguration) -> Opened:
        opened = self._opened.get(configuration)
        if opened is None:
            account = self._open_account(configuration)
            opened = self._opened[configuration] = Opened(account, Breaker(now))
            weakref.finalize(opened, account.close)
        return opened


def _decoded(secret: Mapping[str, Any], source: str) -> dict[str, str]:
    """The data of a Secret, as far as they concern storage. Raises NotLinkedError."""
    data = secret.get("data") or {}
    decoded = {}
    for key in KEYS:
        try:
            decoded[key] = base64.b64decode(data.get(key, "")).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise NotLinkedError(f"the key {key} of {source} is no text; put it in again") from None
    return decoded


def _same(one: object, other: object) -> bool:
    if isinstance(one, NotLinkedError) and isinstance(other, NotLinkedError):
        return str(one) == str(other)
    return one == other


def now() -> float:
    """Seconds on the event loop's clock."""
    return asyncio.get_running_loop().time()
