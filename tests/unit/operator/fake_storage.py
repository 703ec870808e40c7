"""A linked storage account in memory, behind the methods that the operator calls."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

from packhorse.archive import Limits
from packhorse.domain.packages import Blob, Content, Missing, NotLinked, Refused, Unavailable
from packhorse.storage.errors import NotLinkedError, UnavailableError
from tests.unit.objects import digest

Trouble = NotLinked | Unavailable


class FakeStorage:
    """An account whose blobs are short texts; a text that begins with ``!`` is no package.

    Attributes:
        trouble: What is answered in place of everything, if not None.
        blobs: Text and mark of each blob by path.
        host: Of its addresses.
        sizes: Pretended length of some blobs.
        held: The reading of these blobs does not end before it is said to.
        asked: How often each method was called for each path.
    """

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self.blobs: dict[str, tuple[str, str]] = {}
        self.sizes: dict[str, int] = {}
        self.host = "account.example"
        self.held: dict[str, asyncio.Event] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self._marks = itertools.count(1)
        self._changed: list[Callable[[str | None], None]] = []

    def put(self, path: str, text: str) -> None:
        """Write a blob, as anybody with a key can."""
        self.blobs[path] = (text, f"0x{next(self._marks)}")

    def heal(self) -> None:
        """Answer again, and tell."""
        self.trouble = None
        for callback in self._changed:
            callback(None)

    # --- what the operator calls ---------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[str | None], None]) -> None:
        self._changed.append(callback)

    async def folder_url(self, namespace: str) -> str | None:
        return None if self.trouble else f"https://{self.host}/packhorse/{namespace}/"

    async def look(self, _namespace: str, blob: str, _max_age: float) -> Trouble | Missing | Blob:
        self.asked["look", blob] += 1
        await asyncio.sleep(0)
        if self.trouble is not None:
            return self.trouble
        if blob not in self.blobs:
            return Missing()
        return self._blob(blob)

    async def verify(
        self,
        _namespace: str,
        blob: str,
        _limits: Limits,
        progress: Callable[[int, int], None],
        *,
        seen: Blob | None = None,
    ) -> Trouble | Missing | Content | Refused:
        self.asked["verify", blob] += 1
        await asyncio.sleep(0)
        if self.trouble is not None:
            return self.trouble
        if blob not in self.blobs:
            return Missing()
        assert seen in {None, self._blob(blob)}
        seen = self._blob(blob)
        if blob in self.held:
            progress(seen.size // 4, seen.size)
            await self.held[blob].wait()
        text = self.blobs[blob][0]
        if text.startswith("!"):
            return Refused(seen, f"the blob '{blob}' is no package that a node can take: it is {text}")
        return Content(seen, digest(text), 1, len(text))

    async def delete(self, _namespace: str, blob: str) -> Trouble | Missing:
        self.asked["delete", blob] += 1
        if self.trouble is not None:
            return self.trouble
        self.blobs.pop(blob, None)
        return Missing()

    async def readable(self, namespace: str, blob: str) -> str:
        return self._signed(namespace, blob, "r")

    async def downloadable(self, namespace: str, blob: str) -> str:
        return self._signed(namespace, blob, "r")

    async def writable(self, namespace: str, blob: str) -> str:
        return self._signed(namespace, blob, "rcw")

    def _signed(self, _namespace: str, blob: str, permission: str) -> str:
        if isinstance(self.trouble, NotLinked):
            raise NotLinkedError(self.trouble.message)
        if isinstance(self.trouble, Unavailable):
            raise UnavailableError(self.trouble.reason, self.trouble.message)
        return f"https://{self.host}/packhorse/{blob}?sp={permission}&sig=secret"

    def _blob(self, blob: str) -> Blob:
        text, mark = self.blobs[blob]
        return Blob(mark, self.sizes.get(blob, len(text)))
