"""
What the failure of an attempt carries beside its type and its message.
"""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outlast.contracts.approvals import WantedEffect
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.failures import Detector
from outlast.contracts.quarantine import UNSEEN_DEATH, Death


class FailureDetails(BaseModel):
    """
    The one detail of the `ApplicationError` by which an attempt ends.

    :param checkpoint: from which the next attempt continues.
    :param attempts: of the task so far, 0 where the attempt had not begun.
    :param dispatch: the number of the dispatch that has superseded it.
    :param death: how its process ended.
    :param wanted: effects that a person must approve.
    """

    # Fields of a newer release are ignored: a checkpoint is worth more.
    model_config = ConfigDict(frozen=True, extra="ignore")

    detected_by: Detector
    checkpoint: Checkpoint | None = None
    attempts: int = 0
    dispatch: int = 0
    death: Death = UNSEEN_DEATH
    wanted: list[WantedEffect] = Field(default=[])

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def of(cls, details: Sequence[object]) -> Self | None:
        """
        Read the details of a failure; None where another client has written them.
        """
        match details:
            case [dict() as first, *_]:
                try:
                    return cls.model_validate(first)
                except ValidationError:
                    return None
        return None
