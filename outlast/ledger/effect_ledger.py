"""
Effects in the ledger: decided on, intended, then applied, each under a claim.
"""

import json
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.ids import EffectId
from outlast.ledger.attempts import is_attempt_live
from outlast.ledger.claim import Claim
from outlast.ledger.effect_decision import (
    APPLIED,
    INTENDED,
    REQUESTED,
    SKIPPED,
    WITHOUT_APPROVAL_NEEDED,
    WRITING_ACTIONS,
    EffectAction,
    EffectDecision,
    EffectOwner,
    EffectRow,
    Permission,
    decide_effect,
)
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.fence import Fence, Retries, superseded_error
from outlast.ledger.statements import of_attempt
from outlast.store.schema import effects
from outlast.store.upsert import insert_if_absent

# What the end of an attempt may take on top of its limit.
EFFECT_END_GRACE_S = 10.0

INTENDING_ACTIONS = (EffectAction.ACT, EffectAction.REQUEST_APPROVAL)
EFFECT_COLUMNS = [effects.c[each.name] for each in fields(EffectRow)]
SAME_KEY = sa.and_(
    effects.c.tenant == sa.bindparam("of_tenant"),
    effects.c.scope == sa.bindparam("of_scope"),
    effects.c.key == sa.bindparam("of_key"),
)
ONE_EFFECT = sa.and_(SAME_KEY, effects.c.number == sa.bindparam("of_number"))
# The rows of a key; on PostgreSQL two that decide about one wait for each other.
LOCK_EFFECTS = sa.select(*EFFECT_COLUMNS).where(SAME_KEY).with_for_update()
READ_EFFECT = sa.select(*EFFECT_COLUMNS).where(ONE_EFFECT)
CHANGE_EFFECT = sa.update(effects).where(ONE_EFFECT)
COUNT_CONFLICT = CHANGE_EFFECT.values(conflicts=effects.c.conflicts + 1)
APPLY_OWN = CHANGE_EFFECT.where(
    of_attempt(effects), effects.c.state == INTENDED
).values(applied=effects.c.applied + 1)
_OWN_INTENT = sa.and_(ONE_EFFECT, of_attempt(effects), effects.c.state == INTENDED)
FORGET_OWN = sa.delete(effects).where(_OWN_INTENT)
REQUEST_OWN = sa.update(effects).where(_OWN_INTENT).values(state=REQUESTED)


class EffectLedger(Fence):
    """
    What attempts have done to the world, or were about to do.
    """

    def intend(
        self,
        claim: Claim,
        proposal: Proposal,
        permission: Permission = WITHOUT_APPROVAL_NEEDED,
        tries: Retries | None = None,
    ) -> EffectDecision:
        """
        Decide on an effect and write down what is about to happen, in one go.
        """
        tries = tries or Retries()

        def put(connection: sa.Connection) -> EffectDecision:
            while True:
                decision = self._decide(connection, claim, proposal, permission)
                if _is_own_intent(decision.row, claim, tries.wrote_at):
                    return replace(decision, action=EffectAction.ACT)
                if decision.action in WRITING_ACTIONS and not permission.may_act:
                    return decision
                tries.wrote_at = now = self._clock()
                deadline = now + permission.limit_s + EFFECT_END_GRACE_S
                if _write(connection, claim, proposal, decision, (now, deadline)):
                    return decision

        return self.write(claim, "intent", put)

    def applied(
        self,
        claim: Claim,
        proposal: Proposal,
        number: int,
        result: JsonValue,
        lost: bool = False,
        tries: Retries | None = None,
    ) -> None:
        """
        Record that an effect has happened, with what it returned.

        :param lost: it has returned what cannot be kept.
        :raises StaleAttemptError: when another attempt has claimed the effect.
        """
        which = _effect_params(claim, proposal, number)
        values = {
            "state": APPLIED,
            "result": None if lost else json.dumps(result),
            "applied_at": self._clock(),
        }
        again = tries is not None and tries.is_retry()

        def put(connection: sa.Connection) -> bool:
            own = {**which, **claim.params, **values}
            if connection.execute(APPLY_OWN, own).rowcount == 1:
                return True
            found = connection.execute(READ_EFFECT, which).first() if again else None
            if found and (found.state, found.fence) == (APPLIED, claim.fence):
                return True  # recorded by an earlier try of this call
            self.count_refusal(connection, claim.key, claim.fence, "effect")
            return False

        if not self.write(claim, "effect", put):
            raise superseded_error(claim.mission, claim.task, "effect")

    def retract(
        self, claim: Claim, proposal: Proposal, decision: EffectDecision
    ) -> None:
        """
        Take back the intent of an effect that surely did not happen, since what would
        have done it was not sent: nobody has to look, and a request for approval stays.

        :raises StaleAttemptError: when a later attempt has the task.
        """
        own = {**_effect_params(claim, proposal, decision.number), **claim.params}
        statement = FORGET_OWN if decision.fresh else REQUEST_OWN
        self.write(
            claim, "effect", lambda connection: connection.execute(statement, own)
        )

    def wait_state(self, claim: Claim, proposal: Proposal, row: EffectRow) -> bool:
        """
        Say whether the effect *row* is still being done by the same attempt.
        """
        with self.store.read() as connection:
            which = _effect_params(claim, proposal, row.number)
            now = connection.execute(READ_EFFECT, which).first()
            if now is None or (now.state, now.fence) != (INTENDED, row.fence):
                return False
            return self._is_live(connection, claim, row)

    def _decide(
        self,
        connection: sa.Connection,
        claim: Claim,
        proposal: Proposal,
        permission: Permission,
    ) -> EffectDecision:
        found = connection.execute(LOCK_EFFECTS, _effect_params(claim, proposal))
        asker = EffectOwner(
            mission=claim.mission,
            task=claim.task,
            logical=claim.logical.path,
            turn=claim.logical.turn(claim.round),
            scope=_scope(claim, proposal),
            permission=permission,
        )
        return decide_effect(
            [EffectRow(*row) for row in found],
            proposal,
            asker,
            lambda row: self._is_live(connection, claim, row),
        )

    def _is_live(self, connection: sa.Connection, claim: Claim, row: EffectRow) -> bool:
        owner = (row.mission, row.task, row.fence)
        if owner == (claim.mission, claim.task, claim.fence):
            return False  # it has returned to the agent since, without a record
        return is_attempt_live(connection, row, self._clock())


def _write(
    connection: sa.Connection,
    claim: Claim,
    proposal: Proposal,
    decision: EffectDecision,
    until: tuple[float, float],
) -> bool:
    """
    Write what the decision says; False if another attempt has written meanwhile.
    """
    number = decision.number
    if decision.action is EffectAction.CONFLICT and decision.row is not None:
        number = decision.row.number
        connection.execute(COUNT_CONFLICT, _effect_params(claim, proposal, number))
        return True
    values = _values(claim, proposal, decision, until)
    if decision.fresh and decision.action in INTENDING_ACTIONS:
        key = {"tenant": claim.tenant, "scope": _scope(claim, proposal)}
        row = {**key, "key": proposal.key, "number": number, **values}
        return insert_if_absent(connection, effects, row)
    if values:
        which = _effect_params(claim, proposal, number)
        connection.execute(CHANGE_EFFECT, {**which, **values})
    return True


def _values(
    claim: Claim,
    proposal: Proposal,
    decision: EffectDecision,
    until: tuple[float, float],
) -> dict[str, Any]:
    intended_at, deadline = until
    owner = {
        **claim.key,
        "round": claim.round,
        "fence": claim.fence,
        "attempt": claim.attempt,
        "intended_at": intended_at,
        "deadline": deadline,
    }
    match decision.action:
        case action if action in INTENDING_ACTIONS:
            acts = decision.action is EffectAction.ACT
            return {
                **owner,
                "state": INTENDED if acts else REQUESTED,
                "identity": proposal.identity,
                "payload": decision.payload,
                "logical": claim.logical.path,
                "turn": claim.logical.turn(claim.round),
            }
        case EffectAction.REPEAT:
            return owner
        case EffectAction.SKIP if decision.row is not None:
            return {"state": SKIPPED, "result": decision.row.result}
    return {}


def _is_own_intent(row: EffectRow | None, claim: Claim, wrote_at: float | None) -> bool:
    """
    Say whether an earlier try of the same call has written the intent *row*.
    """
    if row is None or wrote_at is None or row.state != INTENDED:
        return False
    owner = row.mission, row.task, row.fence, row.intended_at
    return owner == (claim.mission, claim.task, claim.fence, wrote_at)


def idempotency_key(claim: Claim, proposal: Proposal, number: int) -> str:
    """
    Name the effect for the far side: the same over all attempts, and no other's.
    """
    scope = _scope(claim, proposal)
    return str(EffectId(claim.tenant, proposal.key, scope, number))


def _scope(claim: Claim, proposal: Proposal) -> str:
    return "" if proposal.scope == "tenant" else claim.logical.path


def _effect_params(claim: Claim, proposal: Proposal, number: int = 0) -> dict[str, Any]:
    return {
        "of_tenant": claim.tenant,
        "of_scope": _scope(claim, proposal),
        "of_key": proposal.key,
        "of_number": number,
    }
