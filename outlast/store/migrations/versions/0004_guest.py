"""
What agents' code may do: effects with an identity, and what was seen of a failure; and
what a mission takes to go on whatever became of its workflow.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

metadata = sa.MetaData()


def words() -> sa.Text:
    """
    Text sorted by its code points.
    """
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


effects = sa.Table(
    "effects",
    metadata,
    sa.Column("tenant", words(), primary_key=True),
    sa.Column("scope", words(), primary_key=True),
    sa.Column("key", words(), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("state", words(), nullable=False),
    sa.Column("identity", words(), nullable=False),
    sa.Column("payload", words()),
    sa.Column("result", words()),
    sa.Column("mission", words(), nullable=False),
    sa.Column("task", words(), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("logical", words(), nullable=False),
    sa.Column("turn", words(), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("applied", sa.Integer, nullable=False),
    sa.Column("conflicts", sa.Integer, nullable=False),
    sa.Column("intended_at", sa.Float, nullable=False),
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("applied_at", sa.Float),
    sa.Column("settled_by", words()),
    sa.Column("settled_at", sa.Float),
    sa.Index("effects_by_mission", "mission"),
)


checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("mission", words(), primary_key=True),
    sa.Column("task", words(), primary_key=True),
    sa.Column("route", words(), primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("value", words()),
    sa.Column("digest", words()),
    sa.Column("body", sa.LargeBinary),
    sa.Column("saved_at", sa.Float, nullable=False),
)


results = sa.Table(
    "results",
    metadata,
    sa.Column("mission", words(), primary_key=True),
    sa.Column("task", words(), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("answer", words(), nullable=False),
    sa.Column("recorded_at", sa.Float, nullable=False),
    sa.Column("claimed", sa.BigInteger, nullable=False),
    sa.Column("result", words(), nullable=False),
)


payloads = sa.Table(
    "payloads",
    metadata,
    sa.Column("mission", words(), primary_key=True),
    sa.Column("digest", words(), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)


runs = sa.Table(
    "runs",
    metadata,
    sa.Column("mission", words(), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("run", words(), nullable=False),
)

# Fences were made from the time, and are made from far smaller numbers now: the old
# ones keep their order, below all that will come.
FENCED = ("claims", "attempts", "results", "checkpoints", "effects", "refusals")
OLD = 2**62


def upgrade() -> None:
    _add_tracebacks()
    _tell_detectors_apart()
    _add_what_was_asked()
    _move_effects(op.get_bind())
    _move_progress(op.get_bind())
    _move_results(op.get_bind())
    metadata.create_all(op.get_bind(), [payloads, runs])
    _order_attempts(op.get_bind())
    _use_the_lexicon()


def _tell_detectors_apart() -> None:
    with op.batch_alter_table("attempts") as table:
        table.alter_column("noticed_by", new_column_name="previous_failure")
        table.add_column(sa.Column("detected_by", words()))
        table.add_column(sa.Column("failure_type", words()))


RENAMED_TABLES = {
    "claims": "fences",
    "refusals": "stale_writes",
    "item_troubles": "item_failures",
}
RENAMED_COLUMNS = {
    ("attempts", "after_s"): "recovery_s",
    ("attempts", "ending"): "end_reason",
    ("batches", "sealed"): "closed",
}


def _use_the_lexicon() -> None:
    for (table, old), new in RENAMED_COLUMNS.items():
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    for old, new in RENAMED_TABLES.items():
        op.rename_table(old, new)
    op.drop_index("refusals_by_mission", "stale_writes")
    op.create_index("stale_writes_by_mission", "stale_writes", ["mission"])


def _add_tracebacks() -> None:
    for table in ("attempts", "item_troubles"):
        op.add_column(table, sa.Column("traceback", words()))


def _add_what_was_asked() -> None:
    for name in ("asked", "run", "interruption"):
        op.add_column("missions", sa.Column(name, words()))


def _order_attempts(connection: sa.Connection) -> None:
    for table in FENCED:
        lower = sa.text(f"UPDATE {table} SET fence = fence - :old WHERE fence > 0")  # noqa: S608
        connection.execute(lower, {"old": OLD})
    connection.execute(sa.text("UPDATE results SET claimed = fence"))


def _move_effects(connection: sa.Connection) -> None:
    """
    Give the effects that were the tenant's to the missions that did them.
    """
    rows = connection.execute(sa.text("SELECT * FROM effects")).mappings().all()
    op.drop_table("effects")
    metadata.create_all(connection, [effects])
    if rows:
        connection.execute(sa.insert(effects), [_moved_effect(row) for row in rows])


def _moved_effect(row: sa.RowMapping) -> dict[str, object]:
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


def _move_progress(connection: sa.Connection) -> None:
    old = "SELECT c.*, b.body FROM checkpoints c LEFT JOIN blobs b"
    join = "b.mission = c.mission AND c.checkpoint LIKE '%' || b.digest || '%'"
    rows = connection.execute(sa.text(f"{old} ON {join}")).mappings().all()
    op.drop_table("checkpoints")
    op.drop_table("blobs")
    metadata.create_all(connection, [checkpoints])
    if rows:
        moved = [_moved_progress(row) for row in rows]
        connection.execute(sa.insert(checkpoints), moved)


def _moved_progress(row: sa.RowMapping) -> dict[str, object]:
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


def _move_results(connection: sa.Connection) -> None:
    """
    Part what travels of a result from the result itself.
    """
    rows = connection.execute(sa.text("SELECT * FROM results")).mappings().all()
    op.drop_table("results")
    metadata.create_all(connection, [results])
    if rows:
        connection.execute(sa.insert(results), [_moved_result(row) for row in rows])


def _moved_result(row: sa.RowMapping) -> dict[str, object]:
    kept = json.loads(row["answer"])
    parts = {name: json.dumps(kept[name]) for name in ("answer", "result")}
    return {**row, **parts, "claimed": row["fence"]}
