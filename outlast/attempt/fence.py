"""
The fence: who may write for a task, and what is refused.

Every write of an attempt first holds its claim: a conditional UPDATE inside the same
immediate transaction. Whoever no longer has the highest fence changes no row, is
counted as refused and raises. Read first and write later would let stale writes
stand.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from outlast.contracts.errors import StaleAttemptError
from outlast.contracts.models import Assignment
from outlast.store.database import Store
from outlast.store.schema import attempts, checkpoints, claims, refusals

T = TypeVar("T")


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
        # Not durable: a loss of power ends every attempt, the overtaken ones too.
        with self.store.write(durable=False) as connection:
            row = connection.execute(self._claiming(assignment, route, fence)).first()
            if row is not None:
                claim = Claim(
                    mission, assignment.tenant, task, assignment.round, fence, row[0]
                )
                self._open_line(connection, claim, assignment, route)
                return claim
            self._refuse(connection, mission, task, fence, "claim")
        raise StaleAttemptError(f"{mission}/{task}: a later attempt has claimed it")

    def resumed(self, claim: Claim, seq: int) -> None:
        """
        Note at which save the attempt went on.
        """
        with self.store.write(durable=False) as connection:
            line = sa.update(attempts).where(line_of(claim))
            connection.execute(line.values(resumed_seq=seq))

    def failed(self, claim: Claim, ending: str) -> int:
        """
        Close the attempt's line as failed; returns its route's failures in this round.
        """

        def put(connection: sa.Connection) -> int:
            self._close_line(connection, claim, ending, self._clock())
            count = sa.update(claims).where(of(claims, claim))
            connection.execute(count.values(failures=claims.c.failures + 1))
            return int(
                connection.scalar(sa.select(claims.c.failures).where(of(claims, claim)))
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
            **key_of(claim),
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
            of(checkpoints, claim), checkpoints.c.round == claim.round
        )
        lines = sa.select(
            sa.func.max(sa.func.coalesce(attempts.c.ended_at, attempts.c.started_at))
        ).where(of(attempts, claim), attempts.c.round == claim.round)
        signs = [connection.scalar(saved), connection.scalar(lines)]
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
            if self._holds(connection, claim):
                return act(connection)
            self._refuse(connection, claim.mission, claim.task, claim.fence, what)
        raise StaleAttemptError(
            f"{claim.mission}/{claim.task}: {what} refused, a later attempt has "
            "claimed the task"
        )

    def _holds(self, connection: sa.Connection, claim: Claim) -> bool:
        mine = sa.update(claims).where(of(claims, claim))
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
        line = sa.update(attempts).where(line_of(claim), attempts.c.ended_at.is_(None))
        connection.execute(line.values(ended_at=now, ending=ending))


def key_of(claim: Claim) -> dict[str, Any]:
    return {"mission": claim.mission, "task": claim.task}


def of(table: sa.Table, claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.mission == claim.mission, table.c.task == claim.task)


def line_of(claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(of(attempts, claim), attempts.c.fence == claim.fence)
