"""
A store and a ledger that live as long as one test, on both databases.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from outlast.crew.library import tables
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from outlast.store.schema import meta, metadata
from testkit.postgres import Postgres, find_postgres
from testkit.processes import restore_interrupts

# A loaded machine is slow, not wrong.
hypothesis.settings.register_profile("outlast", deadline=None)
hypothesis.settings.load_profile("outlast")

restore_interrupts()

# Where a test names no home: never that of the person who runs the suite. Short, since
# sockets lie in it; the processes that a test starts inherit it.
SUITE_HOME = tempfile.TemporaryDirectory(prefix="outlast-suite-")
os.environ["OUTLAST_HOME"] = SUITE_HOME.name

BOTH = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """
    One PostgreSQL for all tests of this process; each takes a database of its own.
    """
    programs = find_postgres()
    if programs is None and "CI" in os.environ:
        pytest.fail("CI must have a PostgreSQL: install the package postgresql")
    if programs is None:
        pytest.skip("no PostgreSQL is here: install the package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="outlast-postgres-"))
    server = Postgres(folder, programs)
    server.make()
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def built_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A store in a file, to be copied: building one takes longer than most tests.
    """
    path = tmp_path_factory.mktemp("built") / "store.db"
    _build(path)
    return path


@pytest.fixture(scope="session")
def built_database(postgres: Postgres) -> str:
    """
    A store in PostgreSQL, to be emptied for each test.
    """
    url = postgres.database()
    _build(url)
    return url


def _build(where: Path | str) -> None:
    """
    Make a store, with the tables of the crew's library.
    """
    made = Store(where)
    made.extend(tables.OWNER, tables.STEPS)
    made.close()


@pytest.fixture(params=BOTH)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """
    Where a store may be, empty: a file, or a database of PostgreSQL.
    """
    if request.param == "sqlite":
        built: Path = request.getfixturevalue("built_file")
        return shutil.copy(built, tmp_path / "store.db")
    url: str = request.getfixturevalue("built_database")
    server: Postgres = request.getfixturevalue("postgres")
    ours = [name for name in metadata.tables if name != meta.name]
    emptied = ", ".join([*ours, *tables.metadata.tables, "passages_fts"])
    server.sql(f"TRUNCATE {emptied} RESTART IDENTITY CASCADE", url)
    return url


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    made = Store(where)
    yield made
    made.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)
