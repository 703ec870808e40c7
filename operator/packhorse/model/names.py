"""Ids and versions of applications, and the names that are made of them.

Batch's ids keep the case they were given and ignore it in comparisons. The name of an object is derived from its id, so
that Kubernetes itself refuses a second ``BLENDER`` beside ``blender``. The rules for ids and versions are those of
``Microsoft.Batch/batchAccounts/applications`` (ARM): ``^[a-zA-Z0-9_-]+$`` and ``^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$``, each
at most 64 characters.
"""

import re

_LONGEST = 64
"""Characters of an id, and of a version."""
ID_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
VERSION_PATTERN = r"^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,63}$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
NAMEABLE_ID = "[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?"
"""An id that gives a name that Kubernetes allows; to be anchored."""
NAMEABLE_VERSION = f"{NAMEABLE_ID}([.]{NAMEABLE_ID})*"
"""Such a version; to be anchored."""


class InvalidNameError(ValueError):
    """An id or version that breaks a rule; the message says which, and what to write."""


def object_name(text: str) -> str:
    """The form in which an id or a version is part of an object's name: lower case, ``_`` written ``-``."""
    return text.lower().replace("_", "-")


def application_name(application_id: str) -> str:
    """The name of the Application with this id."""
    return object_name(application_id)


def package_name(application_id: str, version: str) -> str:
    """The name of the ApplicationPackage of this application and version."""
    return f"{object_name(application_id)}.{object_name(version)}"


def check_id(application_id: str) -> None:
    """Raise :class:`InvalidNameError` where this cannot be an application's id."""
    kind = "application id"
    if not re.fullmatch(ID_PATTERN, application_id):
        raise _breaks(kind, application_id, "letters, digits, hyphens and underscores", _repaired(application_id))
    _check_derived(kind, application_id, "let it", _repaired(application_id))


def check_version(version: str) -> None:
    """Raise :class:`InvalidNameError` where this cannot be a version."""
    repaired = ".".join(filter(None, map(_repaired, version.split("."))))
    if not re.fullmatch(VERSION_PATTERN, version):
        characters = "letters, digits, hyphens, underscores and periods"
        beginning = ", with no period at the beginning" if version.startswith(".") else ""
        raise _breaks("version", version, characters, repaired, beginning)
    _check_derived("version", version, "let it, and each part of it between periods,", repaired)


def _repaired(text: str) -> str:
    """What is left of an id, or of a part of a version, that may be used; empty where nothing is."""
    return re.sub("[^a-zA-Z0-9_-]+", "-", text).strip("-_")


def _breaks(kind: str, given: str, characters: str, repaired: str, beginning: str = "") -> InvalidNameError:
    rules = f"use {characters}, at most {_LONGEST}{beginning}"
    if len(given) > _LONGEST:
        return InvalidNameError(f"'{given}' is no {kind}: it has {len(given)} characters; {rules}")
    return InvalidNameError(f"'{given}' is no {kind}: {rules}{_example(repaired)}")


def _check_derived(kind: str, given: str, what: str, repaired: str) -> None:
    derived = object_name(given)
    if not re.fullmatch(DNS_SUBDOMAIN, derived):
        raise InvalidNameError(
            f"the {kind} '{given}' gives no name that Kubernetes allows ('{derived}'):"
            f" {what} begin and end with a letter or a digit{_example(repaired)}"
        )


def _example(repaired: str) -> str:
    return f", such as '{repaired}'" if repaired else ""
