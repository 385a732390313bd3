"""
The fence: who may write for a task, and what is refused.

Every write of an attempt first holds its claim: a conditional UPDATE inside the same
immediate transaction. Whoever no longer has the highest fence changes no row, is
counted as refused and raises. Read first and write later would let stale writes
stand.

A run of the mission's workflow that the ledger does not have as the last one is
admitted once the server says that it is the current one, by compare-and-set: an attempt
of an old run that comes late cannot be taken for one of a new run.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import sqlalchemy as sa

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import StaleAttemptError, UnknownRunError
from outlast.contracts.failures import FailureType
from outlast.contracts.scopes import Scope
from outlast.ledger.attempt_order import AttemptOrder, is_last_of_run, run_of
from outlast.ledger.run_permits import NO_PERMITS_NEEDED, RunPermits
from outlast.ledger.statements import (
    ASSERT_FENCE,
    CLAIM,
    CLOSE_ATTEMPT,
    LAST_ATTEMPT,
    LAST_RUN,
    LAST_SAVED,
    OPEN_ATTEMPT,
)
from outlast.store.database import Store
from outlast.store.schema import fences, runs, stale_writes
from outlast.store.upsert import insert, insert_if_absent

T = TypeVar("T")


@dataclass(slots=True)  # not frozen, which takes three times as long an item
class Claim:
    """
    One attempt's right to write for its task.

    *fence* grows over attempts, dispatches and runs: see `AttemptOrder`. *attempt*
    counts from 1 within the round, and began *after_s* after the last sign of another
    one.
    """

    mission: str
    tenant: str
    task: str
    round: int
    fence: int
    attempt: int
    recovery_s: float | None = field(default=None, compare=False)
    scope: Scope | None = field(default=None, compare=False)

    @property
    def logical(self) -> Scope:
        """
        The logical mission to which the keys of its effects belong.
        """
        return self.scope or Scope(path=self.mission)


@dataclass
class Retries:
    """
    Tries of one call: when the store goes away in the very end of one, what it wrote
    may stand, and the call is made again.
    """

    started: bool = False
    wrote_at: float | None = None

    def is_retry(self) -> bool:
        """
        Begin a try; says whether there was one before.
        """
        before, self.started = self.started, True
        return before


class Fence:
    """
    The claims on tasks, the line of each attempt, and the refusals, in *store*.

    Methods block; call them through `Store.run`. With *fencing* off nothing is
    refused: that exists so that tests can see what fencing prevents.
    """

    def __init__(
        self,
        store: Store,
        fencing: bool = True,
        clock: Callable[[], float] | None = None,
        permits: RunPermits = NO_PERMITS_NEEDED,
    ) -> None:
        self.store = store
        self.fencing = fencing
        self.permits = permits
        self._clock = clock or store.clock

    def claim(
        self, assignment: AttemptInput, route: str, fence: int | AttemptOrder
    ) -> Claim:
        """
        Take the task for the attempt with *fence* and open its line in the books.

        :raises StaleAttemptError: when an attempt with a higher fence was here.
        :raises UnknownRunError: when the order names another run than the last one.
        """
        # Not durable: a loss of power ends every attempt, the overtaken ones too.
        with self.store.write(durable=False) as connection:
            claim = self._claim(connection, assignment, route, fence)
        if claim is None:
            raise self.superseded_error(assignment)
        return claim

    def superseded_error(self, assignment: AttemptInput) -> StaleAttemptError:
        """
        Make the error that says that the claim was refused, and by which fence.
        """
        mission, task = assignment.mission, assignment.task.id
        with self.store.read() as connection:
            highest = self._highest(connection, mission, task)
        return StaleAttemptError(
            f"{mission}/{task}: a later attempt has claimed it", highest
        )

    def admit_run(self, mission: str, run: str, after: int) -> bool:
        """
        Number *run*, which was found to be the current one of the mission's workflow
        since *after* was found to be the last number; False where another process has
        given a number meanwhile, so that the server must be asked again.
        """
        row = {"mission": mission, "number": after + 1, "run": run}
        # Not durable: a claim that is durable is written after it.
        with self.store.write(durable=False) as connection:
            return insert_if_absent(connection, runs, row)

    def _next_fence(
        self, connection: sa.Connection, mission: str, order: AttemptOrder
    ) -> int:
        """
        Make the fence of an attempt of the last run.

        :raises UnknownRunError: when its run is another one than the last.
        """
        last = connection.execute(LAST_RUN, {"of_mission": mission}).first()
        if last is None or last.run != order.run:
            raise UnknownRunError(mission, 0 if last is None else last.number)
        return order.fence(last.number)

    def _highest(self, connection: sa.Connection, mission: str, task: str) -> int:
        """
        Read the fence that holds the task; 0 when there is none.
        """
        which = sa.and_(fences.c.mission == mission, fences.c.task == task)
        return connection.scalar(sa.select(fences.c.fence).where(which)) or 0

    def record_failure(
        self, claim: Claim, ending: str, trace: str = "", tries: Retries | None = None
    ) -> int:
        """
        Close the attempt's line as failed; returns its route's failures in this round.

        :param trace: the traceback of what the agent raised.
        """

        again = tries is not None and tries.is_retry()

        def put(connection: sa.Connection) -> int:
            closed = self._close_attempt(
                connection, claim, ending, self._clock(), trace, FailureType.FAILED
            )
            if closed or not again:
                count = sa.update(fences).where(task_clause(fences, claim))
                connection.execute(count.values(failures=fences.c.failures + 1))
            return int(
                connection.scalar(
                    sa.select(fences.c.failures).where(task_clause(fences, claim))
                )
                or 0
            )

        return self._write(claim, "failure", put)

    def record_end(
        self,
        claim: Claim,
        ending: str,
        trace: str = "",
        kind: FailureType | None = None,
    ) -> None:
        """
        Close the attempt's line for any other reason, stale or not.
        """
        with self.store.write(durable=False) as connection:
            self._close_attempt(connection, claim, ending, self._clock(), trace, kind)

    def _claim(
        self,
        connection: sa.Connection,
        assignment: AttemptInput,
        route: str,
        fence: int | AttemptOrder,
    ) -> Claim | None:
        """
        Claim, or count the refusal and return None.
        """
        mission, task = assignment.mission, assignment.task.id
        given = fence
        if isinstance(fence, AttemptOrder):
            fence = self._next_fence(connection, mission, fence)
        wanted = {
            "mission": mission,
            "task": task,
            "round": assignment.round,
            "route": route,
            "fence": fence,
        }
        row = connection.execute(CLAIM[self.fencing], wanted).first()
        if row is None:
            highest = self._highest(connection, mission, task)
            if given is not fence and is_last_of_run(highest, run_of(fence)):
                raise UnknownRunError(mission, run_of(highest))
            self._raise_superseded(connection, mission, task, fence, "claim")
            return None
        claim = Claim(
            mission=mission,
            tenant=assignment.tenant,
            task=task,
            round=assignment.round,
            fence=fence,
            attempt=row[0],
            scope=assignment.scope,
        )
        after_s = self._open_attempt(connection, claim, assignment, route)
        return replace(claim, recovery_s=after_s)

    def _open_attempt(
        self,
        connection: sa.Connection,
        claim: Claim,
        assignment: AttemptInput,
        route: str,
    ) -> float | None:
        now = self._clock()
        last_sign = self._last_sign(connection, claim)
        after_s = max(0.0, now - last_sign) if last_sign else None
        line = {
            **claim_key(claim),
            "fence": claim.fence,
            "round": claim.round,
            "attempt": claim.attempt,
            "route": route,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": now,
            "resumed_seq": 0,
            "previous_failure": assignment.previous_failure,
            "detected_by": assignment.detected_by,
            "recovery_s": after_s,
        }
        connection.execute(OPEN_ATTEMPT, line)
        return after_s

    def _last_sign(self, connection: sa.Connection, claim: Claim) -> float | None:
        """
        Find when an earlier attempt of this round last started, saved or ended.
        """
        round_ = round_params(claim)
        signs = [connection.scalar(look, round_) for look in (LAST_SAVED, LAST_ATTEMPT)]
        return max((sign for sign in signs if sign is not None), default=None)

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
            if self._is_current(connection, claim):
                return act(connection)
            self._raise_superseded(
                connection, claim.mission, claim.task, claim.fence, what
            )
            highest = self._highest(connection, claim.mission, claim.task)
        raise superseded_error(claim, what, highest)

    def _is_current(self, connection: sa.Connection, claim: Claim) -> bool:
        mine = attempt_params(claim) if self.fencing else task_params(claim)
        return connection.execute(ASSERT_FENCE[self.fencing], mine).rowcount == 1

    def _raise_superseded(
        self, connection: sa.Connection, mission: str, task: str, fence: int, what: str
    ) -> None:
        connection.execute(
            insert(stale_writes).values(
                mission=mission,
                task=task,
                fence=fence,
                what=what,
                refused_at=self._clock(),
            )
        )

    def _close_attempt(
        self,
        connection: sa.Connection,
        claim: Claim,
        ending: str,
        now: float,
        trace: str = "",
        kind: FailureType | None = None,
    ) -> bool:
        """
        Say how the attempt has ended, once; False where that is said already.
        """
        how = {"now": now, "how": ending, "trace": trace or None, "kind": kind}
        closed = connection.execute(CLOSE_ATTEMPT, {**attempt_params(claim), **how})
        return closed.rowcount == 1


def superseded_error(claim: Claim, what: str, highest: int = 0) -> StaleAttemptError:
    """
    Say that a write of *what* was refused.
    """
    return StaleAttemptError(
        f"{claim.mission}/{claim.task}: {what} refused, a later attempt has "
        "claimed the task",
        highest,
    )


def claim_key(claim: Claim) -> dict[str, Any]:
    """
    The key of a row to be written for the claim's task.
    """
    return {"mission": claim.mission, "task": claim.task}


def task_params(claim: Claim) -> dict[str, Any]:
    """
    The parameters that find the task's rows.
    """
    return {"of_mission": claim.mission, "task_params": claim.task}


def round_params(claim: Claim) -> dict[str, Any]:
    """
    The parameters that find the rows of the claim's round.
    """
    return {**task_params(claim), "round_params": claim.round}


def attempt_params(claim: Claim) -> dict[str, Any]:
    """
    The parameters that find the attempt's own line.
    """
    return {**task_params(claim), "of_fence": claim.fence}


def task_clause(table: sa.Table, claim: Claim) -> sa.ColumnElement[bool]:
    """
    The condition for the task's rows in *table*, for statements made but rarely.
    """
    return sa.and_(table.c.mission == claim.mission, table.c.task == claim.task)
