"""
Retention: what is deleted of missions and batches that are forgotten, and what stays.

To `prune` keeps the effects, so that what was done once is not done twice; to forget
one mission or batch deletes its effects, too.
"""

import sqlalchemy as sa

from outlast.contracts.ids import FanOutId, ScopePath
from outlast.ledger.missions import FORGOTTEN
from outlast.store.database import Store
from outlast.store.schema import (
    attempts,
    batches,
    checkpoints,
    effects,
    fences,
    item_failures,
    item_results,
    items,
    missions,
    payloads,
    results,
    runs,
    spending,
    stale_writes,
)

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


def prune(store: Store, older_than_s: float, now: float) -> list[str]:
    """
    Forget missions and batches that finished so long before *now*; returns their ids.
    """
    before = now - older_than_s
    old_missions = sa.select(missions.c.id).where(
        missions.c.finished_at < before, missions.c.state != FORGOTTEN
    )
    old_batches = sa.select(batches.c.id).where(batches.c.finished_at < before)
    gone = [row.id for row in store.rows(old_missions)]
    for mission in gone:
        with store.write() as connection:
            _delete_mission(connection, mission)
    with store.write() as connection:
        more = list(connection.scalars(old_batches))
        for batch in more:
            delete_batch(connection, batch)
    return gone + more


def forget_mission(store: Store, mission: str) -> bool:
    with store.write() as connection:
        connection.execute(sa.delete(effects).where(effects_clause(mission)))
        return _delete_mission(connection, mission)


def forget_batch(store: Store, batch: str) -> bool:
    with store.write() as connection:
        connection.execute(sa.delete(effects).where(effects_clause(batch)))
        return delete_batch(connection, batch)


def effects_clause(mission: str) -> sa.ColumnElement[bool]:
    """
    The condition for the effects of *mission*, and of all that it has made.
    """
    return sa.or_(
        effects.c.mission == mission,
        effects.c.scope == mission,
        effects.c.scope.startswith(str(ScopePath(mission, "")), autoescape=True),
    )


def delete_batch(connection: sa.Connection, batch: str) -> bool:
    """
    Delete a batch with all that its items have left; returns whether there was one.

    Its runs stay: the id may be used again, and no run may have the number of another.
    """
    for table in (items, item_results, item_failures):
        connection.execute(sa.delete(table).where(table.c.batch == batch))
    for table in MISSION_TABLES:
        if table is not runs:
            connection.execute(sa.delete(table).where(table.c.mission == batch))
    gone = connection.execute(sa.delete(batches).where(batches.c.id == batch))
    return bool(gone.rowcount)


def _delete_mission(connection: sa.Connection, mission: str) -> bool:
    for table in MISSION_TABLES:
        connection.execute(sa.delete(table).where(table.c.mission == mission))
    fanned_out = sa.select(batches.c.id).where(
        batches.c.id.startswith(str(FanOutId(mission, "")), autoescape=True)
    )
    for batch in list(connection.scalars(fanned_out)):
        delete_batch(connection, batch)
        connection.execute(sa.delete(runs).where(runs.c.mission == batch))
    # The id stays: the server may know it still, with the old content.
    emptied = {
        "state": FORGOTTEN,
        "goal": "",
        "digest": "",
        **dict.fromkeys(("report", "asked", "interruption")),
    }
    row = sa.update(missions).where(
        missions.c.id == mission, missions.c.state != FORGOTTEN
    )
    return connection.execute(row.values(emptied)).rowcount == 1
