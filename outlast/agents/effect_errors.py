"""
The errors by which a call of `ctx.once` ends, in the words that its user reads.
"""

import shlex

from outlast.contracts.approvals import WantedEffect, wanted_effect
from outlast.contracts.errors import (
    EffectConflictError,
    GiveUp,
    ParkedError,
    ResultError,
)
from outlast.ledger.claim import Claim
from outlast.ledger.effect_decision import (
    APPLIED,
    INTENDED,
    EffectDecision,
    EffectRow,
)
from outlast.ledger.effect_identity import Proposal
from outlast.secrets import masked, masked_head

EFFECT_CHARS = 80


def nested_in_itself(proposal: Proposal) -> GiveUp:
    return GiveUp(
        f"effect {_short(proposal)} asks for itself within its own act, whose end it "
        "would wait for: give the inner one another key"
    )


def lost_result(proposal: Proposal) -> ResultError:
    return ResultError(
        f"effect {_short(proposal)} has happened and returned what is no JSON, or too "
        "large, which cannot be kept: have its act return plain values; where none is "
        "needed, catch this error and go on"
    )


def unsure(proposal: Proposal, row: EffectRow | None) -> ParkedError:
    named = shlex.quote(masked(proposal.key, 2 * EFFECT_CHARS))
    who = "" if row is None else f" by {row.mission}/{row.task}, attempt {row.attempt}"
    return ParkedError(
        f"effect {_short(proposal)} was begun{who} and may have happened: find out, "
        f"then outlast settle {named} --happened RESULT, or --did-not-happen"
    )


def conflict(claim: Claim, proposal: Proposal, row: EffectRow) -> EffectConflictError:
    did = {APPLIED: "done", INTENDED: "begun"}.get(row.state, "asked for")
    theirs, ours = (
        masked(each, EFFECT_CHARS) for each in (row.identity, proposal.identity)
    )
    return EffectConflictError(
        f"effect {_short(proposal)} was {did} by {row.mission}/{row.task} (round "
        f"{row.turn}, attempt {row.attempt}) with content {theirs}; "
        f"{claim.mission}/{claim.task} (round {claim.logical.turn(claim.round)}, "
        f"attempt {claim.attempt}) wants it with {ours}: give another effect "
        "another key"
    )


def wanted(proposal: Proposal, found: EffectDecision) -> WantedEffect:
    """
    Describe what a person is asked to approve, and what it is in place of.
    """
    row = found.row
    return wanted_effect(
        masked_head(proposal.key),
        masked_head(proposal.identity),
        found.mark,
        "" if row is None else masked_head(row.identity),
        row is not None and row.is_applied,
    )


def _short(proposal: Proposal) -> str:
    return repr(masked(proposal.key, EFFECT_CHARS))
