"""
The schema's number, and the way up from any that a release has left.

Migrations only add, so that workers of the release before may go on beside them: the
store says which is the oldest schema whose release may use it.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from outlast.contracts.errors import StoreError, StoreLostError
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
        return int(connection.scalar(meta_value("schema")) or 0)
    return 0


class FoundSchema(NamedTuple):
    """
    What a database holds: its schema, 0 for none, the store's id, and the oldest schema
    whose release may use it.
    """

    number: int
    id: str | None
    oldest: int


def read_schema(connection: sa.Connection) -> FoundSchema:
    found = number(connection)
    if found == 0:
        return FoundSchema(0, None, 0)
    oldest = int(connection.scalar(meta_value("oldest")) or found)
    return FoundSchema(found, connection.scalar(meta_value("id")), oldest)


def must_migrate(found: FoundSchema, place: str, upgrade: bool, expected: str) -> bool:
    """
    Decide whether the tables are to be made or upgraded.

    :raises StoreLostError: when it is not the store that is expected.
    :raises StoreError: when this release cannot use it as it is.
    """
    if expected and found.id != expected:
        raise other_store_error(place, "another one" if found.id else "empty")
    if min(found.number, found.oldest) > SCHEMA:
        raise StoreError(
            f"the store at {place} has schema {found.number}, this release knows "
            f"{SCHEMA}: use the newer release"
        )
    if 0 < found.number < SCHEMA and not upgrade:
        raise StoreError(
            f"the store at {place} has schema {found.number}, this release needs "
            f"{SCHEMA}: run `outlast migrate`"
        )
    return found.number < SCHEMA or found.id is None


def other_store_error(place: str, how: str) -> StoreLostError:
    return StoreLostError(
        f"the store at {place} is {how}, and with it this home's missions: put theirs "
        "back, or, if they are to be given up, begin anew with `outlast migrate`"
    )


def meta_value(key: str) -> sa.Select[str]:
    return sa.select(meta.c.value).where(meta.c.key == key)


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
    taken = int(connection.scalar(meta_value(key)) or 0)
    for step in steps[taken:]:
        step(connection)
    row = {"key": key, "value": str(max(taken, len(steps)))}
    connection.execute(upsert(meta, ["key"], ["value"]), row)
