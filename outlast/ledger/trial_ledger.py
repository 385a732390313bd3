"""
A ledger for trials of agents: it knows the points at which a death would matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from outlast.ledger.claim import Claim
from outlast.ledger.effect_decision import WRITING_ACTIONS, EffectDecision
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.ledger import Ledger, SaveResult
from outlast.store.database import Store


class PointKind(StrEnum):
    """
    When a trial's process can be killed.
    """

    SAVED = "after save {}"
    INTENDED = "before effect {}"
    HAPPENED = "between effect {} and its record"


@dataclass(frozen=True)
class TrialPoint:
    """
    One of them, and which save or effect it belongs to.
    """

    when: PointKind
    name: str

    def __str__(self) -> str:
        return self.when.format(self.name)


class TrialLedger(Ledger):
    """
    A ledger that keeps the points it comes to, and the effects that it has recorded.

    :param reached: called at each point with all so far; what it raises is a death.
    :param agent_store: where the agent has its tables, unless that is *store* too.
    """

    def __init__(
        self,
        store: Store,
        reached: Callable[[list[TrialPoint]], None],
        agent_store: Store | None = None,
    ) -> None:
        super().__init__(store)
        self._agent_store = agent_store or store
        self.points: list[TrialPoint] = []
        self.effects: list[str] = []
        self._reached = reached

    @property
    def agent_store(self) -> Store:
        return self._agent_store

    def save(self, *args: Any) -> SaveResult:
        saved = super().save(*args)
        self._reach(PointKind.SAVED, str(saved.checkpoint.seq))
        return saved

    def intend(
        self, claim: Claim, proposal: Proposal, *what: Any, **more: Any
    ) -> EffectDecision:
        decision = super().intend(claim, proposal, *what, **more)
        if decision.action in WRITING_ACTIONS:
            self._reach(PointKind.INTENDED, proposal.key)
        return decision

    def applied(
        self, claim: Claim, proposal: Proposal, *what: Any, **more: Any
    ) -> None:
        self._reach(PointKind.HAPPENED, proposal.key)
        super().applied(claim, proposal, *what, **more)
        self.effects.append(proposal.key)

    def _reach(self, when: PointKind, name: str) -> None:
        self.points.append(TrialPoint(when, name))
        self._reached(self.points)


def saves_of(points: list[TrialPoint]) -> int:
    return sum(point.when is PointKind.SAVED for point in points)
