"""Errors for the person at the terminal."""

import re

USAGE = 2
INTERRUPTED = 130  # as shells say it: 128 + SIGINT


class CliError(Exception):
    """Something that the user can understand and act on: one or two lines, no traceback.

    Attributes:
        message: What is wrong, with which object.
        hint: What to do about it; may be empty.
        exit_code: The process's exit code.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class UsageError(CliError):
    """The command line itself is wrong; nothing was sent."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, exit_code=USAGE)


class ConnectionLostError(CliError):
    """The cluster did not answer, or an answer broke off: trying again may help."""


class ApiError(CliError):
    """The API server refused a request.

    Attributes:
        status: HTTP status.
        reason: Its reason in one word, such as NotFound or Conflict; may be empty.
    """

    def __init__(self, message: str, hint: str = "", *, status: int, reason: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.reason = reason


def redact(text: str) -> str:
    """The text without signatures and tokens, which other people's libraries like to put into their messages."""
    text = re.sub(r"(sig=)[^&\s'\"<>]+", r"\1REDACTED", text, flags=re.IGNORECASE)
    return re.sub(r"(Bearer\s+)[^\s'\",}]+", r"\1REDACTED", text, flags=re.IGNORECASE)
