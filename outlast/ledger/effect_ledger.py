"""
Effects in the ledger: decided on, intended, then applied, each under a claim.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.ids import EffectId
from outlast.ledger.effect_decision import (
    APPLIED,
    INTENDED,
    REQUESTED,
    SKIPPED,
    WRITING_ACTIONS,
    EffectAction,
    EffectDecision,
    EffectOwner,
    EffectRow,
    decide_effect,
)
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effects import (
    LOCK_EFFECTS,
    ONE_EFFECT,
    READ_EFFECTS,
    is_attempt_live,
)
from outlast.ledger.fence import Claim, Fence, Retries, superseded_error
from outlast.store.schema import effects
from outlast.store.upsert import insert_if_absent

# How long an attempt lasts where nobody says, and what its end may take on top.
EFFECT_LIMIT_S = 900.0
EFFECT_END_GRACE_S = 10.0

EFFECT_COLUMNS = [field_.name for field_ in EffectRow.__dataclass_fields__.values()]
OWN_INTENT = sa.and_(
    ONE_EFFECT,
    effects.c.mission == sa.bindparam("of_mission"),
    effects.c.task == sa.bindparam("task_params"),
    effects.c.fence == sa.bindparam("of_fence"),
    effects.c.state == INTENDED,
)


@dataclass(frozen=True)
class Permission:
    """
    What a person has allowed an attempt, and what it may do of it now.

    :param needs_approval: whether its effects need a person's approval.
    :param may_act: False once the attempt is about to end: then it may only ask.
    :param limit_s: how long the attempt itself may last: whoever finds an effect that
        it has begun waits no longer, since a process that died leaves no end.
    """

    needs_approval: bool = False
    can_ask: bool = True
    approved: frozenset[str] = field(default=frozenset())
    skipped: frozenset[str] = field(default=frozenset())
    may_act: bool = True
    limit_s: float = EFFECT_LIMIT_S

    def asking(self) -> "Permission":
        """
        The same for an attempt that is about to end.
        """
        return replace(self, may_act=False)


WITHOUT_APPROVAL_NEEDED = Permission()


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
                limit_s = permission.limit_s
                if self._write_effect(
                    connection, claim, proposal, decision, now, limit_s
                ):
                    return decision

        return self._write(claim, "intent", put)

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
        :raises StaleAttemptError: when another attempt has taken it over.
        """
        values = {
            "state": APPLIED,
            "result": None if lost else json.dumps(result),
            "applied": effects.c.applied + 1,
            "applied_at": self._clock(),
        }
        where = {
            **_effect_params(claim, proposal, number),
            "of_mission": claim.mission,
            "task_params": claim.task,
            "of_fence": claim.fence,
        }

        again = tries is not None and tries.is_retry()

        def put(connection: sa.Connection) -> bool:
            happened = sa.update(effects).where(OWN_INTENT).values(values)
            if connection.execute(happened, where).rowcount == 1:
                return True
            if again and self._has_applied(connection, claim, proposal, number):
                return True
            self._raise_superseded(
                connection, claim.mission, claim.task, claim.fence, "effect"
            )
            return False

        if not self._write(claim, "effect", put):
            raise superseded_error(claim, "effect")

    def _has_applied(
        self, connection: sa.Connection, claim: Claim, proposal: Proposal, number: int
    ) -> bool:
        """
        Say whether an earlier try of this call has recorded the effect.
        """
        found = connection.execute(READ_EFFECTS, _scope_key(claim, proposal)).mappings()
        mine = (each for each in found if each["number"] == number)
        return any(
            (each["state"], each["fence"]) == (APPLIED, claim.fence) for each in mine
        )

    def wait_state(self, claim: Claim, proposal: Proposal, row: EffectRow) -> bool:
        """
        Say whether the effect *row* is still being done by the same attempt.
        """
        with self.store.read() as connection:
            found = connection.execute(
                READ_EFFECTS, _scope_key(claim, proposal)
            ).mappings()
            now = next((each for each in found if each["number"] == row.number), None)
            if now is None or (now["state"], now["fence"]) != (INTENDED, row.fence):
                return False
            return self._is_live(connection, claim, row)

    def _decide(
        self,
        connection: sa.Connection,
        claim: Claim,
        proposal: Proposal,
        permission: Permission,
    ) -> EffectDecision:
        found = connection.execute(LOCK_EFFECTS, _scope_key(claim, proposal)).mappings()
        rows = [
            EffectRow(**{name: each[name] for name in EFFECT_COLUMNS}) for each in found
        ]
        asker = EffectOwner(
            mission=claim.mission,
            task=claim.task,
            logical=claim.logical.path,
            turn=claim.logical.turn(claim.round),
            scope=_scope(claim, proposal),
            needs_approval=permission.needs_approval,
            can_ask=permission.can_ask,
            approved=permission.approved,
            skipped=permission.skipped,
        )
        return decide_effect(
            rows, proposal, asker, lambda row: self._is_live(connection, claim, row)
        )

    def _is_live(self, connection: sa.Connection, claim: Claim, row: EffectRow) -> bool:
        owner = (row.mission, row.task, row.fence)
        if owner == (claim.mission, claim.task, claim.fence):
            return False  # it has returned to the agent since, without a record
        return is_attempt_live(connection, row, self._clock())

    def _write_effect(
        self,
        connection: sa.Connection,
        claim: Claim,
        proposal: Proposal,
        decision: EffectDecision,
        now: float,
        limit_s: float,
    ) -> bool:
        """
        Write what the decision says; False if somebody else has written meanwhile.
        """
        row, number = decision.row, decision.number
        match decision.action:
            case EffectAction.ACT | EffectAction.REQUEST_APPROVAL:
                state = INTENDED if decision.action is EffectAction.ACT else REQUESTED
                until = now, now + limit_s + EFFECT_END_GRACE_S
                values = self._intent(claim, proposal, decision, state, until)
                if decision.fresh:
                    place = _effect_key(claim, proposal, number)
                    return insert_if_absent(connection, effects, {**place, **values})
            case EffectAction.REPEAT:
                values = _owner(claim, (now, now + limit_s + EFFECT_END_GRACE_S))
            case EffectAction.SKIP:
                assert row is not None
                values = {"state": SKIPPED, "result": row.result}
            case EffectAction.CONFLICT:
                assert row is not None
                values = {"conflicts": effects.c.conflicts + 1}
                number = row.number
            case _:
                return True
        change = sa.update(effects).where(ONE_EFFECT).values(values)
        connection.execute(change, _effect_params(claim, proposal, number))
        return True

    def _intent(
        self,
        claim: Claim,
        proposal: Proposal,
        decision: EffectDecision,
        state: str,
        until: tuple[float, float],
    ) -> dict[str, Any]:
        return {
            **_owner(claim, until),
            "state": state,
            "identity": proposal.identity,
            "payload": decision.payload,
            "logical": claim.logical.path,
            "turn": claim.logical.turn(claim.round),
        }


def _is_own_intent(row: EffectRow | None, claim: Claim, wrote_at: float | None) -> bool:
    """
    Say whether an earlier try of the same call has written the intent *row*.
    """
    if row is None or wrote_at is None or row.state != INTENDED:
        return False
    owner = row.mission, row.task, row.fence, row.intended_at
    return owner == (claim.mission, claim.task, claim.fence, wrote_at)


def _owner(claim: Claim, until: tuple[float, float]) -> dict[str, Any]:
    intended_at, deadline = until
    return {
        "mission": claim.mission,
        "task": claim.task,
        "round": claim.round,
        "fence": claim.fence,
        "attempt": claim.attempt,
        "intended_at": intended_at,
        "deadline": deadline,
    }


def idempotency_key(claim: Claim, proposal: Proposal, number: int) -> str:
    """
    Name the effect for the far side: the same over all attempts, and no other's.
    """
    scope = _scope(claim, proposal)
    return str(EffectId(claim.tenant, proposal.key, scope, number))


def _effect_key(claim: Claim, proposal: Proposal, number: int) -> dict[str, Any]:
    return {
        "tenant": claim.tenant,
        "scope": _scope(claim, proposal),
        "key": proposal.key,
        "number": number,
    }


def _scope(claim: Claim, proposal: Proposal) -> str:
    return "" if proposal.scope == "tenant" else claim.logical.path


def _scope_key(claim: Claim, proposal: Proposal) -> dict[str, Any]:
    return {
        "of_tenant": claim.tenant,
        "of_scope": _scope(claim, proposal),
        "of_key": proposal.key,
    }


def _effect_params(claim: Claim, proposal: Proposal, number: int) -> dict[str, Any]:
    return {**_scope_key(claim, proposal), "of_number": number}
