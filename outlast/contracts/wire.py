"""
What all values that cross a process have in common.
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """
    A value that crosses a process: frozen, and strangers are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Whether it travels itself however large: an answer that nobody keeps.
    inline: ClassVar[bool] = False
