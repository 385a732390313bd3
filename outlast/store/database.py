"""
The store: where it is, the two kinds of transaction it makes, and its schema.

No I/O other than the database's happens inside a transaction.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar
from uuid import uuid4

import sqlalchemy as sa

from outlast.contracts.errors import StoreError
from outlast.contracts.sizes import LARGEST_BYTES
from outlast.store import migrate, schema
from outlast.store.postgres import PostgresDatabase
from outlast.store.sqlite import SqliteDatabase
from outlast.store.upsert import enter

P = ParamSpec("P")
T = TypeVar("T")


class Database(Protocol):
    """
    What a store needs of the database below it. Methods block and raise StoreError.
    """

    place: str  # as messages name it, without a password
    one_host: bool
    threads: int  # that may use it at once
    builds_itself: bool  # an older schema may be changed by whoever opens it

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """
        One consistent view.
        """

    def writing(self, durable: bool) -> AbstractContextManager[sa.Connection]:
        """
        One write transaction.
        """

    def migrating(self) -> AbstractContextManager[sa.Connection]:
        """
        One write transaction that no other change of the schema runs beside.
        """

    def shrink(self) -> None:
        """
        Take up no more room than the rows do, where that is ours to see to.
        """

    def close(self) -> None:
        """
        Give everything back.
        """


class Store:
    """
    Documents, ledger, items and large progress: in the file *where*, or in the
    PostgreSQL database that the text *where* is the URL of.

    Its *id* is made once and tells it from every other store.

    :param upgrade: bring an older schema up to date, also where others may use it.
    :param largest: the bytes of a value above which it is refused; those who write
        make sure of it, in a sentence of theirs.
    :raises StoreError: when it cannot be opened, or has another schema.
    """

    def __init__(
        self,
        where: Path | str,
        upgrade: bool = False,
        largest: int = LARGEST_BYTES,
    ) -> None:
        self.largest = largest
        database: Database = (
            PostgresDatabase(where) if isinstance(where, str) else SqliteDatabase(where)
        )
        self.place = database.place
        self.one_host = database.one_host
        self._database = database
        self._threads = ThreadPoolExecutor(database.threads, thread_name_prefix="store")
        try:
            self.id = self._open(upgrade or database.builds_itself)
        except BaseException:
            self.close()
            raise

    async def run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run *act* on the store's own threads, so that the event loop never waits.
        """
        return await asyncio.wrap_future(self.submit(act, *args, **kwargs))

    def submit(
        self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """
        Begin to run *act*; it goes on though nobody waits for it any more.
        """
        return self._threads.submit(act, *args, **kwargs)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """
        One consistent view.
        """
        return self._database.reading()

    def write(self, durable: bool = True) -> AbstractContextManager[sa.Connection]:
        """
        One write transaction; *durable* also survives the loss of power.
        """
        return self._database.writing(durable)

    def shrink_soon(self) -> None:
        """
        Give back the room of what was replaced, behind everything that waits to be
        read or written. When that cannot be now, a later one does it.
        """
        with suppress(RuntimeError):  # closed meanwhile
            self.submit(self._database.shrink)

    def close(self) -> None:
        """
        Give everything back.
        """
        self._threads.shutdown(wait=True)
        self._database.close()

    def _open(self, upgrade: bool) -> str:
        """
        Find the schema as this release knows it, or make it so; returns the id.
        """
        with self.read() as connection:
            found = migrate.number(connection)
            id_ = connection.scalar(_meta("id")) if found else None
            oldest = connection.scalar(_meta("oldest")) if found else None
        if found > schema.SCHEMA and int(oldest or found) > schema.SCHEMA:
            raise StoreError(
                f"the store at {self.place} has schema {found}, this release knows "
                f"{schema.SCHEMA}: use the newer release"
            )
        if 0 < found < schema.SCHEMA and not upgrade:
            raise StoreError(
                f"the store at {self.place} has schema {found}, this release needs "
                f"{schema.SCHEMA}: run `starter.py migrate`"
            )
        if found >= schema.SCHEMA and id_ is not None:
            return str(id_)
        with self._database.migrating() as connection:
            migrate.upgrade(connection)
            enter(connection, schema.meta, {"key": "id", "value": uuid4().hex})
            return str(connection.scalar(_meta("id")))


def _meta(key: str) -> sa.Select[str]:
    return sa.select(schema.meta.c.value).where(schema.meta.c.key == key)


_shared: Store | None = None


def share(store: Store) -> None:
    """
    Make *store* the one that this process's agents use.
    """
    global _shared  # noqa: PLW0603 - one store a process is the rule here
    _shared = store


def shared() -> Store:
    """
    The store of this process.

    :raises StoreError: when the process was started without one.
    """
    if _shared is None:
        raise StoreError("this process has no store: start agents by worker.py")
    return _shared
