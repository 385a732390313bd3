"""
Effects as the store has them: found under their key, listed, settled by a person.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.errors import BadInputError
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import ScopePath
from outlast.contracts.text import one_line
from outlast.store.database import Store
from outlast.store.schema import attempts, batches, effects, fences, missions

EFFECT_CHARS = 80
# The ending of an attempt whose process died, or was cut off, before it wrote one.
NO_END = "no end recorded"

SAME_KEY = sa.and_(
    effects.c.tenant == sa.bindparam("of_tenant"),
    effects.c.scope == sa.bindparam("of_scope"),
    effects.c.key == sa.bindparam("of_key"),
)
# The rows of a key; on PostgreSQL two that decide about one wait for each other.
LOCK_EFFECTS = sa.select(effects).where(SAME_KEY).with_for_update()
READ_EFFECTS = sa.select(effects).where(SAME_KEY)
ONE_EFFECT = sa.and_(SAME_KEY, effects.c.number == sa.bindparam("of_number"))

# Whether an attempt is its task's last one, has no end on record, and may act still.
IS_ATTEMPT_LIVE = (
    sa.select(sa.literal(1))
    .select_from(fences)
    .join(
        attempts,
        sa.and_(
            attempts.c.mission == fences.c.mission,
            attempts.c.task == fences.c.task,
            attempts.c.fence == fences.c.fence,
        ),
    )
    .outerjoin(missions, missions.c.id == fences.c.mission)
    .outerjoin(batches, batches.c.id == fences.c.mission)
    .where(
        fences.c.mission == sa.bindparam("of_mission"),
        fences.c.task == sa.bindparam("task_params"),
        fences.c.fence == sa.bindparam("of_fence"),
        attempts.c.ended_at.is_(None),
        missions.c.finished_at.is_(None),
        batches.c.finished_at.is_(None),
    )
)
CLOSE_ATTEMPTS = (
    sa.update(attempts)
    .where(attempts.c.mission == sa.bindparam("of_mission"))
    .where(attempts.c.ended_at.is_(None))
    .values(
        ended_at=sa.bindparam("now"),
        end_reason=sa.bindparam("how"),
        failure_type=sa.bindparam("kind"),
    )
)
CLOSE_TASK_ATTEMPTS = CLOSE_ATTEMPTS.where(
    attempts.c.task == sa.bindparam("task_params")
)


def is_attempt_live(connection: sa.Connection, effect: Any, now: float) -> bool:
    """
    Say whether the attempt that began *effect*, a row, may be at work still: it has
    no end on record, and the limit that it began with is not over.
    """
    if now > effect.deadline:
        return False
    owner = {
        "of_mission": effect.mission,
        "task_params": effect.task,
        "of_fence": effect.fence,
    }
    return connection.scalar(IS_ATTEMPT_LIVE, owner) is not None


def close_attempts(
    connection: sa.Connection, mission: str, now: float, task: str = ""
) -> None:
    """
    Note that no attempt of *mission*, or of its one *task*, which has died, is at work
    any more: a process that died has not written down its end.
    """
    which = {"of_mission": mission, "now": now}
    if task:
        died = {"how": "died", "kind": FailureType.CRASHED, "task_params": task}
        connection.execute(CLOSE_TASK_ATTEMPTS, {**which, **died})
    else:
        unknown = {"how": NO_END, "kind": FailureType.NOT_RECORDED}
        connection.execute(CLOSE_ATTEMPTS, {**which, **unknown})


def mission_clause(mission: str) -> sa.ColumnElement[bool]:
    """
    The condition for the effects of *mission*, and of all that it has made.
    """
    return sa.or_(
        effects.c.mission == mission,
        effects.c.scope == mission,
        effects.c.scope.startswith(str(ScopePath(mission, "")), autoescape=True),
    )


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
        return self.state == "intended" and not self.live


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
        """
        List effects in the order of their intents, of one *mission* or *key* or all.
        """
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
                "state": "applied" if happened else "retracted",
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
                # Unless somebody was faster, who may be acting.
                effects.c.state == "intended",
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
            query = query.where(mission_clause(mission))
        if key is not None:
            query = query.where(effects.c.key == key)
        now = self._clock()
        return [
            _record_of(connection, row, now) for row in connection.execute(query).all()
        ]


def _record_of(connection: sa.Connection, row: sa.Row[Any], now: float) -> EffectRecord:
    live = row.state == "intended" and is_attempt_live(connection, row, now)
    return EffectRecord(
        key=row.key,
        scope=row.scope,
        number=row.number,
        state=row.state,
        content=row.identity,
        tenant=row.tenant,
        mission=row.mission,
        task=row.task,
        turn=row.turn,
        attempt=row.attempt,
        live=live,
        intended_at=row.intended_at,
        deadline=row.deadline,
        applied_at=row.applied_at,
        settled_by=row.settled_by,
        settled_at=row.settled_at,
        result=json.loads(row.result) if row.result is not None else None,
    )


def _time_text(entry: EffectRecord) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.deadline))


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
        raise BadInputError(
            f"effect {shown} is under way in {last.mission}/{last.task}, attempt "
            f"{last.attempt}: wait for its end, at the latest at {_time_text(last)}, "
            "or cancel the mission"
        )
    raise BadInputError(
        f"effect {shown} is {last.state}, not unsure: nothing to settle"
    )
