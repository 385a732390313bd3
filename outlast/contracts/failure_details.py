"""
What the failure of an attempt carries beside its type and its sentence.
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

    :param checkpoint: where the next attempt goes on.
    :param attempts: that the task has had, 0 where the attempt had not begun.
    :param dispatch: that has superseded it.
    :param death: what is known of its process's end.
    :param wanted: effects that a person is asked to approve.
    """

    # What a newer release adds is passed over: a checkpoint is worth more.
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
        Read them back; None where somebody else has written them.
        """
        match details:
            case [dict() as first, *_]:
                try:
                    return cls.model_validate(first)
                except ValidationError:
                    return None
        return None
