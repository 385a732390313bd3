"""
A ledger for trials of agents: it knows the points at which a death would matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from outlast.ledger.effect_decision import WRITES, Decision
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.fence import Claim
from outlast.ledger.ledger import Ledger, Saved
from outlast.store.database import Store


class When(StrEnum):
    """
    When a trial's process can be killed.
    """

    SAVED = "after save {}"
    INTENDED = "before effect {}"
    HAPPENED = "between effect {} and its record"


@dataclass(frozen=True)
class Point:
    """
    One of them, and which save or effect it belongs to.
    """

    when: When
    name: str

    def __str__(self) -> str:
        return self.when.format(self.name)


class TrialLedger(Ledger):
    """
    A ledger that keeps the points it comes to, and the effects that it has recorded.

    :param reached: called at each point with all so far; what it raises is a death.
    """

    def __init__(self, store: Store, reached: Callable[[list[Point]], None]) -> None:
        super().__init__(store)
        self.points: list[Point] = []
        self.effects: list[str] = []
        self._reached = reached

    def save(self, *args: Any) -> Saved:
        saved = super().save(*args)
        self._come_to(When.SAVED, str(saved.checkpoint.seq))
        return saved

    def intend(
        self, claim: Claim, proposal: Proposal, *what: Any, **more: Any
    ) -> Decision:
        decision = super().intend(claim, proposal, *what, **more)
        if decision.action in WRITES:
            self._come_to(When.INTENDED, proposal.key)
        return decision

    def applied(
        self, claim: Claim, proposal: Proposal, *what: Any, **more: Any
    ) -> None:
        self._come_to(When.HAPPENED, proposal.key)
        super().applied(claim, proposal, *what, **more)
        self.effects.append(proposal.key)

    def _come_to(self, when: When, name: str) -> None:
        self.points.append(Point(when, name))
        self._reached(self.points)


def saves_of(points: list[Point]) -> int:
    """
    Count the saves among *points*.
    """
    return sum(point.when is When.SAVED for point in points)
