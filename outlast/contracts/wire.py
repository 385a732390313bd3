"""
What all values that cross a process have in common.
"""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class WireModel(BaseModel):
    """
    A value that crosses a process: frozen, and unknown fields are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Whether it travels itself however large: an answer that nobody keeps.
    inline: ClassVar[bool] = False

    @classmethod
    def read(cls, value: object) -> Self | None:
        """
        Read what any client of the server may have written; None where it is no such
        value. A decoding error would fail the workflow task for ever.
        """
        try:
            return cls.model_validate(value)
        except ValidationError:
            return None
