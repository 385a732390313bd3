"""
The store: where it is, the two kinds of transaction it makes, and its schema.

No I/O other than the database's happens inside a transaction.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

import sqlalchemy as sa

from outlast.contracts.errors import StoreLostError
from outlast.contracts.sizes import MAX_RESULT_BYTES
from outlast.store import migrate, schema
from outlast.store.backend import NO_KNOWN_STORES, Database
from outlast.store.calls import StoreCall, StoreCalls
from outlast.store.postgres import PostgresDatabase
from outlast.store.sqlite import SqliteDatabase
from outlast.store.upsert import insert_if_absent

P = ParamSpec("P")
T = TypeVar("T")
Query = sa.Executable
Params = Mapping[str, Any] | None

# How long a transaction waits to begin where nobody else waits for the store: within
# `Store.run` the event loop does, where a call can be cancelled.
STORE_WAIT_S = 30.0

# Rows of `meta` that every release knows.
ID, OLDEST = "id", "oldest"


class Store:
    """
    Ledger, items and large progress: in the file *where*, or in the
    PostgreSQL database that the text *where* is the URL of.

    Its *id* is made once, and no other store has it.

    :param upgrade: bring an older schema up to date, also where others may use it.
    :param largest: the bytes of a value above which it is refused; those who write
        make sure of it, in a sentence of theirs.
    :param known: ids of stores by their places: a store that is known is never built
        anew, unless that is what *upgrade* says.
    :raises StoreUnavailableError: when it cannot be opened now.
    :raises StoreLostError: when it is not the one that is expected.
    :raises StoreError: when it cannot be opened, or has another schema.
    """

    def __init__(
        self,
        where: Path | str,
        upgrade: bool = False,
        largest: int = MAX_RESULT_BYTES,
        known: Mapping[str, str] = NO_KNOWN_STORES,
    ) -> None:
        self.largest = largest
        if upgrade:
            known = NO_KNOWN_STORES
        if isinstance(where, Path) and str(where) in known and not where.exists():
            raise migrate.other_store_error(str(where), "gone")
        database: Database = (
            PostgresDatabase(where, known)
            if isinstance(where, str)
            else SqliteDatabase(where)
        )
        self.place = database.place
        self.one_host = database.one_host
        self.clock = database.clock
        self._database = database
        self._fails_fast = threading.local()  # set on our threads
        self._threads = ThreadPoolExecutor(
            database.threads, "store", lambda: setattr(self._fails_fast, "yes", True)
        )
        self.calls = StoreCalls(self.place, self._threads.submit)
        self._extended: set[str] = set()  # whose tables are known to be there
        try:
            expected = known.get(self.place, "")
            self.id = self._open(upgrade or database.auto_migrate, expected)
            database.expect_id(self.id)
        except BaseException:
            self.close()
            raise

    async def run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run *act* on the store's own threads, so that the event loop never waits, and
        again for as long as the store is away: a try that failed has written nothing.

        :raises StoreLostError: when the store will not be back.
        """
        return await self.start_call(act, *args, **kwargs)

    def start_call(
        self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """
        Begin to run *act*; it goes on though nobody waits for it, until cancelled.
        """
        return StoreCall(partial(act, *args, **kwargs), self.calls).future

    def submit(
        self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> StoreCall:
        """
        Begin to run *act*, which is done even if its caller is cancelled.
        """
        return StoreCall(partial(act, *args, **kwargs), self.calls, kept=True)

    def on_lost(self, tell: Callable[[StoreLostError], None]) -> None:
        self.calls.lost = tell

    def check(self) -> None:
        """
        Look whether the store is there, the same as ever, and one that we know.

        :raises StoreLostError: when it is another one, or of a newer release.
        """
        self._database.check()
        oldest = self.scalar(migrate.meta_value(OLDEST))
        if int(oldest or 0) > schema.SCHEMA:
            raise StoreLostError(
                f"the store at {self.place} has been changed by a newer release: "
                "start the fleet again with that"
            )

    def extend(self, owner: str, steps: Sequence[migrate.Step]) -> None:
        """
        Have the tables of *owner*, which is no part of the ledger, in the store: take
        them through those of *steps* that it has not been taken through yet, in one
        transaction. Steps only add: one that this release does not know changes
        nothing for it.
        """
        if owner in self._extended:
            return
        key = f"steps.{owner}"
        if int(self.scalar(migrate.meta_value(key)) or 0) < len(steps):
            with self._database.migrating() as connection:
                migrate.extend(connection, key, steps)
        self._extended.add(owner)

    def probe(self) -> None:
        same = sa.update(schema.meta).where(schema.meta.c.key == ID)
        self.change(same.values(key=ID))

    def read(self) -> AbstractContextManager[sa.Connection]:
        return self._database.reading(self._wait_s)

    def write(self, durable: bool = True) -> AbstractContextManager[sa.Connection]:
        """
        One write transaction; *durable* also survives the loss of power.
        """
        return self._database.writing(durable, self._wait_s)

    def rows(self, query: Query, params: Params = None) -> Sequence[sa.Row[Any]]:
        with self.read() as connection:
            return connection.execute(query, params).all()

    def first(self, query: Query, params: Params = None) -> sa.Row[Any] | None:
        with self.read() as connection:
            return connection.execute(query, params).first()

    def scalar(self, query: Query, params: Params = None) -> Any:
        """
        Read the first value of what *query* finds; None where it finds nothing.
        """
        with self.read() as connection:
            return connection.scalar(query, params)

    def change(self, statement: Query) -> None:
        with self.write() as connection:
            connection.execute(statement)

    def shrink_soon(self) -> None:
        """
        Give back the room of what was replaced, behind everything that waits to be
        read or written. When that cannot be now, a later one does it.
        """
        with suppress(RuntimeError):  # closed meanwhile
            self._threads.submit(self._database.shrink)

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self._database.close()

    @property
    def _wait_s(self) -> float:
        return 0.0 if getattr(self._fails_fast, "yes", False) else STORE_WAIT_S

    def _open(self, upgrade: bool, expected: str) -> str:
        """
        Find the schema as this release knows it, or make it so; returns the id.
        """
        with self._database.reading(0.0) as connection:
            found = migrate.read_schema(connection)
        if not migrate.must_migrate(found, self.place, upgrade, expected):
            return str(found.id)
        with self._database.migrating() as connection:
            migrate.upgrade(connection)
            insert_if_absent(connection, schema.meta, {"key": ID, "value": uuid4().hex})
            id_ = str(connection.scalar(migrate.meta_value(ID)))
        self._database.mark_id(id_)
        return id_
