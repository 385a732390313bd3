"""
Tables of others than the ledger in its store: the crew's library has some, and so may
a user's agents.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from outlast.crew.library import index
from outlast.crew.library.library import library_id, update
from outlast.crew.library.tables import OWNER, STEPS, metadata
from outlast.store import migrate
from outlast.store.database import Store
from testkit.postgres import Postgres
from tests.unit.document_fakes import folder_of

BOTH = ("sqlite", "postgresql")


@pytest.fixture(params=BOTH)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """
    A file that is not there yet, or a database without a table.
    """
    if request.param == "sqlite":
        return tmp_path / "store.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    """
    A store that is new, not one that tests share.
    """
    made = Store(where)
    yield made
    made.close()


def tables(store: Store) -> set[str]:
    with store.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_a_store_of_the_engine_alone_has_none_of_them(store: Store) -> None:
    """
    Who never asks for a library pays for none.
    """
    assert not tables(store) & set(metadata.tables)


async def test_the_first_who_needs_them_makes_them(
    store: Store, tmp_path: Path
) -> None:
    """
    No command comes before: a folder is indexed into a store that is new.
    """
    folder = folder_of(tmp_path / "documents", {"a.md": "Apples are red."})
    name = library_id("t", folder)
    async for _ in update(store, name, folder):
        pass
    assert index.documents_of(store, name) == 1
    assert tables(store) >= set(metadata.tables)


def test_the_steps_make_the_tables_of_this_release(store: Store) -> None:
    """
    Whoever changes a table and forgets its step sees it here.
    """
    store.extend(OWNER, STEPS)
    ours = set(metadata.tables)
    options = {"include_name": lambda name, kind, _: kind != "table" or name in ours}
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def step(name: str) -> sa.TextClause:
    return sa.text(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY)")


def test_each_step_is_taken_once(where: Path | str) -> None:
    """
    By whichever release comes first; a later one takes those that are left, and one
    before it changes nothing.
    """
    one = (lambda connection: connection.execute(step("one")),)
    two = (*one, lambda connection: connection.execute(step("two")))
    for steps, expected in (
        (one, {"one"}),
        (two, {"one", "two"}),
        (one, {"one", "two"}),
    ):
        for _ in range(2):
            store = Store(where)
            store.extend("mine", steps)
            store.extend("mine", steps)
            assert tables(store) & {"one", "two"} == expected
            store.close()


def test_an_older_release_takes_nothing_back(store: Store) -> None:
    """
    Not even where both came at once, and the newer one was first.
    """
    taken = []
    steps = [lambda _: taken.append(1), lambda _: taken.append(2)]
    for some in (steps, steps[:1], steps):
        with store._database.migrating() as connection:
            migrate.extend(connection, "steps.mine", some)
    assert taken == [1, 2]


def test_a_step_that_fails_leaves_nothing(where: Path | str) -> None:
    """
    All that are left are one transaction: the next one who asks takes them again.
    """

    def broken(connection: sa.Connection) -> None:
        connection.execute(step("half"))
        raise ValueError("no more")

    store = Store(where)
    with pytest.raises(ValueError, match="no more"):
        store.extend("mine", [broken])
    assert "half" not in tables(store)
    store.extend("mine", [lambda connection: connection.execute(step("half"))])
    assert "half" in tables(store)
    store.close()


def test_many_ask_for_them_at_once(where: Path | str) -> None:
    """
    A fleet's processes do: one makes them, the others find them made.
    """
    stores = [Store(where) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(s.extend, OWNER, STEPS) for s in stores]:
            each.result()
    for store in stores:
        assert tables(store) >= set(metadata.tables)
        store.close()
