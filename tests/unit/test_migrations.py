"""
The way up from every schema that a release has left, on both databases.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from unit_fakes import MISSION, mission, task, told_in_one_sentence

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import StoreError
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.store import migrate
from outlast.store.columns import PortableText
from outlast.store.database import Store
from outlast.store.postgres import PostgresDatabase
from outlast.store.schema import SCHEMA, metadata
from outlast.store.sqlite import SqliteDatabase
from testkit.postgres import Postgres

Where = Path | str
BOTH = ("sqlite", "postgresql")


@pytest.fixture(params=BOTH)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """
    A file that is not there yet, or a database without a table.
    """
    if request.param == "sqlite":
        return tmp_path / "store.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def database(where: Where) -> SqliteDatabase | PostgresDatabase:
    return PostgresDatabase(where) if isinstance(where, str) else SqliteDatabase(where)


def build(where: Where, number: int) -> None:
    """
    Leave at *where* what the release with that schema left, with one mission.
    """
    config = Config()
    config.set_main_option("script_location", str(migrate.SCRIPTS))
    made = database(where)
    with made.migrating() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, str(number))
        connection.execute(
            sa.text(
                "INSERT INTO missions (id, tenant, digest, goal, state, accepted_at) "
                "VALUES (:id, 't', 'd', 'old', 'accepted', 1.0)"
            ),
            {"id": MISSION},
        )
        connection.execute(sa.text("INSERT INTO meta VALUES ('id', 'first')"))
    made.close()


def forget_alembic(where: Where, number: int) -> None:
    """
    Make it as a release from before the migrations left it.
    """
    made = database(where)
    with made.migrating() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
        line = sa.text("INSERT INTO meta VALUES ('schema', :number)")
        connection.execute(line, {"number": str(number)})
    made.close()


def differences(where: Where) -> list[object]:
    """
    List what the tables at *where* have otherwise than this release's own.
    """
    made = database(where)
    ours = set(metadata.tables)
    options = {
        "include_name": lambda name, kind, _: kind != "table" or name in ours,
        "compare_type": lambda *types: differ(*types[-2:]),
    }
    with made.reading() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found = compare_metadata(context, metadata)
    made.close()
    return found


def differ(
    found: sa.types.TypeEngine[str], ours: sa.types.TypeEngine[str]
) -> bool | None:
    """
    Say that our own type of text is text; of the others alembic knows by itself.
    """
    return not isinstance(found, sa.Text) if isinstance(ours, PortableText) else None


def test_the_migrations_make_the_tables_of_this_release(where: Where) -> None:
    """
    Whoever changes a table and forgets its migration sees it here.
    """
    Store(where).close()
    assert differences(where) == []


@pytest.mark.parametrize("number", range(1, SCHEMA))
def test_every_older_schema_goes_up(where: Where, number: int) -> None:
    """
    What was in it stays, its id too, and new work goes in.
    """
    build(where, number)
    store = Store(where, upgrade=True)
    books = MissionRecords(store)
    old = books.find(MISSION)
    assert old is not None
    assert old.goal == "old"
    assert store.id == "first"
    assert books.open(mission(task("a"), id="new")) is None
    store.close()
    assert differences(where) == []


def test_progress_goes_up_with_its_large_values(where: Where) -> None:
    """
    Until schema 3 these lay in a table of their own.
    """
    build(where, 3)
    small = Checkpoint(seq=2, route="worker", version=3, value={"n": 1})
    large = Checkpoint(seq=4, route="worker", blob="d" * 64)
    made = database(where)
    with made.migrating() as connection:
        for task_, saved in {"small": small, "large": large}.items():
            connection.execute(
                sa.text("INSERT INTO checkpoints VALUES (:m, :t, 1, 5, :saved, 9.5)"),
                {"m": MISSION, "t": task_, "saved": saved.model_dump_json()},
            )
        connection.execute(
            sa.text("INSERT INTO blobs VALUES (:m, :digest, :body, 9.0)"),
            {"m": MISSION, "digest": large.blob, "body": b"[1]"},
        )
    made.close()
    store = Store(where, upgrade=True)
    assert MissionRecords(store).checkpoints(MISSION) == {
        "small": small,
        "large": large,
    }
    assert Ledger(store).get_blob(MISSION, "large", large.blob or "") == b"[1]"
    store.close()


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
@pytest.mark.parametrize("number", range(1, SCHEMA + 1))
def test_a_file_from_before_the_migrations_goes_up(where: Where, number: int) -> None:
    """
    It says its schema in another place.
    """
    build(where, number)
    forget_alembic(where, number)
    store = Store(where)
    assert MissionRecords(store).find(MISSION) is not None
    store.close()
    assert differences(where) == []


@pytest.mark.parametrize("where", ["postgresql"], indirect=True)
def test_a_shared_database_goes_up_only_when_told(where: Where) -> None:
    """
    Workers of the release before may be at work on other hosts; the sentence says
    what to run.
    """
    build(where, 1)
    with pytest.raises(StoreError) as refusal:
        Store(where)
    assert "outlast migrate" in told_in_one_sentence(refusal.value)
    Store(where, upgrade=True).close()
    Store(where).close()


def newer(where: Where, oldest: int) -> None:
    """
    Make it as a later release leaves it, with the oldest schema that it can bear.
    """
    made = database(where)
    with made.migrating() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '99'"))
        line = sa.text("UPDATE meta SET value = :oldest WHERE key = 'oldest'")
        connection.execute(line, {"oldest": str(oldest)})
    made.close()


def test_a_newer_schema_that_only_adds_is_used(where: Where) -> None:
    """
    During an upgrade: a worker of the release before that dies is started again.
    """
    Store(where).close()
    newer(where, oldest=SCHEMA)
    store = Store(where)
    assert MissionRecords(store).open(mission(task("a"))) is None
    store.close()


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_newer_schema_is_refused(where: Where, upgrade: bool) -> None:
    """
    What it means is not guessed at, and nothing in it is changed.
    """
    Store(where).close()
    newer(where, oldest=SCHEMA + 1)
    with pytest.raises(StoreError) as refusal:
        Store(where, upgrade=upgrade)
    assert "newer release" in told_in_one_sentence(refusal.value)


def test_many_open_a_new_store_at_once(where: Where) -> None:
    """
    A fleet's processes do: one builds it, the others wait, and all read one id.
    """

    def id_of() -> str:
        store = Store(where)
        store.close()
        return store.id

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(id_of) for _ in range(4)]
    assert len({each.result() for each in waiting}) == 1
