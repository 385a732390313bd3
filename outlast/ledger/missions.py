"""
The missions' books: what was accepted, how it ended, and whether the promises held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import FanOutId
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Task
from outlast.ledger.batches import INTERRUPTED, OPEN, delete_batch
from outlast.ledger.checkpoints import checkpoint_of
from outlast.ledger.effects import close_attempts, mission_clause
from outlast.ledger.results import TaskResults
from outlast.store.database import Store
from outlast.store.schema import (
    attempts,
    batches,
    checkpoints,
    effects,
    fences,
    missions,
    payloads,
    results,
    runs,
    spending,
    stale_writes,
)
from outlast.store.upsert import insert_if_absent

STARTING = "starting"
ACCEPTED = "accepted"
FORGOTTEN = "forgotten"
# Nobody works on them: what others have ended waits for `resume`.
NOT_RUNNING = (INTERRUPTED, FORGOTTEN)
MISSION_TABLES = (
    attempts,
    checkpoints,
    fences,
    payloads,
    stale_writes,
    results,
    runs,
    spending,
)


@dataclass(frozen=True)
class MissionRecord:
    """
    One mission's record.

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
    digest: str  # of what was asked
    run: str = ""
    interruption: str = ""


@dataclass
class Audit:
    """
    What the ledger says of its missions; *violations* must be empty.
    """

    accepted: int = 0
    finished: int = 0
    parked: int = 0
    dead_lettered: int = 0
    open: list[str] = field(default_factory=list)
    interrupted: list[MissionRecord] = field(default_factory=list)
    effects: list[dict[str, Any]] = field(default_factory=list)
    stale_refused: int = 0
    attempts: int = 0
    violations: list[str] = field(default_factory=list)


class MissionRecords:
    """
    The books of missions in *store*. Methods block.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self._store = store
        self._clock = clock or store.clock

    def open(self, mission: Mission) -> MissionRecord | None:
        """
        Enter *mission*; returns its line if the same mission is there already.

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
        with self._store.write() as connection:
            if insert_if_absent(connection, missions, row):
                return None
            found = connection.execute(
                sa.select(missions).where(missions.c.id == mission.id)
            ).one()
        if found.state == FORGOTTEN:
            raise BadInputError(
                f"mission {mission.id!r} was forgotten, and an id is used once; choose "
                "another one"
            )
        if found.digest != row["digest"]:
            raise BadInputError(
                f"mission {mission.id!r} exists with other content; choose another id"
            )
        return self.find(mission.id)

    def accept(self, mission: str) -> None:
        """
        Note that the server has the mission: from here on it may not be lost.
        """
        with self._store.write() as connection:
            line = sa.update(missions).where(
                missions.c.id == mission, missions.c.state.in_((STARTING, INTERRUPTED))
            )
            connection.execute(line.values(state=ACCEPTED, interruption=None))

    def interrupt(self, mission: str, why: str) -> None:
        """
        Note that somebody else has ended the mission's workflow: it holds no place any
        more, and goes on when it is resumed.
        """
        with self._store.write() as connection:
            line = sa.update(missions).where(
                missions.c.id == mission, missions.c.state == ACCEPTED
            )
            # The lines of its attempts stay: some may be at work until they hear of it.
            connection.execute(line.values(state=INTERRUPTED, interruption=why))

    def close(self, report: Report, run: str = "", again: bool = False) -> bool:
        """
        Note how a mission ended, in that *run* of its workflow; saying it twice changes
        nothing. False when another run has closed it, unless *again*.
        """
        values = {
            "state": report.status.value,
            "finished_at": (now := self._clock()),
            "report": report.model_dump_json(),
            "run": run,
            "interruption": None,
        }
        mine = sa.and_(missions.c.id == report.mission, missions.c.state != FORGOTTEN)
        still_open = sa.true() if again else missions.c.finished_at.is_(None)
        with self._store.write() as connection:
            line = sa.update(missions).where(mine, still_open)
            if connection.execute(line.values(values)).rowcount == 1:
                # It may be reopened, and their processes are at work no more.
                close_attempts(connection, report.mission, now)
                return True
            found = connection.execute(sa.select(missions.c.run).where(mine)).first()
            return found is None or (found.run or "") == run

    def reopen(self, mission: str) -> None:
        """
        Note that a mission which had ended, or was interrupted, goes on.
        """
        values = {"state": ACCEPTED, "finished_at": None, "report": None, "run": None}
        with self._store.write() as connection:
            line = sa.update(missions).where(
                missions.c.id == mission, missions.c.state != FORGOTTEN
            )
            connection.execute(line.values(**values, interruption=None))

    def requested(self, mission: str) -> Mission | None:
        """
        Read what the mission's workflow was last started with; None where an earlier
        release has not kept it.
        """
        query = sa.select(missions.c.asked).where(missions.c.id == mission)
        with self._store.read() as connection:
            kept = connection.scalar(query)
        return Mission.model_validate_json(kept) if kept else None

    def record_request(self, mission: Mission) -> None:
        """
        Keep what the workflow of *mission* is started with from now on.
        """
        with self._store.write() as connection:
            line = sa.update(missions).where(missions.c.id == mission.id)
            connection.execute(line.values(asked=mission.model_dump_json()))

    def follow_ups(self, mission: str) -> dict[str, list[Task]]:
        """
        Read which tasks a mission's agents have asked for, by the task that did.
        """
        query = sa.select(results.c.task, results.c.answer).where(
            results.c.mission == mission
        )
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(results.c.round)).all()
        return {
            row.task: ResultRef.model_validate_json(row.answer).follow_ups
            for row in rows
        }

    def checkpoints(self, mission: str) -> dict[str, Checkpoint]:
        """
        Read the last checkpoint of each of a mission's tasks.
        """
        told = [each for each in checkpoints.c if each is not checkpoints.c.body]
        query = sa.select(*told).where(checkpoints.c.mission == mission)
        # The last attempt's stays.
        query = query.order_by(checkpoints.c.fence, checkpoints.c.seq)
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        return {row.task: checkpoint_of(row) for row in rows}

    def find(self, mission: str) -> MissionRecord | None:
        """
        Look one mission up.
        """
        return next(iter(self.records(mission)), None)

    def records(self, mission: str | None = None) -> list[MissionRecord]:
        """
        List the missions, the newest first.
        """
        query = sa.select(missions).where(missions.c.state != FORGOTTEN)
        query = query.order_by(missions.c.accepted_at.desc())
        if mission is not None:
            query = query.where(missions.c.id == mission)
        with self._store.read() as connection:
            return [_record_of(row) for row in connection.execute(query)]

    def open_missions(self) -> list[str]:
        """
        List the missions that the server has and that have not ended, in a fixed order.
        """
        query = sa.select(missions.c.id).where(missions.c.state == ACCEPTED)
        with self._store.read() as connection:
            return list(connection.scalars(query.order_by(missions.c.id)))

    def count_open(self) -> int:
        """
        Count the missions and batches that have not ended.
        """
        ended = missions.c.finished_at.is_not(None) | missions.c.state.in_(NOT_RUNNING)
        open_missions = sa.select(sa.func.count()).select_from(missions).where(~ended)
        open_batches = (
            sa.select(sa.func.count())
            .select_from(batches)
            .where(batches.c.finished_at.is_(None), batches.c.state == OPEN)
        )
        with self._store.read() as connection:
            counts = [connection.scalar(each) for each in (open_missions, open_batches)]
        return sum(int(each or 0) for each in counts)

    def results(self, mission: str) -> TaskResults:
        """
        Find the results of a mission's tasks, of their last round, by task id.
        """
        return TaskResults(self._store, mission)

    def attempts(self, mission: str) -> list[dict[str, Any]]:
        """
        Tell every attempt of a mission in the order in which they were dispatched.
        """
        query = (
            sa.select(attempts)
            .where(attempts.c.mission == mission)
            .order_by(attempts.c.fence, attempts.c.task)
        )
        with self._store.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def audit(self, mission: str | None = None) -> Audit:
        """
        Count, and check the promises that the books can show.
        """
        audit = Audit()
        for entry in self.records(mission):
            _add_to_audit(audit, entry)
        with self._store.read() as connection:
            audit.effects = list(_audit_effects(connection, mission))
            audit.stale_refused = _count_rows(connection, stale_writes, mission)
            audit.attempts = _count_rows(connection, attempts, mission)
            audit.violations += _stale_results(connection, mission)
        audit.violations += [
            f"effect {each['key']!r} was applied {each['applied']} times"
            for each in audit.effects
            if each["applied"] > 1
        ]
        return audit

    def prune(self, older_than_s: float) -> list[str]:
        """
        Forget missions that finished so long ago. Effects stay: they keep what was
        done once from being done twice.
        """
        before = self._clock() - older_than_s
        query = sa.select(missions.c.id).where(
            missions.c.finished_at < before, missions.c.state != FORGOTTEN
        )
        with self._store.read() as connection:
            old = list(connection.scalars(query))
        for mission in old:
            self._delete(mission)
        return old

    def forget(self, mission: str) -> bool:
        """
        Erase a mission and its effects; returns whether there was one.
        """
        known = self.find(mission) is not None
        with self._store.write() as connection:
            connection.execute(sa.delete(effects).where(mission_clause(mission)))
        self._delete(mission)
        return known

    def _delete(self, mission: str) -> None:
        with self._store.write() as connection:
            for table in MISSION_TABLES:
                connection.execute(sa.delete(table).where(table.c.mission == mission))
            spread = sa.select(batches.c.id).where(
                batches.c.id.startswith(str(FanOutId(mission, "")), autoescape=True)
            )
            for batch in list(connection.scalars(spread)):
                delete_batch(connection, batch)
                connection.execute(sa.delete(runs).where(runs.c.mission == batch))
            # The id stays: the server may know it still, with the old content.
            line = sa.update(missions).where(missions.c.id == mission)
            nothing = {"state": FORGOTTEN, "goal": "", "digest": "", "report": None}
            nothing |= {"asked": None, "interruption": None}
            connection.execute(line.values(nothing))


def _record_of(row: sa.Row[Any]) -> MissionRecord:
    report = Report.model_validate_json(row.report) if row.report else None
    return MissionRecord(
        row.id,
        row.tenant,
        row.goal,
        row.state,
        row.accepted_at,
        row.finished_at,
        report,
        row.digest,
        row.run or "",
        row.interruption or "",
    )


def _add_to_audit(audit: Audit, entry: MissionRecord) -> None:
    if entry.state == STARTING:
        return  # never acknowledged, so nobody was promised anything
    audit.accepted += 1
    if entry.state == INTERRUPTED:
        audit.interrupted.append(entry)
        return
    if entry.report is None:
        audit.open.append(entry.id)
        return
    if entry.report.status is MissionStatus.PARKED:
        audit.parked += 1
    else:
        audit.finished += 1
    dead = [task for task in entry.report.tasks if task.status is TaskStatus.DEAD]
    audit.dead_lettered += len(dead)
    audit.violations += [
        f"{entry.id}/{task.id} is a dead letter without a cause"
        for task in dead
        if not task.reasons
    ]


def _audit_effects(
    connection: sa.Connection, mission: str | None
) -> Iterator[dict[str, Any]]:
    query = sa.select(
        effects.c.tenant,
        effects.c.key,
        effects.c.state,
        effects.c.applied,
        effects.c.conflicts,
        effects.c.mission,
        effects.c.task,
    ).order_by(effects.c.intended_at)
    if mission is not None:
        query = query.where(mission_clause(mission))
    for row in connection.execute(query).mappings():
        yield dict(row)


def _count_rows(connection: sa.Connection, table: sa.Table, mission: str | None) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    if mission is not None:
        query = query.where(table.c.mission == mission)
    return int(connection.scalar(query) or 0)


def _stale_results(connection: sa.Connection, mission: str | None) -> list[str]:
    """
    Find results whose writer had been superseded when it wrote them.
    """
    query = sa.select(results.c.mission, results.c.task).distinct()
    query = query.where(results.c.claimed > results.c.fence)
    if mission is not None:
        query = query.where(results.c.mission == mission)
    return [
        f"{row.mission}/{row.task}: a stale attempt's result stands"
        for row in connection.execute(query)
    ]
