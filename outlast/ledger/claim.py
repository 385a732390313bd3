"""
A claim: one attempt's right to write for its task.
"""

from dataclasses import dataclass, field
from typing import Any

from outlast.contracts.scopes import Scope


@dataclass(slots=True)  # not frozen, which takes three times as long an item
class Claim:
    """
    One attempt's right to write for its task.

    *fence* grows over attempts, dispatches and runs: see `AttemptOrder`. *attempt*
    counts from 1 within the round, and began *recovery_s* after the last sign of
    another one.
    """

    mission: str
    tenant: str
    task: str
    round: int
    fence: int
    attempt: int
    recovery_s: float | None = field(default=None, compare=False)
    scope: Scope | None = field(default=None, compare=False)

    @property
    def logical(self) -> Scope:
        """
        The logical mission to which the keys of its effects belong.
        """
        return self.scope or Scope(path=self.mission)

    @property
    def key(self) -> dict[str, Any]:
        """
        The task, as columns of a row.
        """
        return {"mission": self.mission, "task": self.task}

    @property
    def params(self) -> dict[str, Any]:
        """
        The parameters of statements about its rows: see `outlast.ledger.statements`.
        """
        return {
            "of_mission": self.mission,
            "of_task": self.task,
            "of_round": self.round,
            "of_fence": self.fence,
        }
