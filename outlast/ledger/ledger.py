"""
What was already done or paid for: progress, results, failures, spending.
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
from outlast.contracts.failures import FailureType
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Stored, Task
from outlast.ledger import payloads
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.attempts import RESUMED, close_attempt
from outlast.ledger.checkpoints import (
    checkpoint_body,
    last_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from outlast.ledger.claim import Claim
from outlast.ledger.effect_ledger import EffectLedger
from outlast.ledger.fence import LAST_RUN, Retries
from outlast.ledger.items import ItemRow, write_fan_out
from outlast.ledger.lease_ledger import LeaseLedger
from outlast.ledger.results import (
    ANSWER,
    LAST_ANSWER,
    LAST_RESULT,
    RECORD_RESULT,
    RESULT_OF_ROUND,
)
from outlast.ledger.spending import NO_USAGE, Usage, UsageTotals, add_usage
from outlast.ledger.statements import of_task
from outlast.store.schema import fences

FAILURES = sa.select(fences.c.failures).where(of_task(fences))
COUNT_FAILURE = (
    sa.update(fences).where(of_task(fences)).values(failures=fences.c.failures + 1)
)


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


class Ledger(EffectLedger, LeaseLedger):
    """
    Progress, results, failures and spending of attempts, each written under its claim,
    with their effects and items beside them.
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

        def load(connection: sa.Connection, claim: Claim) -> AttemptStart:
            return self._load_progress(connection, claim, route, carried)

        return self._claim_and(load, assignment, route, fence)

    def warm_up(self) -> None:
        """
        Begin once and undo it: a process's first attempt recovers the task of a dead
        one, and should not be the one that waits for cold caches.
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
        done = connection.scalar(ANSWER, claim.params)
        if done is not None:
            close_attempt(connection, claim.params, "already done", self._clock())
            answer = ResultRef.model_validate_json(done)
            return AttemptStart(claim, Checkpoint(), answer)
        newest = newest_checkpoint(connection, claim, route, carried)
        if newest.seq:
            connection.execute(RESUMED, {**claim.params, "seq": newest.seq})
        return AttemptStart(claim, newest, None)

    def resume(self, claim: Claim, route: str) -> Checkpoint | None:
        with self.store.read() as connection:
            return last_checkpoint(connection, claim, route)

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

        def put(connection: sa.Connection) -> SaveResult:
            saved = save_checkpoint(connection, claim, checkpoint, body, self._clock())
            spent = None if used == NO_USAGE else add_usage(connection, claim, used)
            return SaveResult(saved, spent)

        return self.write(claim, "checkpoint", put, durable)

    def get_blob(self, mission: str, task: str, digest: str) -> bytes | None:
        with self.store.read() as connection:
            return checkpoint_body(connection, mission, task, digest)

    def load_stored(self, stored: Stored) -> bytes | None:
        with self.store.read() as connection:
            return payloads.get(connection, stored.owner, stored.digest)

    def result(
        self, mission: str, task: str, round_: int | None = None
    ) -> tuple[ResultRef, JsonValue] | None:
        """
        Read a task's result, of its last round unless *round_* is given.
        """
        which = {"of_mission": mission, "of_task": task, "of_round": round_}
        query = LAST_RESULT if round_ is None else RESULT_OF_ROUND
        found = self.store.first(query, which)
        if found is None:
            return None
        return ResultRef.model_validate_json(found.answer), json.loads(found.result)

    def answer(
        self, mission: str, task: str, round_: int | None = None
    ) -> ResultRef | None:
        """
        Read what travels of a task's result, as `result` finds it.
        """
        which = {"of_mission": mission, "of_task": task, "of_round": round_}
        found = self.store.scalar(LAST_ANSWER if round_ is None else ANSWER, which)
        return None if found is None else ResultRef.model_validate_json(found)

    def record(self, claim: Claim, answer: ResultRef, result: JsonValue) -> None:
        """
        Record the result of the claim's round: from here on nobody does it again.
        """
        self.record_text(claim, answer, json.dumps(result))

    def record_text(
        self,
        claim: Claim,
        answer: ResultRef,
        result: str,
        before: Callable[[sa.Connection], object] = lambda _: None,
    ) -> None:
        """
        Record a result that is JSON already, and may be large.

        :param before: writes what the result asks for, in the same transaction.
        """
        row = {
            **claim.key,
            "round": claim.round,
            "fence": claim.fence,
            "answer": answer.model_dump_json(),
            "result": result,
        }

        def put(connection: sa.Connection) -> None:
            before(connection)
            now = self._clock()
            connection.execute(RECORD_RESULT, {**row, "recorded_at": now})
            close_attempt(connection, claim.params, "done", now)

        self.write(claim, "result", put)

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
            recorded = connection.scalar(ANSWER, claim.params) is not None
            write_fan_out(connection, batch, rows, recorded, self._clock())

        self.record_text(claim, answer, result, put)

    def record_usage(self, claim: Claim, tokens: int, cost: float) -> UsageTotals:
        used = Usage(tokens, cost)
        return self.write(
            claim, "spending", lambda connection: add_usage(connection, claim, used)
        )

    def record_failure(
        self, claim: Claim, ending: str, trace: str = "", tries: Retries | None = None
    ) -> int:
        """
        Close the attempt's row as failed; returns its route's failures in this round.

        :param trace: the traceback of what the agent raised.
        """
        again = tries is not None and tries.is_retry()

        def put(connection: sa.Connection) -> int:
            how = self._clock(), trace, FailureType.FAILED
            if close_attempt(connection, claim.params, ending, *how) or not again:
                connection.execute(COUNT_FAILURE, claim.params)
            return int(connection.scalar(FAILURES, claim.params) or 0)

        return self.write(claim, "failure", put)

    def record_end(
        self,
        claim: Claim,
        ending: str,
        trace: str = "",
        kind: FailureType | None = None,
    ) -> None:
        with self.store.write(durable=False) as connection:
            now = self._clock()
            close_attempt(connection, claim.params, ending, now, trace, kind)


class _Undo(Exception):  # noqa: N818 - nothing is wrong
    """
    Rolls a transaction back.
    """
