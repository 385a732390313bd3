"""
What was already done or paid for: progress, results, spending.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from pydantic import JsonValue

from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.batches import Batch
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Stored, Task
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.checkpoints import checkpoint_of, checkpoint_row
from outlast.ledger.effect_ledger import EffectLedger
from outlast.ledger.fan_out import write_fan_out
from outlast.ledger.fence import (
    Claim,
    attempt_params,
    claim_key,
    round_params,
    task_clause,
    task_params,
)
from outlast.ledger.items import ItemRow
from outlast.ledger.payloads import get
from outlast.ledger.statements import (
    ANSWER,
    CHECKPOINT_BODY,
    DROP_BODY,
    LAST_ANSWER,
    LAST_CHECKPOINT,
    LAST_RESULT,
    LAST_RUN,
    RECORD_RESULT,
    RESULT_OF_ROUND,
    RESUMED,
    SAVE_CHECKPOINT,
)
from outlast.store.schema import spending
from outlast.store.upsert import insert

USAGE_TOTALS = sa.select(sa.func.sum(spending.c.tokens), sa.func.sum(spending.c.cost))


class Usage(NamedTuple):
    """
    Tokens and cost.
    """

    tokens: int
    cost: float


NO_USAGE = Usage(0, 0.0)


class UsageTotals(NamedTuple):
    """
    What the mission has spent in all, and the task of it.
    """

    mission: Usage
    task: Usage


class SaveResult(NamedTuple):
    """
    A checkpoint as it was numbered, and the totals where something was *spent*.
    """

    checkpoint: Checkpoint
    totals: UsageTotals | None


@dataclass(frozen=True)
class AttemptStart:
    """
    Where an attempt begins: after *checkpoint*, or with the *answer* of an earlier one.
    """

    claim: Claim
    checkpoint: Checkpoint
    answer: ResultRef | None


class Ledger(EffectLedger):
    """
    Progress, results and spending of attempts, each written under its claim, with
    their effects beside them.
    """

    def begin(
        self,
        assignment: AttemptInput,
        route: str,
        fence: int | AttemptOrder,
        carried: list[Checkpoint],
    ) -> AttemptStart:
        """
        Claim the task and find out what is left to do, in one go.

        :param carried: checkpoints that came with the task.
        :raises StaleAttemptError: when a later attempt has the task.
        :raises UnknownRunError: when the order names another run than the last one.
        """
        with self.store.write(durable=False) as connection:
            claim = self._claim(connection, assignment, route, fence)
            if claim is not None:
                return self._load_progress(connection, claim, route, carried)
        raise self.superseded_error(assignment)

    def warm_up(self) -> None:
        """
        Begin once and undo it: a process's first attempt takes over from a dead one,
        and should not be the one that waits for cold caches.
        """
        task = Task(id="warm", role="warm")
        warm_up_input = AttemptInput(mission="warm", tenant="warm", task=task)
        of_mission = {"of_mission": warm_up_input.mission}
        with suppress(_Undo), self.store.write(durable=False) as connection:
            connection.execute(LAST_RUN, of_mission).first()
            claim = self._claim(connection, warm_up_input, "warm", 1)
            if claim is not None:  # or somebody has named a mission like that
                saved = Checkpoint(seq=1, route="warm")
                self._load_progress(connection, claim, "warm", [saved])
            raise _Undo

    def _load_progress(
        self,
        connection: sa.Connection,
        claim: Claim,
        route: str,
        carried: list[Checkpoint],
    ) -> AttemptStart:
        """
        Find the round's answer, else the newest checkpoint of *route*.
        """
        done = connection.scalar(ANSWER, round_params(claim))
        if done is not None:
            self._close_attempt(connection, claim, "already done", self._clock())
            return AttemptStart(
                claim, Checkpoint(), ResultRef.model_validate_json(done)
            )
        newest = _newest(connection, claim, route, carried)
        if newest.seq:
            connection.execute(RESUMED, {**attempt_params(claim), "seq": newest.seq})
        return AttemptStart(claim, newest, None)

    def resume(self, claim: Claim, route: str) -> Checkpoint | None:
        """
        Read the last checkpoint of *route* in the claim's round.
        """
        with self.store.read() as connection:
            return _last_checkpoint(connection, claim, route)

    def save(
        self,
        claim: Claim,
        checkpoint: Checkpoint,
        durable: bool,
        used: Usage = NO_USAGE,
        body: bytes | None = None,
    ) -> SaveResult:
        """
        Replace the task's checkpoint, with its *body* where that is too large to
        travel, and count what getting there has *used*, in one go.

        It gets its number here, under the lock: *checkpoint*'s own, or the next one
        where a save beside it has taken that.
        """
        row = {**claim_key(claim), "round": claim.round, "fence": claim.fence}
        row |= {**checkpoint_row(checkpoint), "body": body}

        def put(connection: sa.Connection) -> SaveResult:
            if body is not None:
                whose = {**task_params(claim), "of_route": checkpoint.route}
                connection.execute(DROP_BODY, whose)
            seq = connection.scalar(SAVE_CHECKPOINT, {**row, "saved_at": self._clock()})
            spent = None if used == NO_USAGE else _add_usage(connection, claim, used)
            return SaveResult(checkpoint.model_copy(update={"seq": seq}), spent)

        return self._write(claim, "checkpoint", put, durable)

    def get_blob(self, mission: str, task: str, digest: str) -> bytes | None:
        """
        Read progress that was too large to travel.
        """
        with self.store.read() as connection:
            return _body(connection, mission, task, digest)

    def recorded_answer(self, claim: Claim) -> tuple[ResultRef, JsonValue] | None:
        """
        Find the result that an earlier attempt of this round has recorded.
        """
        return self.result(claim.mission, claim.task, claim.round)

    def result(
        self, mission: str, task: str, round_: int | None = None
    ) -> tuple[ResultRef, JsonValue] | None:
        """
        Read a task's result, of its last round unless *round_* is given.
        """
        of_result = {"of_mission": mission, "task_params": task, "round_params": round_}
        query = LAST_RESULT if round_ is None else RESULT_OF_ROUND
        with self.store.read() as connection:
            found = connection.execute(query, of_result).first()
        if found is None:
            return None
        return ResultRef.model_validate_json(found.answer), json.loads(found.result)

    def answer(
        self, mission: str, task: str, round_: int | None = None
    ) -> ResultRef | None:
        """
        Read what travels of a task's result, as `result` finds it.
        """
        of_result = {"of_mission": mission, "task_params": task, "round_params": round_}
        query = LAST_ANSWER if round_ is None else ANSWER
        with self.store.read() as connection:
            found = connection.scalar(query, of_result)
        return None if found is None else ResultRef.model_validate_json(found)

    def load_stored(self, stored: Stored) -> bytes | None:
        """
        Read a value that was too large to travel; None when it is forgotten.
        """
        with self.store.read() as connection:
            return get(connection, stored.owner, stored.digest)

    def text(self, mission: str, task: str) -> str:
        """
        Read the last result of *task*, which has one, as JSON.
        """
        of_result = {"of_mission": mission, "task_params": task}
        with self.store.read() as connection:
            return str(connection.execute(LAST_RESULT, of_result).one().result)

    def record(
        self,
        claim: Claim,
        answer: ResultRef,
        result: JsonValue,
        before: Callable[[sa.Connection], object] = lambda _: None,
    ) -> None:
        """
        Record the result of the claim's round: from here on nobody does it again.

        :param before: writes what the result asks for, in the same transaction.
        """
        self.record_text(claim, answer, json.dumps(result), before)

    def record_text(
        self,
        claim: Claim,
        answer: ResultRef,
        result: str,
        before: Callable[[sa.Connection], object] = lambda _: None,
    ) -> None:
        """
        Record a result that is JSON already, and may be large.
        """
        kept = {"answer": answer.model_dump_json(), "result": result}

        def put(connection: sa.Connection) -> None:
            before(connection)
            now = self._clock()
            row = {"fence": claim.fence, **kept, "recorded_at": now}
            connection.execute(
                RECORD_RESULT, {**claim_key(claim), "round": claim.round, **row}
            )
            self._close_attempt(connection, claim, "done", now)

        self._write(claim, "result", put)

    def record_fan_out(
        self,
        claim: Claim,
        answer: ResultRef,
        result: str,
        batch: Batch,
        rows: list[ItemRow],
    ) -> None:
        """
        Record a result that is a fan-out, with the items of its *batch*: nobody finds
        items that no recorded result asks for.

        :raises GiveUp: when the batch has been handed out before.
        """

        def put(connection: sa.Connection) -> None:
            recorded = connection.scalar(ANSWER, round_params(claim)) is not None
            write_fan_out(connection, batch, rows, recorded, self._clock())

        self.record_text(claim, answer, result, put)

    def record_usage(self, claim: Claim, tokens: int, cost: float) -> UsageTotals:
        """
        Add to what the task has spent; returns the totals.
        """

        def put(connection: sa.Connection) -> UsageTotals:
            return _add_usage(connection, claim, Usage(tokens, cost))

        return self._write(claim, "spending", put)


def _add_usage(connection: sa.Connection, claim: Claim, used: Usage) -> UsageTotals:
    add = insert(spending).values(**claim_key(claim), **used._asdict())
    more = {
        "tokens": spending.c.tokens + add.excluded.tokens,
        "cost": spending.c.cost + add.excluded.cost,
    }
    key = ["mission", "task"]
    connection.execute(add.on_conflict_do_update(index_elements=key, set_=more))
    whole = connection.execute(
        USAGE_TOTALS.where(spending.c.mission == claim.mission)
    ).one()
    own = connection.execute(USAGE_TOTALS.where(task_clause(spending, claim))).one()
    return UsageTotals(Usage(*whole), Usage(*own))


class _Undo(Exception):  # noqa: N818 - nothing is wrong
    """
    Rolls a transaction back.
    """


def _newest(
    connection: sa.Connection, claim: Claim, route: str, carried: list[Checkpoint]
) -> Checkpoint:
    """
    Choose where an attempt goes on: the store's checkpoint, unless one that travelled
    is newer and all of it is here.
    """
    saved = _last_checkpoint(connection, claim, route)
    mine = [each for each in carried if each.route == route]
    newest = max(mine, key=lambda each: each.seq, default=Checkpoint())
    if saved is None:
        return newest
    if newest.seq <= saved.seq or not _has_body(connection, claim, newest):
        return saved
    return newest


def _has_body(connection: sa.Connection, claim: Claim, checkpoint: Checkpoint) -> bool:
    # A database that was not told to be durable may have lost the last body.
    digest = checkpoint.blob
    found = digest is None or _body(connection, claim.mission, claim.task, digest)
    return bool(found)


def _last_checkpoint(
    connection: sa.Connection, claim: Claim, route: str
) -> Checkpoint | None:
    whose = {**round_params(claim), "of_route": route}
    found = connection.execute(LAST_CHECKPOINT, whose).first()
    return None if found is None else checkpoint_of(found)


def _body(
    connection: sa.Connection, mission: str, task: str, digest: str
) -> bytes | None:
    which = {"of_mission": mission, "task_params": task, "of_digest": digest}
    return connection.scalar(CHECKPOINT_BODY, which)
