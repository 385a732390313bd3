"""
INSERT ... ON CONFLICT, which SQLite took over from PostgreSQL word for word.

SQLAlchemy has one construct for each of the two; PostgreSQL's is read by both
compilers, and every store test runs on both databases.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert

__all__ = ["insert", "insert_if_absent", "upsert"]


def upsert(
    table: sa.Table,
    key: list[str],
    values: list[str],
    **computed: sa.ColumnElement[Any],
) -> Insert:
    """
    Make the statement that inserts a row of *table* or, where one has its *key*,
    replaces its *values* and what is *computed*.
    """
    given: dict[str, Any] = {name: sa.bindparam(name) for name in [*key, *values]}
    row = insert(table).values({**given, **computed})
    replaced = {name: row.excluded[name] for name in [*values, *computed]}
    return row.on_conflict_do_update(index_elements=key, set_=replaced)


@cache
def _insert_if_absent(table: sa.Table) -> sa.Executable:
    return insert(table).on_conflict_do_nothing().returning(sa.literal(1))


def insert_if_absent(
    connection: sa.Connection, table: sa.Table, row: dict[str, Any]
) -> bool:
    """
    Insert *row* unless one with its key is there; says whether it was inserted.
    """
    return connection.scalar(_insert_if_absent(table), row) is not None
