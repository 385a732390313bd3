"""
The schema's number, and the way up from any that a release has left.

Migrations only add, so that workers of the release before may go on beside them: the
store says which is the oldest schema whose release may use it.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import sqlalchemy as sa

from outlast.store.schema import OLDEST, SCHEMA, meta
from outlast.store.upsert import upsert

SCRIPTS = Path(__file__).parent / "migrations"
NUMBER = "alembic_version"

Step = Callable[[sa.Connection], None]  # towards tables of others than the ledger


def number(connection: sa.Connection) -> int:
    """
    Read which schema the database has; 0 for an empty one.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if NUMBER in tables:
        found = connection.exec_driver_sql(f"SELECT version_num FROM {NUMBER}")  # noqa: S608
        return int(found.scalar_one())
    if meta.name in tables:  # by a release from before the migrations
        query = sa.select(meta.c.value).where(meta.c.key == "schema")
        return int(connection.scalar(query) or 0)
    return 0


def upgrade(connection: sa.Connection) -> None:
    # Imported only where a schema changes: it takes long.
    from alembic import command
    from alembic.config import Config

    found = number(connection)
    if found >= SCHEMA:
        return  # somebody else was faster
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    if found:
        command.stamp(config, str(found))
    command.upgrade(config, str(SCHEMA))
    row = {"key": "oldest", "value": str(OLDEST)}
    connection.execute(upsert(meta, ["key"], ["value"]), row)


def extend(connection: sa.Connection, key: str, steps: Sequence[Step]) -> None:
    """
    Take tables of others than the ledger through those of *steps* that are left, within
    the transaction of *connection*; *key* has how many were taken.
    """
    query = sa.select(meta.c.value).where(meta.c.key == key)
    taken = int(connection.scalar(query) or 0)
    for step in steps[taken:]:
        step(connection)
    row = {"key": key, "value": str(max(taken, len(steps)))}
    connection.execute(upsert(meta, ["key"], ["value"]), row)
