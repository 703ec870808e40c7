"""References to packages as people type them."""

import re

from packhorse.cli.errors import UsageError
from packhorse.model import ApplicationPackageReference
from packhorse.model.names import InvalidNameError, check_id, check_version


def parse(text: str) -> ApplicationPackageReference:
    """``app``, ``app#version`` as Batch's own tools write a reference, or ``app:version`` as its errors do.

    Raises:
        UsageError: It is none of them.
    """
    application, *rest = re.split("[#:]", text, maxsplit=1)
    try:
        check_id(application)
        if rest:
            check_version(rest[0])
    except InvalidNameError as error:
        raise UsageError(f"--package {text}: {error}.") from error
    return ApplicationPackageReference(application_id=application, version=rest[0] if rest else None)


def written(reference: ApplicationPackageReference) -> str:
    """As Batch's own tools write it."""
    return f"{reference.application_id}#{reference.version}" if reference.version else reference.application_id
