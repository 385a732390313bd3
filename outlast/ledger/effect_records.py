"""
Effects as the store has them: found under their key, listed, settled by a person.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.errors import BadInputError
from outlast.contracts.text import one_line
from outlast.ledger.attempts import is_attempt_live
from outlast.ledger.effect_decision import APPLIED, INTENDED, RETRACTED
from outlast.ledger.retention import effects_clause
from outlast.store.database import Store
from outlast.store.schema import effects

EFFECT_CHARS = 80


@dataclass(frozen=True)
class EffectRecord:
    """
    One effect, for a person; it is *live* while its attempt may act still.
    """

    key: str
    scope: str
    number: int
    state: str
    content: str
    tenant: str
    mission: str
    task: str
    turn: str
    attempt: int
    live: bool
    intended_at: float
    deadline: float
    applied_at: float | None
    settled_by: str | None
    settled_at: float | None
    result: JsonValue

    @property
    def is_unknown(self) -> bool:
        """
        Whether nobody knows if it has happened.
        """
        return self.state == INTENDED and not self.live


class EffectRecords:
    """
    The effects in *store*. Methods block.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self._store = store
        self._clock = clock or store.clock

    def records(
        self, mission: str | None = None, key: str | None = None
    ) -> list[EffectRecord]:
        with self._store.read() as connection:
            return self._records(connection, mission, key)

    def record_decision(
        self, key: str, mission: str | None, happened: bool, result: JsonValue, who: str
    ) -> EffectRecord:
        """
        Record what a person has found out about an unsure effect.

        :raises BadInputError: when there is none, more than one, or it is not unsure.
        """
        with self._store.write() as connection:
            entry = _only_one(self._records(connection, mission, key), key)
            values: dict[str, Any] = {
                "state": APPLIED if happened else RETRACTED,
                "settled_by": who,
                "settled_at": self._clock(),
            }
            if happened:
                values |= {
                    "result": json.dumps(result),
                    "applied": 1,
                    "applied_at": values["settled_at"],
                }
            row = sa.update(effects).where(
                effects.c.tenant == entry.tenant,
                effects.c.scope == entry.scope,
                effects.c.key == entry.key,
                effects.c.number == entry.number,
                # Unless another attempt was faster, which may be acting.
                effects.c.state == INTENDED,
                effects.c.task == entry.task,
                effects.c.attempt == entry.attempt,
            )
            if connection.execute(row.values(values)).rowcount != 1:
                raise BadInputError(f"effect {key!r} has changed meanwhile; look again")
        return entry

    def _records(
        self, connection: sa.Connection, mission: str | None, key: str | None
    ) -> list[EffectRecord]:
        query = sa.select(effects).order_by(effects.c.intended_at, effects.c.number)
        if mission is not None:
            query = query.where(effects_clause(mission))
        if key is not None:
            query = query.where(effects.c.key == key)
        now = self._clock()
        return [
            _record_of(connection, row, now) for row in connection.execute(query).all()
        ]


def _record_of(connection: sa.Connection, row: sa.Row[Any], now: float) -> EffectRecord:
    known = {each.name for each in fields(EffectRecord)}
    found = {name: value for name, value in row._mapping.items() if name in known}
    found["content"] = row.identity
    found["live"] = row.state == INTENDED and is_attempt_live(connection, row, now)
    found["result"] = None if row.result is None else json.loads(row.result)
    return EffectRecord(**found)


def _only_one(found: list[EffectRecord], key: str) -> EffectRecord:
    """
    Choose the effect that a person means.

    :raises BadInputError: when that is none or not clear.
    """
    unsure = [each for each in found if each.is_unknown]
    if len(unsure) == 1:
        return unsure[0]
    shown = repr(one_line(key, EFFECT_CHARS))
    if unsure:
        where = ", ".join(sorted({each.mission for each in unsure}))
        raise BadInputError(
            f"effect {shown} is unsure in several missions: name one with --mission "
            f"({one_line(where, EFFECT_CHARS)})"
        )
    if not found:
        raise BadInputError(f"no effect {shown} is in the ledger: see outlast effects")
    last = found[-1]
    if last.live:
        deadline = time.localtime(last.deadline)
        until = time.strftime("%Y-%m-%d %H:%M:%S", deadline)
        raise BadInputError(
            f"effect {shown} is under way in {last.mission}/{last.task}, attempt "
            f"{last.attempt}: wait for its end, at the latest at {until}, or cancel "
            "the mission"
        )
    raise BadInputError(
        f"effect {shown} is {last.state}, not unsure: nothing to settle"
    )
