"""The linked storage account of this installation, read anew now and then, so that its key can change at any time."""

import tempfile
import time
from pathlib import Path

from packhorse.cluster.client import Client
from packhorse.operator.secrets import read_secret
from packhorse.operator.settings import Settings
from packhorse.storage.account import HOW_TO_LINK, Account, NotLinkedError, connection_string

REFRESH = 30.0
"""Seconds until the Secret is read again."""


class LinkedStorage:
    """Gives the linked account.

    Args:
        client: To read the Secret by.
        settings: Which Secret, which container.
        authority: PEM certificate that the embedded storage's own is checked by.
    """

    def __init__(self, client: Client, settings: Settings, authority: str) -> None:
        self._client = client
        self._settings = settings
        self._account: Account | None = None
        self._text = ""
        self._read_at = float("-inf")
        self._authority: Path | None = None
        if settings.embedded_storage:
            with tempfile.NamedTemporaryFile("w", prefix="packhorse-authority-", suffix=".crt", delete=False) as file:
                file.write(authority)
            self._authority = Path(file.name)

    async def account(self) -> Account:
        """The linked account. Raises NotLinkedError where there is none, and what Client raises."""
        if not self._settings.storage_secret:
            raise NotLinkedError(HOW_TO_LINK)
        if self._account is None or time.monotonic() - self._read_at > REFRESH:
            await self._read()
        if self._account is None:
            raise NotLinkedError(
                f"the Secret {self._settings.storage_secret} of the linked storage account is not in the namespace"
                f" {self._settings.namespace}; create it with the key connectionString"
            )
        return self._account

    async def _read(self) -> None:
        data = await read_secret(self._client, self._settings.namespace, self._settings.storage_secret)
        self._read_at = time.monotonic()
        if data is None:
            self._account, self._text = None, ""
            return
        text = connection_string(data)
        if text != self._text:
            self._account = Account(text, self._settings.storage_container, self._authority)
            self._text = text
