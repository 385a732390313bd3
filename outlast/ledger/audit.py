"""
The audit: what the ledger says of its missions, and whether its promises were kept.
"""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.ledger.batches import INTERRUPTED
from outlast.ledger.missions import STARTING, MissionRecord, MissionRecords
from outlast.ledger.retention import effects_clause
from outlast.store.database import Store
from outlast.store.schema import attempts, effects, results, stale_writes

AUDITED_COLUMNS = ("tenant", "key", "state", "applied", "conflicts", "mission", "task")


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


def audit_ledger(store: Store, mission: str | None = None) -> Audit:
    """
    Count, and check the promises that the ledger can show.
    """
    found = Audit()
    for entry in MissionRecords(store).records(mission):
        _count(found, entry)
    query = sa.select(*(effects.c[name] for name in AUDITED_COLUMNS))
    if mission is not None:
        query = query.where(effects_clause(mission))
    rows = store.rows(query.order_by(effects.c.intended_at))
    found.effects = [dict(row._mapping) for row in rows]
    found.stale_refused = _count_rows(store, stale_writes, mission)
    found.attempts = _count_rows(store, attempts, mission)
    found.violations += _stale_results(store, mission)
    found.violations += [
        f"effect {each['key']!r} was applied {each['applied']} times"
        for each in found.effects
        if each["applied"] > 1
    ]
    return found


def _count(found: Audit, entry: MissionRecord) -> None:
    if entry.state == STARTING:
        return  # never acknowledged, so nobody was promised anything
    found.accepted += 1
    if entry.state == INTERRUPTED:
        found.interrupted.append(entry)
        return
    if entry.report is None:
        found.open.append(entry.id)
        return
    if entry.report.status is MissionStatus.PARKED:
        found.parked += 1
    else:
        found.finished += 1
    dead = [task for task in entry.report.tasks if task.status is TaskStatus.DEAD]
    found.dead_lettered += len(dead)
    found.violations += [
        f"{entry.id}/{task.id} is a dead letter without a cause"
        for task in dead
        if not task.reasons
    ]


def _count_rows(store: Store, table: sa.Table, mission: str | None) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    if mission is not None:
        query = query.where(table.c.mission == mission)
    return int(store.scalar(query) or 0)


def _stale_results(store: Store, mission: str | None) -> list[str]:
    query = sa.select(results.c.mission, results.c.task).distinct()
    query = query.where(results.c.claimed > results.c.fence)
    if mission is not None:
        query = query.where(results.c.mission == mission)
    return [
        f"{row.mission}/{row.task}: a stale attempt's result stands"
        for row in store.rows(query)
    ]
