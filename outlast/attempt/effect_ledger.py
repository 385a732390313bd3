"""
Effects in the ledger: intended, then applied, each written under a claim.
"""

import json
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.attempt.fence import Claim, Fence
from outlast.store.schema import effects
from outlast.store.upsert import enter

INTENDED = "intended"
APPLIED = "applied"


@dataclass(frozen=True)
class Intent:
    """
    What the ledger knows of an effect before the attempt acts.

    :param content: the content that stands, which may not be the one proposed.
    :param state: None for a fresh intent, else what an earlier attempt left.
    """

    content: JsonValue
    state: str | None
    result: JsonValue
    round: int
    proposed: bool  # whether the content is the one that this attempt proposed


class EffectLedger(Fence):
    """
    What attempts have done to the world, or were about to do.
    """

    def intend(self, claim: Claim, key: str, content: JsonValue) -> Intent:
        """
        Write down an effect before it happens. The first intent fixes the content.
        """
        proposed = json.dumps(content, sort_keys=True)

        def put(connection: sa.Connection) -> Intent:
            if self._first_intent(connection, claim, key, proposed):
                return Intent(content, None, None, claim.round, True)
            found = connection.execute(
                sa.select(effects).where(_effect(claim, key))
            ).one()
            same = found.content == proposed
            if not same:
                diverged = sa.update(effects).where(_effect(claim, key))
                connection.execute(diverged.values(diverged=effects.c.diverged + 1))
            result = json.loads(found.result) if found.result is not None else None
            return Intent(
                json.loads(found.content), found.state, result, found.round, same
            )

        return self._write(claim, "intent", put)

    def applied(self, claim: Claim, key: str, result: JsonValue) -> None:
        """
        Record that an effect has happened, with what it returned.
        """
        values = {
            "state": APPLIED,
            "result": json.dumps(result),
            "applied": effects.c.applied + 1,
            "applied_at": self._clock(),
            "fence": claim.fence,
        }

        def put(connection: sa.Connection) -> None:
            happened = sa.update(effects).where(_effect(claim, key))
            connection.execute(happened.values(values))

        self._write(claim, "effect", put)

    def intended(self, claim: Claim, key: str) -> bool:
        """
        Say whether the effect has been begun, by whomever.
        """
        query = sa.select(effects.c.key).where(_effect(claim, key))
        with self.store.read() as connection:
            return connection.scalar(query) is not None

    def _first_intent(
        self, connection: sa.Connection, claim: Claim, key: str, content: str
    ) -> bool:
        """
        Write the intent unless there is one; says whether it was written.
        """
        row = {
            "tenant": claim.tenant,
            "key": key,
            "state": INTENDED,
            "content": content,
            "mission": claim.mission,
            "task": claim.task,
            "round": claim.round,
            "fence": claim.fence,
            "applied": 0,
            "diverged": 0,
            "intended_at": self._clock(),
        }
        return enter(connection, effects, row)


def _effect(claim: Claim, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(effects.c.tenant == claim.tenant, effects.c.key == key)
