"""Ids and versions of applications, and the names that are made of them.

Batch's ids keep the case they were given and ignore it in comparisons. The name of an object is derived from its id, so
that Kubernetes itself refuses a second ``BLENDER`` beside ``blender``. The rules for ids and versions are those of
``Microsoft.Batch/batchAccounts/applications`` (ARM): ``^[a-zA-Z0-9_-]+$`` and ``^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$``, each
at most 64 characters.
"""

import re

ID_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
VERSION_PATTERN = r"^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,63}$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


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
    if not re.fullmatch(ID_PATTERN, application_id):
        raise InvalidNameError(
            f"'{application_id}' is no application id: use letters, digits, hyphens and underscores, at most 64"
        )
    _check_derived("application id", application_id, application_name(application_id))


def check_version(version: str) -> None:
    """Raise :class:`InvalidNameError` where this cannot be a version."""
    if not re.fullmatch(VERSION_PATTERN, version):
        raise InvalidNameError(
            f"'{version}' is no version: use letters, digits, hyphens, underscores and periods, at most 64,"
            " with no period at the beginning"
        )
    _check_derived("version", version, object_name(version))


def _check_derived(what: str, given: str, derived: str) -> None:
    if not re.fullmatch(DNS_SUBDOMAIN, derived):
        raise InvalidNameError(
            f"the {what} '{given}' gives no name that Kubernetes allows ('{derived}'): let it, and each part of it"
            " between periods, begin and end with a letter or a digit"
        )
