"""The linked storage accounts: one for the installation, and one for each namespace that links its own.

Nobody else talks to an account, so that thousands of packages cost an account in trouble one request in a while, and
one that is well two requests: packages are looked up in one listing of their namespace's folder.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from packhorse.archive import Limits
from packhorse.cluster.client import Client
from packhorse.domain.packages import Blob, Content, Missing, NotLinked, Refused, Unavailable
from packhorse.operator.links import Links, Listing, Opened, now
from packhorse.operator.settings import Settings
from packhorse.storage.account import Account
from packhorse.storage.breaker import Ticket
from packhorse.storage.credentials import AccountConfiguration
from packhorse.storage.errors import (
    ACCESS_DENIED,
    CONTAINER_NOT_FOUND,
    HIERARCHICAL_NAMESPACE,
    NotLinkedError,
    UnavailableError,
    not_linked,
    unavailable,
)
from packhorse.storage.flights import started
from packhorse.storage.signing import DOWNLOAD_LIFETIME, READ_LIFETIME

T = TypeVar("T")

_log = logging.getLogger(__name__)

THREADS = 16
LONGEST_LISTING = 50_000
"""Blobs in one folder beyond which each is asked for by itself, since a listing would take too much memory."""
KEEP_LISTING = 600.0
"""Seconds after which a listing is dropped, and a folder that was too long to list is tried again."""

_NOBODY_GAINS = frozenset({ACCESS_DENIED, CONTAINER_NOT_FOUND, HIERARCHICAL_NAMESPACE})
"""Troubles in which a URL would be of no use to a node either."""


class LinkedStorage:
    """Talks to linked accounts. Where a namespace's Secret links one, that is the namespace's; else the installation's.

    All methods raise ApiError and ApiUnavailableError while a Secret was never read because the API server does not
    answer. Secrets are read anew by themselves, so that credentials can be changed at any time.

    Args:
        client: To read Secrets by.
        settings: Which Secret, which container.
        authority: PEM certificate that the embedded storage's own is checked by.
        open_account: How an account is opened.
        run: How a blocking call is run; by default in threads of its own.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        authority: str,
        *,
        open_account: Callable[[AccountConfiguration], Account] = Account,
        run: "Callable[[Callable[[], Any]], Any] | None" = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "storage")
        self._run = run or self._in_thread
        self._callbacks: list[Callable[[str | None], None]] = []
        trusted = authority if settings.embedded_storage else ""
        self._links = Links(client, settings, trusted, open_account, self._changed)

    def on_change(self, callback: Callable[[str | None], None]) -> None:
        """Have it called when an account has healed, or its Secret has changed.

        It gets the namespace that the account is linked to; None for the installation's, which is any namespace's.
        """
        self._callbacks.append(callback)

    def close(self) -> None:
        """Close all connections; what is under way in threads ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._links.close()

    async def look(self, namespace: str, blob: str, max_age: float) -> NotLinked | Unavailable | Missing | Blob:
        """Whether a blob is there.

        Args:
            namespace: Whose.
            blob: Its path in the container.
            max_age: Seconds that the answer may be old: it then comes from a listing of the namespace's folder. 0 asks
                for this very blob, now.
        """
        try:
            opened = await self._links.account_of(namespace)
            folder = f"{namespace}/"
            if max_age > 0 and blob.startswith(folder):
                listed = await self._listing(opened, folder, max_age)
                if listed is not None:
                    return listed.get(blob, Missing())
            return await self._find(opened, folder, blob)
        except NotLinkedError as error:
            return not_linked(error)
        except UnavailableError as error:
            return unavailable(error)

    async def verify(
        self,
        namespace: str,
        blob: str,
        limits: Limits,
        progress: Callable[[int, int], None],
        *,
        seen: Blob | None = None,
    ) -> NotLinked | Unavailable | Missing | Content | Refused:
        """Read a blob from end to end. When this is cancelled, reading stops soon.

        Args:
            namespace: Whose.
            blob: Its path in the container.
            limits: What a package may hold.
            progress: Told how many bytes were read, and of how many, in the event loop; must not raise.
            seen: What ``look`` gave just before; it is asked for if None.
        """
        stopped = threading.Event()
        loop = asyncio.get_running_loop()

        def tell(read: int, total: int) -> None:
            loop.call_soon_threadsafe(progress, read, total)

        try:
            opened = await self._links.account_of(namespace)
            # A short question first: it may be the one that finds out whether the account is well again.
            found = seen or await self._find(opened, f"{namespace}/", blob)
            if isinstance(found, Missing):
                return found
            return await self._ask(
                opened, lambda: opened.account.verify(blob, limits, tell, stopped, seen=found), probe=False
            )
        except NotLinkedError as error:
            return not_linked(error)
        except UnavailableError as error:
            return unavailable(error)
        finally:
            stopped.set()

    async def delete(self, namespace: str, blob: str) -> NotLinked | Unavailable | Missing:
        """Delete a blob with its snapshots; Missing means that it is gone."""
        try:
            opened = await self._links.account_of(namespace)
            await self._ask(opened, lambda: opened.account.delete(blob))
        except NotLinkedError as error:
            return not_linked(error)
        except UnavailableError as error:
            return unavailable(error)
        await self._note(opened, f"{namespace}/", blob, Missing())
        return Missing()

    async def readable(self, namespace: str, blob: str) -> str:
        """A URL by which a node can read one blob for some minutes. Raises NotLinkedError, UnavailableError."""
        opened = await self._links.account_of(namespace)
        return await self._sign(opened, lambda: opened.account.readable(blob, READ_LIFETIME))

    async def downloadable(self, namespace: str, blob: str) -> str:
        """A URL by which a person can read one blob for some hours. Raises NotLinkedError, UnavailableError."""
        opened = await self._links.account_of(namespace)
        return await self._sign(opened, lambda: opened.account.readable(blob, DOWNLOAD_LIFETIME))

    async def writable(self, namespace: str, blob: str) -> str:
        """A URL by which one blob can be uploaded for some hours. Raises NotLinkedError, UnavailableError."""
        opened = await self._links.account_of(namespace)
        return await self._ask(opened, lambda: opened.account.writable(blob))

    async def folder_url(self, namespace: str) -> str | None:
        """The address of a namespace's folder, without credentials; None where no account is linked."""
        try:
            opened = await self._links.account_of(namespace)
        except NotLinkedError:
            return None
        return f"{opened.account.container_url}/{namespace}/"

    async def _find(self, opened: Opened, folder: str, blob: str) -> Blob | Missing:
        async def question() -> Blob | Missing:
            found = await self._ask(opened, lambda: opened.account.find(blob))
            await self._note(opened, folder, blob, found)
            return found

        return await opened.questions.ask(blob, question)

    async def _note(self, opened: Opened, folder: str, blob: str, found: Blob | Missing) -> None:
        """Put into the folder's listing what is known better now."""
        listing = opened.listings.get(folder)
        if listing is None or not listing.task.done() or listing.task.exception() is not None:
            return
        listed = listing.task.result()
        if listed is not None and isinstance(found, Blob):
            listed[blob] = found
        elif listed is not None:
            listed.pop(blob, None)

    async def _listing(self, opened: Opened, folder: str, max_age: float) -> Mapping[str, Blob] | None:
        while True:
            moment = now()
            listing = opened.listings.get(folder)
            if listing is None:
                break
            if moment - listing.asked_at <= max_age or (listing.task.done() and _too_long(listing, moment)):
                return await asyncio.shield(listing.task)
            if listing.task.done():
                break
            await asyncio.wait([listing.task])  # too old for us: another one, but not two at a time
        for name in [name for name, old in opened.listings.items() if moment - old.asked_at > KEEP_LISTING]:
            del opened.listings[name]
        task = started(self._ask(opened, lambda: opened.account.list(folder, LONGEST_LISTING)))
        listing = opened.listings[folder] = Listing(moment, task)

        def ended(_: object) -> None:
            failed = task.cancelled() or task.exception() is not None
            if failed and opened.listings.get(folder) is listing:
                del opened.listings[folder]

        task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def _sign(self, opened: Opened, sign: Callable[[], str]) -> str:
        trouble = opened.breaker.trouble
        if opened.account.can_sign() and (trouble is None or trouble.reason not in _NOBODY_GAINS):
            return sign()
        return await self._ask(opened, sign)

    async def _ask(self, opened: Opened, question: Callable[[], T], *, probe: bool = True) -> T:
        """Ask the account, unless it is known to be in trouble. Raises UnavailableError."""
        ticket = opened.breaker.enter(probe=probe)
        try:
            answer: T = await self._run(question)
        except UnavailableError as error:
            if error.account_wide:
                refusal = opened.breaker.failed(ticket, error)
                if not ticket.probe:
                    _log.warning("%s", refusal)
                raise refusal from None
            self._succeeded(opened, ticket)
            raise
        except BaseException:
            opened.breaker.abandoned(ticket)
            raise
        self._succeeded(opened, ticket)
        return answer

    def _succeeded(self, opened: Opened, ticket: Ticket) -> None:
        if opened.breaker.succeeded(ticket):
            _log.info("the storage account %s answers again", opened.account.url)
            for owner in self._links.owners(opened):
                self._changed(owner)

    def _changed(self, owner: str | None) -> None:
        for callback in self._callbacks:
            callback(owner)

    async def _in_thread(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)


def _too_long(listing: Listing, moment: float) -> bool:
    return moment - listing.asked_at <= KEEP_LISTING and listing.task.result() is None
