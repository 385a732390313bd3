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
from dataclasses import dataclass, field
from enum import Enum, auto

from outlast.ledger.effect_identity import Proposal, mark_of

ASKED = "asked"  # a person is asked about it; nothing has been sent
INTENDED = "intended"
APPLIED = "applied"
SKIPPED = "skipped"  # a person had an earlier one stand for it
RETRACTED = "retracted"  # a person has seen that it did not happen


class Action(Enum):
    """
    What an attempt does about an effect.
    """

    ACT = auto()
    REPEAT = auto()
    RETURN = auto()
    SKIP = auto()  # as RETURN, on a person's word: the earlier one's result
    WAIT = auto()
    ASK = auto()
    PARK = auto()
    CONFLICT = auto()


WRITES = {Action.ACT, Action.REPEAT, Action.SKIP}


@dataclass(frozen=True)
class Row:
    """
    One effect as the store has it.

    :param number: tells effects apart that a person has allowed under one key.
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
    def happened(self) -> bool:
        """
        Whether there is a result to return.
        """
        return self.state in (APPLIED, SKIPPED)


@dataclass(frozen=True)
class Asker:
    """
    Who asks for an effect, and what a person has allowed them.

    :param scope: where its key belongs, "" for the tenant.
    :param needs_approval: whether nothing may happen unasked.
    :param can_ask: whether a person can be asked at all: not for an item of a batch.
    """

    mission: str
    task: str
    logical: str
    turn: str
    scope: str
    needs_approval: bool = False
    can_ask: bool = True
    approved: frozenset[str] = field(default=frozenset())
    skipped: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class Decision:
    """
    What is done, with the effect of that *number*.

    :param payload: the pinned one, which may not be the one proposed.
    :param mark: what an approval of it holds for.
    :param fresh: whether no effect has that number yet.
    :param row: the effect that decided it: to wait for, to return, in conflict.
    """

    action: Action
    number: int
    fresh: bool
    payload: str | None
    mark: str
    row: Row | None = None


def decide(
    rows: Sequence[Row],
    proposal: Proposal,
    asker: Asker,
    lives: Callable[[Row], bool],
) -> Decision:
    """
    Decide on *proposal*, given the *rows* under its key.

    :param lives: whether the attempt that intended a row may be acting still.
    """
    same = next((row for row in rows if row.identity == proposal.identity), None)
    if same is not None and (same.happened or same.state == INTENDED):
        return _known(same, proposal, asker, lives)
    payload = proposal.payload
    if same is not None and same.turn == asker.turn:
        payload = same.payload
    mark = mark_of(asker.scope, proposal.key, proposal.identity, payload)
    other = _other(rows, proposal, asker)
    action = _new(other, asker, mark, lives)
    number = _number(rows, same)
    fresh = all(row.number != number for row in rows)
    return Decision(
        action,
        number,
        fresh,
        payload,
        mark,
        other or _asked_before(rows, proposal, asker),
    )


def _known(
    row: Row, proposal: Proposal, asker: Asker, lives: Callable[[Row], bool]
) -> Decision:
    """
    Decide on an effect that has happened or was begun.
    """
    if row.happened:
        action = Action.RETURN
    elif lives(row):
        action = Action.WAIT
    else:
        action = Action.REPEAT if proposal.if_unsure == "repeat" else Action.PARK
    mark = mark_of(asker.scope, proposal.key, row.identity, row.payload)
    return Decision(action, row.number, False, row.payload, mark, row)


def _new(
    other: Row | None, asker: Asker, mark: str, lives: Callable[[Row], bool]
) -> Action:
    """
    Decide on an effect that has not been begun, where *other* has its key.
    """
    if other is not None:
        later = other.logical == asker.logical and other.turn != asker.turn
        if not later or not asker.can_ask:
            return Action.CONFLICT
        if other.state == INTENDED:
            # Nobody can answer for this one before it is known what became of that.
            return Action.WAIT if lives(other) else Action.PARK
        if mark in asker.approved:
            return Action.ACT
        if mark in asker.skipped and other.happened:
            return Action.SKIP
        return Action.ASK
    asks = asker.needs_approval and mark not in asker.approved
    return Action.ASK if asks else Action.ACT


def _other(rows: Sequence[Row], proposal: Proposal, asker: Asker) -> Row | None:
    """
    Find the last effect of another identity that counts: what was only asked counts
    while another task asks it in this round.
    """

    def counts(row: Row) -> bool:
        if row.state == ASKED:
            own = (row.mission, row.task) == (asker.mission, asker.task)
            return row.turn == asker.turn and not own
        return row.happened or row.state == INTENDED

    others = [row for row in rows if row.identity != proposal.identity]
    return max(filter(counts, others), key=lambda row: row.number, default=None)


def _asked_before(rows: Sequence[Row], proposal: Proposal, asker: Asker) -> Row | None:
    """
    Find what a person was asked in this round in place of what they are asked now.
    """
    asked = (row for row in rows if row.state == ASKED and row.turn == asker.turn)
    return next((row for row in asked if row.identity != proposal.identity), None)


def _number(rows: Sequence[Row], same: Row | None) -> int:
    """
    Choose the number of an effect: its own, or that of a request without an answer,
    since nothing has been sent under it, or a new one.
    """
    if same is not None:
        return same.number
    asked = [row.number for row in rows if row.state == ASKED]
    return asked[0] if asked else max((row.number for row in rows), default=0) + 1
