"""What the API server refuses, and its silence, in words for the person at the terminal."""

import http
import json
import re

import urllib3

from packhorse.cli.errors import ApiError, ConnectionLostError

_INSTALL_HINT = "Install Packhorse first: helm upgrade --install packhorse helm/packhorse -n packhorse-system"


def unreachable(host: str, error: Exception) -> ConnectionLostError:
    """The error for a cluster that does not answer."""
    if isinstance(error, urllib3.exceptions.SSLError):
        cause, hint = str(error), "Its certificate does not fit the kubeconfig: is this the kubeconfig of this cluster?"
    elif isinstance(error, urllib3.exceptions.NameResolutionError):
        cause, hint = "its name is not known", "Check the kubeconfig, or --context."
    elif isinstance(error, urllib3.exceptions.NewConnectionError):
        cause, hint = str(error).rpartition(": ")[2], "Does it run? Check the kubeconfig, or --context."
    elif isinstance(error, urllib3.exceptions.TimeoutError):
        cause, hint = "no answer in time", "Check the network, the kubeconfig, or --context."
    else:
        cause, hint = str(error), ""
    return ConnectionLostError(f"The cluster at {host} cannot be reached: {cause}", hint)


def _denied(message: str) -> tuple[str, str] | None:
    """Message and hint where a policy or a quota said no: its own words, without who passed them on."""
    _, denied, words = message.partition(" denied request: ")
    if denied:
        return words, ""
    if quota := re.search(r"exceeded quota: ([^,]+), requested: ([^,]+), used: ([^,]+), limited: (.+)", message):
        name, requested, used, limited = quota.groups()
        return (
            f"This namespace's ResourceQuota {name} is used up: requested {requested}, used {used}, limited {limited}.",
            f"Delete what is no longer needed, or have it raised: kubectl edit resourcequota {name}",
        )
    return None


def refusal(status: int, body: bytes) -> ApiError:
    """The error for an answer of the API server that is none of success."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    reason = answer.get("reason") or ""
    message = answer.get("message") or body.decode(errors="replace").strip() or f"HTTP {status}"
    details = answer.get("details") or {}
    hint = ""
    if status == http.HTTPStatus.NOT_FOUND and not details.get("name"):
        # An object that is missing is named in the answer; a resource that is missing is not.
        return ApiError(
            "This cluster does not know Packhorse's resources (packhorse.dev/v1alpha1).",
            _INSTALL_HINT,
            status=status,
            reason="NotInstalled",
        )
    if policy := _denied(message):
        return ApiError(policy[0], policy[1], status=status, reason=reason)
    if status == http.HTTPStatus.UNAUTHORIZED:
        message, hint = (
            "The cluster does not accept these credentials.",
            "Log in again, or check the kubeconfig's user.",
        )
    elif status == http.HTTPStatus.FORBIDDEN:
        hint = "Ask the cluster's administrator for this right."
    elif reason == "Conflict" and any(
        cause.get("reason") == "FieldManagerConflict" for cause in details.get("causes", [])
    ):
        hint = "Change it where it is managed, or take it over with --force-conflicts."
    elif reason == "NotFound":
        kind = details.get("kind", "object")
        message = f"There is no {kind.removesuffix('s')} '{details['name']}' here."
        hint = "Check its name and the namespace (-n)." if kind != "namespaces" else ""
    return ApiError(message, hint, status=status, reason=reason)
