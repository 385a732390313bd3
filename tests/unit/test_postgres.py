"""
A server that is away, that refuses, and that ends what froze.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from unit_fakes import MISSION, mission, task, told_in_one_sentence

import outlast.store.database
import outlast.store.postgres
from outlast.contracts.errors import (
    BadInputError,
    StoreError,
    StoreUnavailableError,
)
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from testkit.postgres import Postgres

BOUND_S = 30.0


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def restarting(postgres: Postgres) -> Iterator[Postgres]:
    """
    The server, running again when the test has ended.
    """
    yield postgres
    if not postgres.runs():
        postgres.start()


def goal(store: Store) -> str:
    found = MissionRecords(store).find(MISSION)
    assert found is not None
    return found.goal


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restarted_server_is_waited_for(
    restarting: Postgres, url: str, mode: str
) -> None:
    """
    Nothing has happened yet when a transaction waits to begin; what was committed
    is there.
    """
    store = Store(url)
    MissionRecords(store).open(mission(task("a"), goal="kept"))
    restarting.stop(mode)
    again = threading.Timer(0.3, restarting.start)
    again.start()
    assert goal(store) == "kept"
    again.join()
    MissionRecords(store).open(mission(task("a"), id="after"))
    store.close()


def test_a_server_that_stays_away_is_told_in_one_sentence(
    restarting: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After the patience of a transaction, and at once when the store is opened.
    """
    monkeypatch.setattr(outlast.store.database, "STORE_WAIT_S", 0.2)
    store = Store(url)
    restarting.stop()
    with pytest.raises(StoreUnavailableError) as refusal:
        goal(store)
    told_in_one_sentence(refusal.value)
    with pytest.raises(StoreUnavailableError) as refusal:
        Store(url)
    told_in_one_sentence(refusal.value)


def test_a_server_that_goes_in_the_middle_ends_the_transaction(
    restarting: Postgres, url: str
) -> None:
    """
    Nothing of it stands; it may be done again, so the error says "away".
    """
    store = Store(url)
    books = MissionRecords(store)

    def interrupted() -> None:
        with store.write() as connection:
            connection.execute(sa.text("INSERT INTO meta VALUES ('half', 'done')"))
            restarting.stop()
            connection.execute(sa.text("INSERT INTO meta VALUES ('whole', 'done')"))

    with pytest.raises(StoreUnavailableError):
        interrupted()
    restarting.start()
    with store.read() as connection:
        keys = set(connection.scalars(sa.text("SELECT key FROM meta")))
    assert keys == {"id", "oldest"}
    assert books.open(mission(task("a"))) is None
    store.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.replace("outlast@", "nobody-here:secret@"), "nobody-here"),
        (lambda url: url + "-missing", "does not exist"),
    ],
    ids=["user", "database"],
)
def test_a_server_that_refuses_us_is_not_waited_for(
    url: str, change: Callable[[str], str], told: str
) -> None:
    """
    One sentence, without the password.
    """
    with pytest.raises(StoreError) as refusal:
        Store(change(url))
    assert not isinstance(refusal.value, StoreUnavailableError)
    sentence = told_in_one_sentence(refusal.value)
    assert told in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize("url_", ["no url", "mysql://me@host/db", "sqlite:///x.db"])
def test_another_kind_of_database_is_refused(url_: str) -> None:
    """
    Before anything is opened.
    """
    with pytest.raises(BadInputError) as refusal:
        Store(url_)
    assert "OUTLAST_DATABASE_URL" in told_in_one_sentence(refusal.value)


def test_who_freezes_in_a_transaction_loses_it(
    postgres: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever takes over waits for its rows no longer than the server's limit.
    """
    limits = {"idle_in_transaction_session_timeout": 200}
    monkeypatch.setattr(outlast.store.postgres, "SERVER_OPTIONS", limits)
    frozen, other = Store(url), Store(url)
    books = MissionRecords(other)
    books.open(mission(task("a")))
    line = sa.text("UPDATE missions SET goal = :goal")

    def freeze() -> None:
        with frozen.write() as connection:
            connection.execute(line, {"goal": "frozen"})
            with other.write() as waiting:  # until the server has ended the first one
                waiting.execute(line, {"goal": "went on"})
            connection.execute(line, {"goal": "woken"})

    with pytest.raises(StoreUnavailableError):
        freeze()
    assert goal(other) == "went on"
    frozen.close()
    other.close()


def test_what_postgres_cannot_keep_is_kept_legible(url: str) -> None:
    """
    A NUL, which an agent's words may hold, is shown as a sign for what is missing.
    """
    store = Store(url)
    MissionRecords(store).open(mission(task("a"), goal="a\0b"))
    assert goal(store) == "a\ufffdb"
    store.close()


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_file_serves_one_host_and_a_server_many(where: Path | str, url: str) -> None:
    """
    Which of the two a store is, decides what a worker may connect to.
    """
    for place, alone in ((where, True), (url, False)):
        store = Store(place)
        assert store.one_host is alone
        store.close()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres: Postgres, encoding: str
) -> None:
    """
    At its first connection, with what to do; its text would fail agents one by one.
    """
    name = f"keeps_{encoding.lower()}"
    kind = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    postgres.sql(f"CREATE DATABASE {name} {kind}")
    with pytest.raises(BadInputError, match=f"as {encoding}.*ENCODING 'UTF8'"):
        Store(postgres.url(name))
    postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")
