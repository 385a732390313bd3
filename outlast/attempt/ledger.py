"""
What was already done or paid for, and the fence that keeps stale attempts out.

Every write of an attempt first holds its claim: a conditional UPDATE inside the same
immediate transaction. Whoever no longer has the highest fence changes no row, is
counted as refused and raises. Read first and write later would let stale writes
stand.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import JsonValue
from sqlalchemy.dialects.sqlite import insert

from outlast.contracts.errors import StaleAttemptError
from outlast.contracts.models import Answer, Assignment, Checkpoint
from outlast.store.database import Store
from outlast.store.schema import (
    attempts,
    blobs,
    checkpoints,
    claims,
    effects,
    refusals,
    results,
    spending,
)

T = TypeVar("T")

INTENDED = "intended"
APPLIED = "applied"


@dataclass(frozen=True)
class Claim:
    """
    One attempt's right to write for its task.

    *fence* grows over attempts, routes, redos, resets and runs; *attempt* counts
    from 1 within the round.
    """

    mission: str
    tenant: str
    task: str
    round: int
    fence: int
    attempt: int


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


class Ledger:
    """
    The guarded books of attempts, in *store*.

    Methods block; call them through `Store.run`. With *fencing* off nothing is
    refused: that exists so that tests can see what fencing prevents.
    """

    def __init__(
        self,
        store: Store,
        fencing: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._fencing = fencing
        self._clock = clock

    def claim(self, assignment: Assignment, route: str, fence: int) -> Claim:
        """
        Take the task for the attempt with *fence* and open its line in the books.

        :raises StaleAttemptError: when an attempt with a higher fence was here.
        """
        mission, task = assignment.mission, assignment.task.id
        with self.store.write() as connection:
            row = connection.execute(self._claiming(assignment, route, fence)).first()
            if row is not None:
                claim = Claim(
                    mission, assignment.tenant, task, assignment.round, fence, row[0]
                )
                self._open_line(connection, claim, assignment, route)
                return claim
            self._refuse(connection, mission, task, fence, "claim")
        raise StaleAttemptError(f"{mission}/{task}: a later attempt has claimed it")

    def resume(self, claim: Claim) -> Checkpoint | None:
        """
        Read the last checkpoint of the claim's round.
        """
        query = sa.select(checkpoints.c.checkpoint).where(
            _of(checkpoints, claim), checkpoints.c.round == claim.round
        )
        with self.store.read() as connection:
            found = connection.scalar(query)
        return Checkpoint.model_validate_json(found) if found else None

    def resumed(self, claim: Claim, seq: int) -> None:
        """
        Note at which save the attempt went on.
        """
        with self.store.write(durable=False) as connection:
            line = sa.update(attempts).where(_line(claim))
            connection.execute(line.values(resumed_seq=seq))

    def save(self, claim: Claim, checkpoint: Checkpoint, durable: bool) -> None:
        """
        Replace the task's checkpoint.
        """
        values = {
            "round": claim.round,
            "fence": claim.fence,
            "checkpoint": checkpoint.model_dump_json(),
            "saved_at": self._clock(),
        }

        def put(connection: sa.Connection) -> None:
            connection.execute(_upsert(checkpoints, _key(claim), values))

        self._write(claim, "checkpoint", put, durable)

    def keep(self, claim: Claim, body: bytes, durable: bool) -> str:
        """
        Store progress that is too large to travel; returns its digest.
        """
        digest = hashlib.sha256(body).hexdigest()
        row = {"mission": claim.mission, "digest": digest}

        def put(connection: sa.Connection) -> None:
            values = {"body": body, "stored_at": self._clock()}
            connection.execute(_upsert(blobs, row, values))

        self._write(claim, "checkpoint", put, durable)
        return digest

    def fetch(self, mission: str, digest: str) -> bytes | None:
        """
        Read large progress back.
        """
        query = sa.select(blobs.c.body).where(
            blobs.c.mission == mission, blobs.c.digest == digest
        )
        with self.store.read() as connection:
            return connection.scalar(query)

    def answered(self, claim: Claim) -> tuple[Answer, JsonValue] | None:
        """
        Find the result that an earlier attempt of this round has recorded.
        """
        return self.result(claim.mission, claim.task, claim.round)

    def result(
        self, mission: str, task: str, round_: int | None = None
    ) -> tuple[Answer, JsonValue] | None:
        """
        Read a task's result, of its last round unless *round_* is given.
        """
        query = (
            sa.select(results.c.answer)
            .where(results.c.mission == mission, results.c.task == task)
            .order_by(results.c.round.desc())
        )
        if round_ is not None:
            query = query.where(results.c.round == round_)
        with self.store.read() as connection:
            found = connection.scalar(query.limit(1))
        if found is None:
            return None
        kept = json.loads(found)
        return Answer.model_validate(kept["answer"]), kept["result"]

    def record(self, claim: Claim, answer: Answer, result: JsonValue) -> None:
        """
        Record the result of the claim's round: from here on nobody does it again.
        """
        now = self._clock()
        kept = {"answer": answer.model_dump(mode="json"), "result": result}
        values = {"fence": claim.fence, "answer": json.dumps(kept), "recorded_at": now}

        def put(connection: sa.Connection) -> None:
            key = {**_key(claim), "round": claim.round}
            connection.execute(_upsert(results, key, values))
            self._close_line(connection, claim, "done", now)

        self._write(claim, "result", put)

    def intend(self, claim: Claim, key: str, content: JsonValue) -> Intent:
        """
        Write down an effect before it happens. The first intent fixes the content.
        """
        proposed = json.dumps(content, sort_keys=True)

        def put(connection: sa.Connection) -> Intent:
            found = connection.execute(
                sa.select(effects).where(_effect(claim, key))
            ).first()
            if found is None:
                self._write_intent(connection, claim, key, proposed)
                return Intent(content, None, None, claim.round, True)
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

    def spend(self, claim: Claim, tokens: int, cost: float) -> tuple[int, float]:
        """
        Add to what the task has spent; returns the mission's totals.
        """

        def put(connection: sa.Connection) -> tuple[int, float]:
            add = insert(spending).values(**_key(claim), tokens=tokens, cost=cost)
            more = {
                "tokens": spending.c.tokens + add.excluded.tokens,
                "cost": spending.c.cost + add.excluded.cost,
            }
            connection.execute(add.on_conflict_do_update(None, set_=more))
            total = sa.select(
                sa.func.sum(spending.c.tokens), sa.func.sum(spending.c.cost)
            ).where(spending.c.mission == claim.mission)
            spent = connection.execute(total).one()
            return int(spent[0]), float(spent[1])

        return self._write(claim, "spending", put)

    def failed(self, claim: Claim, ending: str) -> int:
        """
        Close the attempt's line as failed; returns its route's failures in this round.
        """

        def put(connection: sa.Connection) -> int:
            self._close_line(connection, claim, ending, self._clock())
            count = sa.update(claims).where(_of(claims, claim))
            connection.execute(count.values(failures=claims.c.failures + 1))
            return int(
                connection.scalar(
                    sa.select(claims.c.failures).where(_of(claims, claim))
                )
                or 0
            )

        return self._write(claim, "failure", put)

    def ended(self, claim: Claim, ending: str) -> None:
        """
        Close the attempt's line for any other reason, stale or not.
        """
        with self.store.write(durable=False) as connection:
            self._close_line(connection, claim, ending, self._clock())

    def _claiming(
        self, assignment: Assignment, route: str, fence: int
    ) -> sa.Executable:
        """
        Make the one statement that takes a claim, or no row if a later one stands.
        """
        fresh = insert(claims).values(
            mission=assignment.mission,
            task=assignment.task.id,
            round=assignment.round,
            fence=fence,
            route=route,
            attempt=1,
            failures=0,
        )
        same_round = claims.c.round == fresh.excluded.round
        same_route = sa.and_(same_round, claims.c.route == fresh.excluded.route)
        taken = fresh.on_conflict_do_update(
            None,
            set_={
                "round": fresh.excluded.round,
                "route": fresh.excluded.route,
                "fence": fresh.excluded.fence,
                "attempt": sa.case((same_round, claims.c.attempt + 1), else_=1),
                "failures": sa.case((same_route, claims.c.failures), else_=0),
            },
            where=(claims.c.fence < fresh.excluded.fence)
            if self._fencing
            else sa.true(),
        )
        return taken.returning(claims.c.attempt)

    def _open_line(
        self,
        connection: sa.Connection,
        claim: Claim,
        assignment: Assignment,
        route: str,
    ) -> None:
        now = self._clock()
        last_sign = self._last_sign(connection, claim)
        line = {
            **_key(claim),
            "fence": claim.fence,
            "round": claim.round,
            "attempt": claim.attempt,
            "route": route,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": now,
            "resumed_seq": 0,
            "noticed_by": assignment.noticed_by,
            "after_s": now - last_sign if last_sign else None,
        }
        connection.execute(insert(attempts).values(line).on_conflict_do_nothing())

    def _last_sign(self, connection: sa.Connection, claim: Claim) -> float | None:
        """
        Find when an earlier attempt of this round last started, saved or ended.
        """
        saved = sa.select(checkpoints.c.saved_at).where(
            _of(checkpoints, claim), checkpoints.c.round == claim.round
        )
        lines = sa.select(
            sa.func.max(sa.func.coalesce(attempts.c.ended_at, attempts.c.started_at))
        ).where(_of(attempts, claim), attempts.c.round == claim.round)
        signs = [connection.scalar(saved), connection.scalar(lines)]
        return max((sign for sign in signs if sign is not None), default=None)

    def _write_intent(
        self, connection: sa.Connection, claim: Claim, key: str, content: str
    ) -> None:
        connection.execute(
            insert(effects).values(
                tenant=claim.tenant,
                key=key,
                state=INTENDED,
                content=content,
                mission=claim.mission,
                task=claim.task,
                round=claim.round,
                fence=claim.fence,
                applied=0,
                diverged=0,
                intended_at=self._clock(),
            )
        )

    def _write(
        self,
        claim: Claim,
        what: str,
        act: Callable[[sa.Connection], T],
        durable: bool = True,
    ) -> T:
        """
        Do *act* if the claim still stands; otherwise count the refusal and raise.
        """
        with self.store.write(durable) as connection:
            if self._holds(connection, claim):
                return act(connection)
            self._refuse(connection, claim.mission, claim.task, claim.fence, what)
        raise StaleAttemptError(
            f"{claim.mission}/{claim.task}: {what} refused, a later attempt has "
            "claimed the task"
        )

    def _holds(self, connection: sa.Connection, claim: Claim) -> bool:
        mine = sa.update(claims).where(_of(claims, claim))
        if self._fencing:
            mine = mine.where(claims.c.fence == claim.fence)
        return connection.execute(mine.values(task=claims.c.task)).rowcount == 1

    def _refuse(
        self, connection: sa.Connection, mission: str, task: str, fence: int, what: str
    ) -> None:
        connection.execute(
            insert(refusals).values(
                mission=mission,
                task=task,
                fence=fence,
                what=what,
                refused_at=self._clock(),
            )
        )

    def _close_line(
        self, connection: sa.Connection, claim: Claim, ending: str, now: float
    ) -> None:
        line = sa.update(attempts).where(_line(claim), attempts.c.ended_at.is_(None))
        connection.execute(line.values(ended_at=now, ending=ending))


def _key(claim: Claim) -> dict[str, Any]:
    return {"mission": claim.mission, "task": claim.task}


def _of(table: sa.Table, claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.mission == claim.mission, table.c.task == claim.task)


def _line(claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(_of(attempts, claim), attempts.c.fence == claim.fence)


def _effect(claim: Claim, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(effects.c.tenant == claim.tenant, effects.c.key == key)


def _upsert(
    table: sa.Table, key: dict[str, Any], values: dict[str, Any]
) -> sa.Executable:
    row = insert(table).values(**key, **values)
    return row.on_conflict_do_update(index_elements=list(key), set_=values)
