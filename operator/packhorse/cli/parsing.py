"""From the API server's JSON to our models."""

from typing import Any, TypeVar

from pydantic import ValidationError

from packhorse.cli.errors import CliError
from packhorse.model import Resource

R = TypeVar("R", bound=Resource)


def parse(model: type[R], item: dict[str, Any]) -> R:
    """The object as its model.

    Raises:
        CliError: The cluster's Packhorse is newer than this program and says what it does not know.
    """
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CliError(
            f"This packhorse does not understand {model.kind} '{item['metadata']['name']}': {where}: {first['msg']}",
            "The cluster's Packhorse may be newer: update this program.",
        ) from error
