"""
What agents' code may do: effects with an identity, and what was seen of a failure; and
what a mission takes to go on whatever became of its workflow.
"""

import json
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from outlast.store.columns import texts
from outlast.store.schema import (
    checkpoints,
    circuits,
    effects,
    metadata,
    payloads,
    results,
    runs,
)

revision = "4"
down_revision = "3"

# This makes the tables of schema.py as they are: whoever adds a migration that changes
# one of them copies it here first; the upgrade tests fail where that was forgotten.

# Fences were made from the time, and are made from far smaller numbers now: the old
# ones keep their order, below all that will come.
FENCED = ("claims", "attempts", "results", "checkpoints", "effects", "refusals")
OLD = 2**62

RENAMED_TABLES = {
    "claims": "fences",
    "refusals": "stale_writes",
    "item_troubles": "item_failures",
}
RENAMED_COLUMNS = {
    ("attempts", "noticed_by"): "previous_failure",
    ("attempts", "after_s"): "recovery_s",
    ("attempts", "ending"): "end_reason",
    ("batches", "sealed"): "closed",
}

OLD_CHECKPOINTS = """
SELECT c.*, b.body FROM checkpoints c LEFT JOIN blobs b
ON b.mission = c.mission AND c.checkpoint LIKE '%' || b.digest || '%'
"""
ADDED_COLUMNS = {
    "claims": ("waits_for",),
    "attempts": ("detected_by", "failure_type", "traceback"),
    "item_troubles": ("traceback",),
    "missions": ("asked", "run", "interruption"),
}


def upgrade() -> None:
    connection = op.get_bind()
    for table, names in ADDED_COLUMNS.items():
        for column in texts(*names, null=True):
            op.add_column(table, column)
    _move(connection, effects, _moved_effect)
    _move(connection, checkpoints, _moved_checkpoint, OLD_CHECKPOINTS)
    _move(connection, results, _moved_result)
    op.drop_table("blobs")
    metadata.create_all(connection, [circuits, payloads, runs])
    _order_attempts(connection)
    _rename()


def _rename() -> None:
    for (table, old), new in RENAMED_COLUMNS.items():
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    for old, new in RENAMED_TABLES.items():
        op.rename_table(old, new)
    op.drop_index("refusals_by_mission", "stale_writes")
    op.create_index("stale_writes_by_mission", "stale_writes", ["mission"])


def _order_attempts(connection: sa.Connection) -> None:
    for table in FENCED:
        lower = sa.text(f"UPDATE {table} SET fence = fence - :old WHERE fence > 0")  # noqa: S608
        connection.execute(lower, {"old": OLD})
    connection.execute(sa.text("UPDATE results SET claimed = fence"))


def _move(
    connection: sa.Connection,
    table: sa.Table,
    moved: Callable[[sa.RowMapping], dict[str, object]],
    query: str = "",
) -> None:
    """
    Make *table* anew, of the rows that it had.
    """
    query = query or f"SELECT * FROM {table.name}"  # noqa: S608
    rows = connection.execute(sa.text(query)).mappings().all()
    op.drop_table(table.name)
    metadata.create_all(connection, [table])
    if rows:
        connection.execute(sa.insert(table), [moved(row) for row in rows])


def _moved_effect(row: sa.RowMapping) -> dict[str, object]:
    """
    Give an effect that was the tenant's to the mission that did it.
    """
    gone = ("content", "diverged")
    content = json.loads(row["content"])
    identity = json.dumps(
        content, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )
    return {
        **{name: value for name, value in row.items() if name not in gone},
        "scope": row["mission"],
        "number": 1,
        "identity": identity.encode(errors="replace").decode(),
        "logical": row["mission"],
        "turn": str(row["round"]),
        "attempt": 0,
        "conflicts": row["diverged"],
        "deadline": row["intended_at"],
    }


def _moved_checkpoint(row: sa.RowMapping) -> dict[str, object]:
    kept = ("mission", "task", "round", "fence", "saved_at", "body")
    saved = json.loads(row["checkpoint"])
    value = saved["value"]
    return {
        **{name: row[name] for name in kept},
        "route": saved["route"],
        "seq": saved["seq"],
        "version": saved["version"],
        "value": None if value is None else json.dumps(value),
        "digest": saved["blob"],
    }


def _moved_result(row: sa.RowMapping) -> dict[str, object]:
    """
    Part what travels of a result from the result itself.
    """
    kept = json.loads(row["answer"])
    parts = {name: json.dumps(kept[name]) for name in ("answer", "result")}
    return {**row, **parts, "claimed": row["fence"]}
