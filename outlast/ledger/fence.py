"""
The fence: who may write for a task, and what is refused.

`Fence.claim` gives an attempt the right, and `Fence.write` asks for it at each write by
a conditional UPDATE inside the same immediate transaction. Without the highest fence it
changes no row; the refusal is counted and raised. To read first and write later would
let stale writes through.

A run of the mission's workflow that the ledger does not have as the last one is
admitted once the server says that it is the current one, by compare-and-set: an attempt
of an old run that comes late cannot be taken for one of a new run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import sqlalchemy as sa

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import StaleAttemptError, UnknownRunError
from outlast.ledger.attempt_order import AttemptOrder, is_last_of_run, run_of
from outlast.ledger.attempts import open_attempt
from outlast.ledger.claim import Claim
from outlast.ledger.run_permits import NO_PERMITS_NEEDED, RunPermits
from outlast.ledger.statements import OF_FENCE, OF_MISSION, of_task
from outlast.store.database import Store
from outlast.store.schema import fences, runs, stale_writes
from outlast.store.upsert import insert, insert_if_absent

T = TypeVar("T")

# The run of the mission's workflow whose attempts may claim its tasks.
LAST_RUN = (
    sa.select(runs.c.run, runs.c.number)
    .where(runs.c.mission == OF_MISSION)
    .order_by(runs.c.number.desc())
    .limit(1)
)
HIGHEST = sa.select(fences.c.fence).where(of_task(fences))
_HOLD = sa.update(fences).where(of_task(fences)).values(task=fences.c.task)
# Changes the one row that the highest fence may change; by whether fencing is on.
ASSERT_FENCE = {True: _HOLD.where(fences.c.fence == OF_FENCE), False: _HOLD}


def _claiming(fenced: bool) -> sa.Executable:
    fresh = insert(fences)
    new = fresh.excluded
    same_round = fences.c.round == new.round
    same_route = sa.and_(same_round, fences.c.route == new.route)
    taken = fresh.on_conflict_do_update(
        index_elements=["mission", "task"],
        set_={
            "round": new.round,
            "route": new.route,
            "fence": new.fence,
            "attempt": sa.case((same_round, fences.c.attempt + 1), else_=1),
            "failures": sa.case((same_route, fences.c.failures), else_=0),
            "waits_for": None,
        },
        where=fences.c.fence < new.fence if fenced else sa.true(),
    )
    return taken.returning(fences.c.attempt)


# Takes a claim, or returns no row if a later one has it; by whether fencing is on.
CLAIM = {fenced: _claiming(fenced) for fenced in (True, False)}


@dataclass
class Retries:
    """
    Tries of one call: when the store goes away in the very end of one, what it wrote
    may be there, and the call is made again.
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
    The claims on tasks and the refusals, in *store*.

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

    @property
    def agent_store(self) -> Store:
        """
        Where agents have tables of their own.
        """
        return self.store

    def claim(
        self, assignment: AttemptInput, route: str, fence: int | AttemptOrder
    ) -> Claim:
        """
        Take the task for the attempt with *fence*, and open the attempt's row.

        :raises StaleAttemptError: when an attempt with a higher fence was here.
        :raises UnknownRunError: when the order names another run than the last one.
        """
        return self._claim_and(lambda _, claim: claim, assignment, route, fence)

    def _claim_and(
        self,
        act: Callable[[sa.Connection, Claim], T],
        assignment: AttemptInput,
        route: str,
        fence: int | AttemptOrder,
    ) -> T:
        """
        Claim, and *act* in the same transaction.
        """
        mission, task = assignment.mission, assignment.task.id
        # Not durable: a loss of power ends every attempt, the superseded ones too.
        with self.store.write(durable=False) as connection:
            claim = self._claim(connection, assignment, route, fence)
            if claim is not None:
                return act(connection, claim)
            highest = _highest(connection, mission, task)
        raise superseded_error(mission, task, "claim", highest)

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

    def write(
        self,
        claim: Claim,
        what: str,
        act: Callable[[sa.Connection], T],
        durable: bool = True,
    ) -> T:
        """
        Do *act* in one transaction if no later attempt has the task.

        :raises StaleAttemptError: when one has: that *what* was refused is counted.
        """
        with self.store.write(durable) as connection:
            held = connection.execute(ASSERT_FENCE[self.fencing], claim.params)
            if held.rowcount == 1:
                return act(connection)
            self.count_refusal(connection, claim.key, claim.fence, what)
            highest = _highest(connection, claim.mission, claim.task)
        raise superseded_error(claim.mission, claim.task, what, highest)

    def count_refusal(
        self, connection: sa.Connection, key: dict[str, Any], fence: int, what: str
    ) -> None:
        row = {**key, "fence": fence, "what": what, "refused_at": self._clock()}
        connection.execute(sa.insert(stale_writes), row)

    def _claim(
        self,
        connection: sa.Connection,
        assignment: AttemptInput,
        route: str,
        order: int | AttemptOrder,
    ) -> Claim | None:
        """
        Claim, or count the refusal and return None.
        """
        mission, task = assignment.mission, assignment.task.id
        fence = (
            _next_fence(connection, mission, order)
            if isinstance(order, AttemptOrder)
            else order
        )
        key = {"mission": mission, "task": task}
        wanted = {**key, "round": assignment.round, "route": route, "fence": fence}
        fresh = {**wanted, "attempt": 1, "failures": 0}
        attempt = connection.scalar(CLAIM[self.fencing], fresh)
        if attempt is None:
            highest = _highest(connection, mission, task)
            ordered = isinstance(order, AttemptOrder)
            if ordered and is_last_of_run(highest, run_of(fence)):
                raise UnknownRunError(mission, run_of(highest))
            self.count_refusal(connection, key, fence, "claim")
            return None
        claim = Claim(
            mission=mission,
            task=task,
            tenant=assignment.tenant,
            round=assignment.round,
            fence=fence,
            attempt=attempt,
            scope=assignment.scope,
        )
        row, now = {**wanted, "attempt": attempt}, self._clock()
        recovery_s = open_attempt(connection, row, assignment, claim.params, now)
        return replace(claim, recovery_s=recovery_s)


def _next_fence(connection: sa.Connection, mission: str, order: AttemptOrder) -> int:
    """
    Make the fence of an attempt of the last run.

    :raises UnknownRunError: when its run is another one than the last.
    """
    last = connection.execute(LAST_RUN, {"of_mission": mission}).first()
    if last is None or last.run != order.run:
        raise UnknownRunError(mission, 0 if last is None else last.number)
    return order.fence(last.number)


def _highest(connection: sa.Connection, mission: str, task: str) -> int:
    return connection.scalar(HIGHEST, {"of_mission": mission, "of_task": task}) or 0


def superseded_error(
    mission: str, task: str, what: str, highest: int = 0
) -> StaleAttemptError:
    return StaleAttemptError(
        f"{mission}/{task}: {what} refused, a later attempt has claimed the task",
        highest,
    )
