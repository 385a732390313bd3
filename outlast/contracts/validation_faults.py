"""
What a validation by pydantic has found, in words.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import ValidationError


class ValidationFault(NamedTuple):
    """
    What does not fit.

    :param place: the keys and positions that lead to it, joined by dots; "" where it is
        the whole.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def faults_of(error: ValidationError) -> list[ValidationFault]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        ValidationFault(".".join(map(str, each["loc"])), each["msg"]) for each in found
    ]


def first_few(faults: Sequence[object], most: int) -> str:
    """
    Say the first *most* of *faults*, and how many more there are.
    """
    told, more = "; ".join(map(str, faults[:most])), len(faults) - most
    return f"{told}; and {more} more" if more > 0 else told
