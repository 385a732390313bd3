"""
What becomes of an effect that an attempt asks for: the one place that decides.

    known, this identity: applied            -> its result is returned
                          under way          -> its end is waited for
                          unsure             -> repeated, or parked, by `if_unsure`
    known, another one:   in the same round,
                          or by another
                          mission of a tenant-> a conflict
                          in another round,
                          and unsure         -> parked
                          in another round   -> a person is asked
    new:                  needs approval     -> a person is asked
                          otherwise          -> it is done
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from outlast.ledger.effect_identity import Proposal, effect_mark

# How long an attempt lasts where nobody says.
EFFECT_LIMIT_S = 900.0

REQUESTED = "asked"  # a person is asked about it; nothing has been sent
INTENDED = "intended"
APPLIED = "applied"
SKIPPED = "skipped"  # a person had an earlier one count instead
RETRACTED = "retracted"  # a person has seen that it did not happen


class EffectAction(Enum):
    """
    What an attempt does about an effect.
    """

    ACT = auto()
    REPEAT = auto()
    RETURN = auto()
    SKIP = auto()  # as RETURN, decided by a person: the earlier one's result
    WAIT = auto()
    REQUEST_APPROVAL = auto()
    PARK = auto()
    CONFLICT = auto()


WRITING_ACTIONS = {EffectAction.ACT, EffectAction.REPEAT, EffectAction.SKIP}


@dataclass(frozen=True)
class EffectRow:
    """
    One effect as the store has it.

    :param number: distinguishes effects that a person has allowed under one key.
    :param logical: the path of the logical mission that intended or asked it.
    :param turn: the round in which that was: see `Scope.turn`.
    """

    number: int
    state: str
    identity: str
    payload: str | None
    result: str | None
    mission: str
    task: str
    fence: int
    attempt: int
    logical: str
    turn: str
    intended_at: float
    deadline: float

    @property
    def is_applied(self) -> bool:
        return self.state in (APPLIED, SKIPPED)


@dataclass(frozen=True)
class Permission:
    """
    What a person has allowed an attempt, and what it may do of it now.

    :param needs_approval: whether its effects need a person's approval.
    :param can_ask: whether a person can be asked at all: not for an item of a batch.
    :param may_act: False once the attempt is about to end: then it may only ask.
    :param limit_s: how long the attempt itself may last: who finds an effect that it
        has begun waits no longer, since a process that died leaves no end.
    """

    needs_approval: bool = False
    can_ask: bool = True
    approved: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    may_act: bool = True
    limit_s: float = EFFECT_LIMIT_S

    def asking(self) -> "Permission":
        return replace(self, may_act=False)


WITHOUT_APPROVAL_NEEDED = Permission()


@dataclass(frozen=True)
class EffectOwner:
    """
    Who asks for an effect, and what they may do.

    :param scope: where its key belongs, "" for the tenant.
    """

    mission: str
    task: str
    logical: str
    turn: str
    scope: str
    permission: Permission = WITHOUT_APPROVAL_NEEDED


@dataclass(frozen=True)
class EffectDecision:
    """
    What is done, with the effect of that *number*.

    :param payload: the pinned one, which may not be the one proposed.
    :param mark: what an approval of it holds for.
    :param fresh: whether no effect has that number yet.
    :param row: the effect that decided it: to wait for, to return, in conflict.
    """

    action: EffectAction
    number: int
    fresh: bool
    payload: str | None
    mark: str
    row: EffectRow | None = None


def decide_effect(
    rows: Sequence[EffectRow],
    proposal: Proposal,
    owner: EffectOwner,
    lives: Callable[[EffectRow], bool],
) -> EffectDecision:
    """
    Decide on *proposal*, given the *rows* under its key.

    :param lives: whether the attempt that intended a row may be acting still.
    """
    same = next((row for row in rows if row.identity == proposal.identity), None)
    if same is not None and (same.is_applied or same.state == INTENDED):
        return _known(same, proposal, owner, lives)
    payload = proposal.payload
    if same is not None and same.turn == owner.turn:
        payload = same.payload
    mark = effect_mark(owner.scope, proposal.key, proposal.identity, payload)
    other = _other(rows, proposal, owner)
    number = _number(rows, same)
    return EffectDecision(
        _new(other, owner, mark, lives),
        number,
        fresh=all(row.number != number for row in rows),
        payload=payload,
        mark=mark,
        row=other or _requested_before(rows, proposal, owner),
    )


def _known(
    row: EffectRow,
    proposal: Proposal,
    owner: EffectOwner,
    lives: Callable[[EffectRow], bool],
) -> EffectDecision:
    """
    Decide on an effect that has happened or was begun.
    """
    action = EffectAction.PARK
    if row.is_applied:
        action = EffectAction.RETURN
    elif lives(row):
        action = EffectAction.WAIT
    elif proposal.if_unsure == "repeat":
        action = EffectAction.REPEAT
    mark = effect_mark(owner.scope, proposal.key, row.identity, row.payload)
    return EffectDecision(action, row.number, False, row.payload, mark, row)


def _new(
    other: EffectRow | None,
    owner: EffectOwner,
    mark: str,
    lives: Callable[[EffectRow], bool],
) -> EffectAction:
    """
    Decide on an effect that has not been begun, where *other* has its key.
    """
    if other is not None:
        later = other.logical == owner.logical and other.turn != owner.turn
        if not later or not owner.permission.can_ask:
            return EffectAction.CONFLICT
        if other.state == INTENDED:
            # Nobody can answer for this one before it is known what became of that.
            return EffectAction.WAIT if lives(other) else EffectAction.PARK
        if mark in owner.permission.approved:
            return EffectAction.ACT
        if mark in owner.permission.skipped and other.is_applied:
            return EffectAction.SKIP
        return EffectAction.REQUEST_APPROVAL
    allowed = owner.permission
    asks = allowed.needs_approval and mark not in allowed.approved
    return EffectAction.REQUEST_APPROVAL if asks else EffectAction.ACT


def _other(
    rows: Sequence[EffectRow], proposal: Proposal, owner: EffectOwner
) -> EffectRow | None:
    """
    Find the last effect of another identity that counts: what was only asked counts
    while another task asks it in this round.
    """

    def counts(row: EffectRow) -> bool:
        if row.state == REQUESTED:
            own = (row.mission, row.task) == (owner.mission, owner.task)
            return row.turn == owner.turn and not own
        return row.is_applied or row.state == INTENDED

    others = [row for row in rows if row.identity != proposal.identity]
    return max(filter(counts, others), key=lambda row: row.number, default=None)


def _requested_before(
    rows: Sequence[EffectRow], proposal: Proposal, owner: EffectOwner
) -> EffectRow | None:
    """
    Find what a person was asked in this round in place of what they are asked now.
    """
    asked = (row for row in rows if row.state == REQUESTED and row.turn == owner.turn)
    return next((row for row in asked if row.identity != proposal.identity), None)


def _number(rows: Sequence[EffectRow], same: EffectRow | None) -> int:
    """
    Choose the number of an effect: its own, or that of a request without an answer,
    since nothing has been sent under it, or a new one.
    """
    if same is not None:
        return same.number
    asked = [row.number for row in rows if row.state == REQUESTED]
    return asked[0] if asked else max((row.number for row in rows), default=0) + 1
