"""
How saved progress is written, and read back by the next attempt.
"""

from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from outlast.contracts.errors import CheckpointError

T = TypeVar("T")


def encoded(value: Any) -> bytes:
    """
    Write *value* as JSON.
    """
    return TypeAdapter(type(value)).dump_json(value)


def decoded(kind: type[T], value: JsonValue) -> T:
    """
    Read a *kind* back from what was saved.

    :raises CheckpointError: when it is none.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise CheckpointError(
            f"the checkpoint is no {kind.__name__}: {error.errors()[0]['msg']}"
        ) from None
