"""
Many items in one statement, in each database's own words: as one JSON text, or as
arrays.

A statement a row would hand the interpreter's lock back and forth with an agent that
is at work.
"""

import json
from typing import Any

import sqlalchemy as sa

from outlast.ledger.payloads import is_large, store_if_large
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

# The first end stands: an attempt that repeats an item changes nothing.
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
        SELECT value ->> 0 AS item, value -> 1 AS result, value ->> 2 AS degraded
        FROM json_each(:rows)
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

# One result by itself, of which the row holds a reference: that is no JSON.
WRITE_LARGE_RESULT = sa.text(f"""
INSERT INTO item_results (batch, item, result, degraded)
SELECT :batch, given.item, :result, :degraded
FROM (SELECT CAST(:item AS integer) AS item) AS given {_UNLESS_DEAD}
""")  # noqa: S608 - put together from constants

# An item's number, its result as JSON text, and why it is less than was asked.
WrittenResult = tuple[int, str, str | None]

# Whoever buries an item or closes the batch waits for those who settle, and they for
# it, but not for each other. On SQLite all of them take turns anyway.
_OPEN = sa.select(batches.c.id).where(batches.c.id == sa.bindparam("batch"))
LOCK_BATCH_SHARED = _OPEN.with_for_update(read=True)


def write_results(
    connection: sa.Connection, batch: str, rows: list[WrittenResult]
) -> None:
    """
    Write results.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(LOCK_BATCH_SHARED, {"batch": batch})
    for row in rows:
        if is_large(row[1]):
            _write_large(connection, batch, row)
    rows = [row for row in rows if not is_large(row[1])]
    if dialect == "postgresql":
        given: dict[str, Any] = {
            "items": [item for item, _, _ in rows],
            "results": [result for _, result, _ in rows],
            "reasons": [reason and reason.replace("\0", "") for _, _, reason in rows],
        }
    else:
        given = {"rows": f"[{','.join(map(_result_json, rows))}]"}
    connection.execute(WRITE_RESULTS[dialect], {"batch": batch, **given})


def _write_large(connection: sa.Connection, batch: str, row: WrittenResult) -> None:
    item, result, reason = row
    kept = store_if_large(connection, batch, result)
    told = reason and reason.replace("\0", "")
    given = {"batch": batch, "item": item, "result": kept, "degraded": told}
    connection.execute(WRITE_LARGE_RESULT, given)


def _result_json(row: WrittenResult) -> str:
    item, result, reason = row
    told = "null" if reason is None else json.dumps(reason)
    return f"[{item},{result},{told}]"


def read_items(connection: sa.Connection, asked: dict[str, Any]) -> str:
    """
    Read items that are left to do, as the JSON text of pairs: number, and the item's
    own JSON text.
    """
    return str(connection.scalar(READ_ITEM_BODIES[connection.dialect.name], asked))
