"""Batch's own codes and messages, so that a Batch user recognises what went wrong.

Sources: the ``*ErrorCodes`` constants of Microsoft's Batch SDKs, Azure/Batch#9 and the article on unusable nodes.
"""

from packhorse.protocol import Detail, Problem

APPLICATION_PACKAGE_ERROR = "ApplicationPackageError"
INVALID_REFERENCES = "InvalidApplicationPackageReferences"
BLOB_NOT_FOUND = "ApplicationPackageBlobNotFound"
DEFAULT_VERSION_NOT_ACTIVE = "RequestedDefaultVersionNotActive"
PACKAGES_NOT_EMPTY = "ApplicationPackagesNotEmpty"
FAILURE_EXIT_CODE = "FailureExitCode"

INVALID_FOR_TASK = "One or more application packages specified for the task are invalid"
INVALID_FOR_POOL = "One or more application packages specified for the pool are invalid"


def invalid_packages(message: str, reference: str, what: str, cause: str = "") -> Problem:
    """The error of a package that cannot be installed.

    Args:
        message: One of ``INVALID_FOR_POOL`` and ``INVALID_FOR_TASK``.
        reference: ``id:version``.
        what: Batch's own word for it, such as ``Resource download failed``.
        cause: The true reason, which Batch does not tell.
    """
    details = [Detail("ApplicationPackageReference", reference), Detail("Message", what)]
    if cause:
        details.append(Detail("Cause", cause))
    return Problem(APPLICATION_PACKAGE_ERROR, message, tuple(details))
