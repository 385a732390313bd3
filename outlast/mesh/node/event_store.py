"""
The durable copy of the log, in the peer's store. It follows the core's by insert or
ignore, so a change that was half written before a crash may be written again.
"""

import sqlalchemy as sa

from outlast.mesh.core.events import MeshEvent
from outlast.mesh.core.replicated_log import LogChange, ReplicatedLog
from outlast.store.database import Store
from outlast.store.schema import mesh_events, mesh_origins
from outlast.store.upsert import insert

ROWS_PER_STATEMENT = 500


class EventStore:
    """
    The log of one peer in *store*. Methods block; call them through `Store.run`.

    A store that several peers share has the log of each under its name.
    """

    def __init__(self, store: Store, peer: str) -> None:
        self._store = store
        self._peer = peer

    def load(self) -> ReplicatedLog:
        events, origins = mesh_events.c, mesh_origins.c
        with self._store.read() as connection:
            rows = connection.execute(
                sa.select(events.origin, events.seq, events.at_s, events.body)
                .where(events.peer == self._peer)
                .order_by(events.origin, events.seq)
            ).all()
            heads = connection.execute(
                sa.select(origins.origin, origins.head, origins.floor).where(
                    origins.peer == self._peer
                )
            ).all()
        return ReplicatedLog(
            [MeshEvent.model_construct(**row._mapping) for row in rows],
            {row.origin: row.head for row in heads},
            {row.origin: row.floor for row in heads if row.floor},
        )

    def record(self, change: LogChange) -> None:
        rows = [{"peer": self._peer, **each.model_dump()} for each in change.events]
        with self._store.write() as connection:
            for at in range(0, len(rows), ROWS_PER_STATEMENT):
                some = insert(mesh_events).values(rows[at : at + ROWS_PER_STATEMENT])
                connection.execute(some.on_conflict_do_nothing())
            if change.dropped:
                dropped = [
                    {"of": self._peer, "its_origin": origin, "its_seq": seq}
                    for origin, seq in change.dropped
                ]
                connection.execute(DROP_EVENT, dropped)
            heads = [
                {
                    "peer": self._peer,
                    "origin": origin,
                    "head": change.high_water.get(origin, 0),
                    "floor": change.low_water.get(origin, 0),
                }
                for origin in sorted({*change.high_water, *change.low_water})
            ]
            if heads:
                connection.execute(RAISE_HIGH_WATER, heads)


DROP_EVENT = sa.delete(mesh_events).where(
    mesh_events.c.peer == sa.bindparam("of"),
    mesh_events.c.origin == sa.bindparam("its_origin"),
    mesh_events.c.seq == sa.bindparam("its_seq"),
)


def _higher(new: sa.ColumnElement[int], old: sa.Column[int]) -> sa.ColumnElement[int]:
    return sa.case((new > old, new), else_=old)


_row = insert(mesh_origins).values(
    {name: sa.bindparam(name) for name in ("peer", "origin", "head", "floor")}
)
RAISE_HIGH_WATER = _row.on_conflict_do_update(
    index_elements=["peer", "origin"],
    set_={
        "head": _higher(_row.excluded.head, mesh_origins.c.head),
        "floor": _higher(_row.excluded.floor, mesh_origins.c.floor),
    },
)
