"""
Settings out of environment variables, or one sentence on the one that does not fit.
"""

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from outlast.contracts.errors import BadInputError

S = TypeVar("S", bound=BaseSettings)


def from_environment(kind: type[S]) -> S:
    """
    Read settings of *kind* from the environment.

    :raises BadInputError: naming the variable that does not fit.
    """
    try:
        return kind()
    except ValidationError as error:
        fault = error.errors()[0]
        told = fault["msg"].removeprefix("Value error, ")
        prefix = kind.model_config.get("env_prefix", "")
        name = prefix + "_".join(str(part) for part in fault["loc"]).upper()
        raise BadInputError(f"{name}: {told}" if fault["loc"] else told) from None
