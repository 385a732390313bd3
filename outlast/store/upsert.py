"""
INSERT ... ON CONFLICT, which SQLite took over from PostgreSQL word for word.

SQLAlchemy has one construct for each of the two; PostgreSQL's is read by both
compilers, and every store test runs on both databases.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert

__all__ = ["insert", "insert_if_absent", "upsert"]


def upsert(table: sa.Table, key: list[str], values: list[str]) -> Insert:
    """
    Make the statement that inserts a row of *table* or replaces its *values*.
    """
    row = insert(table).values({name: sa.bindparam(name) for name in [*key, *values]})
    return row.on_conflict_do_update(
        index_elements=key, set_={name: row.excluded[name] for name in values}
    )


def insert_if_absent(
    connection: sa.Connection, table: sa.Table, row: dict[str, Any]
) -> bool:
    """
    Insert *row* unless one with its key is there; says whether it was inserted.
    """
    line = insert(table).values(row).on_conflict_do_nothing()
    return connection.scalar(line.returning(sa.literal(1))) is not None
