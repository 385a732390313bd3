"""
Many items in one statement, in each database's own SQL: as one JSON text, or as
arrays.

A statement a row would hand the interpreter's lock back and forth with an agent that
is at work.
"""

import json
from typing import Any

import sqlalchemy as sa

from outlast.ledger.payloads import store_if_large
from outlast.store.schema import batches

PENDING_ITEMS = """
items.batch = :batch
AND NOT EXISTS (
    SELECT 1 FROM item_results r WHERE r.batch = items.batch AND r.item = items.item
)
AND NOT EXISTS (
    SELECT 1 FROM item_failures t
    WHERE t.batch = items.batch AND t.item = items.item AND t.dead_at IS NOT NULL
)
"""

PENDING_RANGES = sa.text(f"""
SELECT min(item), max(item) + 1 FROM (
    SELECT item, item - row_number() OVER (ORDER BY item) AS island
    FROM items WHERE {PENDING_ITEMS} AND item > :after AND item <= :up_to
) AS pending GROUP BY island ORDER BY 1 LIMIT :most
""")  # noqa: S608 - put together from constants

ITEMS_OF_RANGE = f"""
FROM (
    SELECT item, body FROM items
    WHERE {PENDING_ITEMS} AND item >= :start AND item < :stop ORDER BY item LIMIT :most
) AS chunk
"""  # noqa: S608 - put together from constants

# The pairs of number and text of what is left to do.
READ_ITEM_BODIES = {
    "sqlite": sa.text(
        f"SELECT json_group_array(json_array(item, body)) {ITEMS_OF_RANGE}"
    ),
    "postgresql": sa.text(
        "SELECT coalesce(json_agg(json_build_array(item, body) ORDER BY item), '[]')"
        f"::text {ITEMS_OF_RANGE}"
    ),
}

# The first result is kept: an attempt that repeats an item changes nothing.
_UNLESS_DEAD = """
WHERE NOT EXISTS (
    SELECT 1 FROM item_failures t
    WHERE t.batch = :batch AND t.item = given.item AND t.dead_at IS NOT NULL
)
ON CONFLICT DO NOTHING
"""
WRITE_RESULTS = {
    "sqlite": sa.text(f"""
    INSERT INTO item_results (batch, item, result, degraded)
    SELECT :batch, given.item, given.result, given.degraded FROM (
        SELECT value ->> 0 AS item, coalesce(value ->> 3, value -> 1) AS result,
            value ->> 2 AS degraded FROM json_each(:rows)
    ) AS given {_UNLESS_DEAD}
    """),  # noqa: S608 - put together from constants
    # Not by its JSON, which knows no NUL in a text, and a result may have one.
    "postgresql": sa.text(f"""
    INSERT INTO item_results (batch, item, result, degraded)
    SELECT :batch, given.item, given.result, given.degraded FROM unnest(
        CAST(:items AS integer[]), CAST(:results AS text[]), CAST(:reasons AS text[])
    ) AS given (item, result, degraded) {_UNLESS_DEAD}
    """),  # noqa: S608 - put together from constants
}

# An item's number, its result as JSON text, and why it is less than was asked.
WrittenResult = tuple[int, str, str | None]

# What dead-letters an item or closes the batch waits for those who write results, and
# they for it, but not for each other. On SQLite all of them take turns anyway.
LOCK_BATCH_SHARED = (
    sa.select(batches.c.id)
    .where(batches.c.id == sa.bindparam("batch"))
    .with_for_update(read=True)
)


def write_results(
    connection: sa.Connection, batch: str, rows: list[WrittenResult]
) -> None:
    """
    Write results; of a large one its row holds a reference.
    """
    dialect = connection.dialect.name
    # No text of PostgreSQL holds a NUL.
    rows = [(item, kept, why and why.replace("\0", "")) for item, kept, why in rows]
    if dialect == "postgresql":
        connection.execute(LOCK_BATCH_SHARED, {"batch": batch})
        given: dict[str, Any] = {
            "items": [item for item, _, _ in rows],
            "results": [store_if_large(connection, batch, row[1]) for row in rows],
            "reasons": [reason for _, _, reason in rows],
        }
    else:
        written = (_result_json(connection, batch, row) for row in rows)
        given = {"rows": f"[{','.join(written)}]"}
    connection.execute(WRITE_RESULTS[dialect], {"batch": batch, **given})


def _result_json(connection: sa.Connection, batch: str, row: WrittenResult) -> str:
    """
    Put a result, which is JSON, and its reason into an array; a reference is no JSON,
    and comes after them.
    """
    item, result, reason = row
    kept = store_if_large(connection, batch, result)
    if kept is not result:
        return json.dumps([item, None, reason, kept])
    return f"[{item},{result},{'null' if reason is None else json.dumps(reason)}]"


def read_items(connection: sa.Connection, asked: dict[str, Any]) -> str:
    """
    Read items that are left to do, as the JSON text of pairs: number, and the item's
    own JSON text.
    """
    return str(connection.scalar(READ_ITEM_BODIES[connection.dialect.name], asked))
