"""What can be wrong with the linked storage account, in words for the person who has to mend it.

The SDK's own errors are never passed on, not even as a cause: what a server answers to a bad signature repeats it.
"""

import datetime
import email.utils
import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, DeserializationError, HttpResponseError
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from packhorse.domain.packages import NotLinked, Unavailable

ACCESS_DENIED = "StorageAccessDenied"
UNREACHABLE = "StorageUnreachable"
THROTTLED = "StorageThrottled"
CONTAINER_NOT_FOUND = "StorageContainerNotFound"
HIERARCHICAL_NAMESPACE = "StorageHierarchicalNamespace"
STORAGE_ERROR = "StorageError"

LONGEST_PAUSE = 600.0
"""Seconds that an account's wish to be left alone is followed at most."""


class NotLinkedError(Exception):
    """There is no storage account, or its Secret is of no use."""


class UnavailableError(Exception):
    """The account does not answer, or refuses.

    Attributes:
        reason: One word for programs.
        retry_after: Seconds after which asking again makes sense; 0 if the account did not say.
        account_wide: Whether it concerns all blobs of the account, and not just the one that was asked about.
    """

    def __init__(self, reason: str, message: str, *, retry_after: float = 0.0, account_wide: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.account_wide = account_wide


def not_linked(error: NotLinkedError) -> NotLinked:
    """What a package's status says of it."""
    return NotLinked(str(error))


def unavailable(error: UnavailableError) -> Unavailable:
    """What a package's status says of it."""
    return Unavailable(error.reason, str(error), error.retry_after)


_WRONG_KEY = "the account key is wrong or was renewed; put the present one into the linked account's Secret"
_WRONG_IDENTITY = (
    "the operator's identity may not do this; give it the roles Storage Blob Data Contributor and Storage Blob"
    " Delegator on the account"
)
_REFUSALS = {
    "AuthorizationFailure": "its network rules or its credential forbid this; let the operator's network in, as Batch"
    " takes no account with firewall rules either, and check the credential",
    "AuthorizationPermissionMismatch": _WRONG_IDENTITY,
    "AuthorizationSourceIPMismatch": "it lets in other addresses than the operator's only; let the operator's in",
    "InsufficientAccountPermissions": _WRONG_IDENTITY,
    "KeyBasedAuthenticationNotPermitted": "it does not allow account keys; allow them, or link it by workload identity",
    "AccountIsDisabled": "the account is disabled; enable it in Azure",
}
_BLOB_TROUBLES = {
    "BlobArchived": "the blob is in the archive tier; rehydrate it",
    "BlobBeingRehydrated": "the blob is being rehydrated from the archive tier; wait for that",
    "LeaseIdMissing": "somebody holds a lease on the blob; break the lease",
    "BlobImmutableDueToPolicy": "an immutability policy protects the blob; remove the policy or the legal hold",
}
_CONTAINER_TROUBLES = {
    "ContainerNotFound": "its container is missing; create it",
    "ContainerBeingDeleted": "its container is being deleted; this is tried again",
    "ContainerDisabled": "its container is disabled; enable it in Azure",
}


@contextmanager
def explained(url: str, *, keyed: bool) -> Iterator[None]:
    """Turn whatever talking to an account raises into an UnavailableError.

    Args:
        url: The account's address, without credentials.
        keyed: Whether its credential is an account key, and not the operator's own identity.
    """
    try:
        yield
    except DeserializationError:
        raise no_storage(url) from None
    except (AzureError, RequestException, HTTPError, OSError) as error:
        raise _unavailable(error, url, keyed=keyed) from None


def no_storage(url: str) -> UnavailableError:
    """Somebody answers at an account's address, but not as an account does."""
    message = f"{url} does not answer as a storage account does; check the account's endpoint, and proxies on the way"
    return UnavailableError(STORAGE_ERROR, message)


def error_code(error: BaseException) -> str:
    """The storage service's own word for an error; empty where it said none."""
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    return code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else ""


def denied(error: HttpResponseError) -> bool:
    """Whether the account refuses a credential, or what it may do."""
    return error.status_code in {401, 403} or error_code(error) == "InvalidAuthenticationInfo"


def retry_after(headers: Mapping[str, str], now: datetime.datetime) -> float:
    """Seconds that an answer's headers ask to wait: 0 if they do not, or make no sense, and a bounded time at most.

    Args:
        headers: Of the answer; seconds or a date, or Azure's own milliseconds.
        now: With a time zone.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if name in lower:
            return _bounded(_number(lower[name]) / 1000)
    given = lower.get("retry-after", "").strip()
    if not given:
        return 0.0
    seconds = _number(given)
    if not math.isnan(seconds):
        return _bounded(seconds)
    try:
        date = email.utils.parsedate_to_datetime(given)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return _bounded((date - now).total_seconds())


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\s*-?[0-9]{1,12}(\.[0-9]{1,12})?\s*", text, re.ASCII) else math.nan


def _bounded(seconds: float) -> float:
    return min(seconds, LONGEST_PAUSE) if seconds > 0 else 0.0


def _unavailable(error: Exception, url: str, *, keyed: bool) -> UnavailableError:
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        return _unreachable(error, url)
    status = error.status_code
    code = error_code(error)
    answered = f"the storage account {url} answered {status}{' ' if code else ''}{code}"
    if denied(error):
        advice = _REFUSALS.get(code, _WRONG_KEY if keyed else _WRONG_IDENTITY)
        return UnavailableError(ACCESS_DENIED, f"{answered}: {advice}")
    if code in _CONTAINER_TROUBLES:
        return UnavailableError(CONTAINER_NOT_FOUND, f"{answered}: {_CONTAINER_TROUBLES[code]}")
    if status in {429, 503}:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        pause = retry_after(headers, datetime.datetime.now(datetime.UTC))
        message = f"{answered}: it asks to be called less often; this is tried again"
        return UnavailableError(THROTTLED, message, retry_after=pause)
    if status >= 500:
        return UnavailableError(STORAGE_ERROR, f"{answered}: it has troubles of its own; this is tried again")
    if status < 400:
        return no_storage(url)
    if status == 404:
        advice = "there is no storage account at this address; check the account's name and endpoint"
        return UnavailableError(STORAGE_ERROR, f"{answered}: {advice}")
    advice = _BLOB_TROUBLES.get(code, "it does not take this request")
    return UnavailableError(STORAGE_ERROR, f"{answered}: {advice}", account_wide=False)


def _unreachable(error: Exception, url: str) -> UnavailableError:
    address = urlsplit(url).netloc
    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if caused_by(socket.gaierror):
        words = f"the name in {address} is not known; check the account's name, and whether it still exists"
    elif isinstance(untrusted := caused_by(ssl.SSLCertVerificationError), ssl.SSLCertVerificationError):
        words = (
            f"its TLS certificate is not trusted ({untrusted.verify_message}); put the certificate of the authority"
            " that issued it under the key ca.crt into the linked account's Secret"
        )
    elif caused_by(ssl.SSLError):
        words = f"{address} does not speak TLS; check the endpoint's scheme and port"
    elif caused_by(ConnectionRefusedError):
        words = f"nothing listens at {address}; check the endpoint"
    elif caused_by(TimeoutError, Urllib3TimeoutError):
        words = f"{address} does not answer in time; check firewalls, network policies and proxies"
    else:
        words = f"the connection to {address} broke ({type(error).__name__}); this is tried again"
    return UnavailableError(UNREACHABLE, f"the storage account {url} cannot be reached: {words}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it wraps, however deep the libraries hide it."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (
            current.__cause__,
            current.__context__,
            getattr(current, "inner_exception", None),
            getattr(current, "reason", None),
            *current.args,
        )
        waiting += [wrapped for wrapped in inner if isinstance(wrapped, BaseException)]
