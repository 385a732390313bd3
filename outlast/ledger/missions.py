"""
The missions: one row each, from their opening until they are forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.reports import Report
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Task
from outlast.ledger.attempts import close_attempts
from outlast.ledger.batches import INTERRUPTED, OPEN
from outlast.ledger.checkpoints import checkpoint_of
from outlast.ledger.results import TaskResults
from outlast.store.database import Store
from outlast.store.schema import attempts, batches, checkpoints, missions, results
from outlast.store.upsert import insert_if_absent

STARTING = "starting"
ACCEPTED = "accepted"
FORGOTTEN = "forgotten"
# Nobody works on them: what was ended from outside waits for `resume`.
NOT_RUNNING = (INTERRUPTED, FORGOTTEN)


@dataclass(frozen=True)
class MissionRecord:
    """
    One mission's row.

    :param digest: of what was asked.
    :param run: the run of its workflow that has closed it; "" where none has.
    :param interruption: why it does not run, though it has not ended.
    """

    id: str
    tenant: str
    goal: str
    state: str
    accepted_at: float
    finished_at: float | None
    report: Report | None
    digest: str
    run: str = ""
    interruption: str = ""


class MissionRecords:
    """
    The missions in *store*. Methods block.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self.store = store
        self._clock = clock or store.clock

    def open(self, mission: Mission) -> MissionRecord | None:
        """
        Enter *mission*; returns its record if the same mission is there already.

        :raises BadInputError: when the id was used for other content.
        """
        row = {
            "id": mission.id,
            "tenant": mission.tenant,
            "digest": mission.digest(),
            "goal": mission.goal,
            "state": STARTING,
            "accepted_at": self._clock(),
            "asked": mission.model_dump_json(),
        }
        with self.store.write() as connection:
            if insert_if_absent(connection, missions, row):
                return None
            query = sa.select(missions).where(missions.c.id == mission.id)
            found = connection.execute(query).one()
        if found.state == FORGOTTEN:
            raise BadInputError(
                f"mission {mission.id!r} was forgotten, and an id is used once; choose "
                "another one"
            )
        if found.digest != row["digest"]:
            raise BadInputError(
                f"mission {mission.id!r} exists with other content; choose another id"
            )
        return _record_of(found)

    def accept(self, mission: str) -> None:
        """
        Note that the server has the mission: from here on it may not be lost.
        """
        change = _change(mission, missions.c.state.in_((STARTING, INTERRUPTED)))
        self.store.change(change.values(state=ACCEPTED, interruption=None))

    def interrupt(self, mission: str, why: str) -> None:
        """
        Note that the mission's workflow was ended from outside: it takes no place any
        more, and goes on when it is resumed.
        """
        # The rows of its attempts stay: some may be at work until they hear of it.
        change = _change(mission, missions.c.state == ACCEPTED)
        self.store.change(change.values(state=INTERRUPTED, interruption=why))

    def close(self, report: Report, run: str = "", again: bool = False) -> bool:
        """
        Note how a mission ended, in that *run* of its workflow; saying it twice changes
        nothing. False when another run has closed it, unless *again*.
        """
        now = self._clock()
        mine = missions.c.state != FORGOTTEN
        still_open = sa.true() if again else missions.c.finished_at.is_(None)
        change = _change(report.mission, mine, still_open).values(
            state=report.status.value,
            finished_at=now,
            report=report.model_dump_json(),
            run=run,
            interruption=None,
        )
        query = sa.select(missions.c.run).where(missions.c.id == report.mission, mine)
        with self.store.write() as connection:
            if connection.execute(change).rowcount == 1:
                # It may be reopened, and their processes are at work no more.
                close_attempts(connection, report.mission, now)
                return True
            found = connection.execute(query).first()
        return found is None or (found.run or "") == run

    def reopen(self, mission: str) -> None:
        names = ("finished_at", "report", "run", "interruption")
        values = {**dict.fromkeys(names), "state": ACCEPTED}
        change = _change(mission, missions.c.state != FORGOTTEN)
        self.store.change(change.values(values))

    def requested(self, mission: str) -> Mission | None:
        """
        Read what the mission's workflow was last started with; None where an earlier
        release has not kept it.
        """
        query = sa.select(missions.c.asked).where(missions.c.id == mission)
        kept = self.store.scalar(query)
        return Mission.model_validate_json(kept) if kept else None

    def record_request(self, mission: Mission) -> None:
        asked = mission.model_dump_json()
        self.store.change(_change(mission.id).values(asked=asked))

    def follow_ups(self, mission: str) -> dict[str, list[Task]]:
        query = sa.select(results.c.task, results.c.answer)
        query = query.where(results.c.mission == mission).order_by(results.c.round)
        return {
            row.task: ResultRef.model_validate_json(row.answer).follow_ups
            for row in self.store.rows(query)
        }

    def checkpoints(self, mission: str) -> dict[str, Checkpoint]:
        read = [each for each in checkpoints.c if each is not checkpoints.c.body]
        query = sa.select(*read).where(checkpoints.c.mission == mission)
        # The last attempt's overwrites the earlier ones'.
        query = query.order_by(checkpoints.c.fence, checkpoints.c.seq)
        return {row.task: checkpoint_of(row) for row in self.store.rows(query)}

    def find(self, mission: str) -> MissionRecord | None:
        return next(iter(self.records(mission)), None)

    def records(self, mission: str | None = None) -> list[MissionRecord]:
        """
        List the missions, the newest first.
        """
        query = sa.select(missions).where(missions.c.state != FORGOTTEN)
        query = query.order_by(missions.c.accepted_at.desc())
        if mission is not None:
            query = query.where(missions.c.id == mission)
        return [_record_of(row) for row in self.store.rows(query)]

    def open_missions(self) -> list[str]:
        query = sa.select(missions.c.id).where(missions.c.state == ACCEPTED)
        return [row.id for row in self.store.rows(query.order_by(missions.c.id))]

    def count_open(self) -> int:
        open_missions = sa.select(missions.c.id).where(
            missions.c.finished_at.is_(None), missions.c.state.not_in(NOT_RUNNING)
        )
        open_batches = sa.select(batches.c.id).where(
            batches.c.finished_at.is_(None), batches.c.state == OPEN
        )
        both = sa.union_all(open_missions, open_batches).subquery()
        return int(self.store.scalar(sa.select(sa.func.count()).select_from(both)))

    def results(self, mission: str) -> TaskResults:
        return TaskResults(self.store, mission)

    def attempts(self, mission: str) -> list[dict[str, Any]]:
        query = sa.select(attempts).where(attempts.c.mission == mission)
        query = query.order_by(attempts.c.fence, attempts.c.task)
        return [dict(row._mapping) for row in self.store.rows(query)]


def _change(mission: str, *where: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(missions).where(missions.c.id == mission, *where)


def _record_of(row: sa.Row[Any]) -> MissionRecord:
    same = ("id", "tenant", "goal", "state", "accepted_at", "finished_at", "digest")
    return MissionRecord(
        **{name: row._mapping[name] for name in same},
        report=Report.model_validate_json(row.report) if row.report else None,
        run=row.run or "",
        interruption=row.interruption or "",
    )
