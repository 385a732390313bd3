"""
A store that is full, locked, read-only, crowded or gone, under attempts at work.
"""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from lease_fakes import Lender, Shelf, numbered
from unit_fakes import MISSION, Stage, mission, task, told_in_one_sentence

import outlast.store.sqlite
from outlast import Context, Policy
from outlast.contracts.errors import StoreLostError, StoreUnavailableError
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from testkit.postgres import Postgres

BOUND_S = 20.0
LARGE = "x" * 200_000


@pytest.fixture
def path(tmp_path: Path, built_file: Path) -> Path:
    return shutil.copy(built_file, tmp_path / "store.db")


@pytest.fixture
def file(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()


@pytest.fixture
def stage(file: Store) -> Iterator[Stage]:
    with ThreadPoolExecutor(1) as threads:
        yield Stage(Ledger(file), threads)


def driver(store: Store) -> Any:
    return store._database._connection.connection.driver_connection  # type: ignore[attr-defined]


@contextmanager
def full(store: Store) -> Iterator[None]:
    """
    Leave the file no room, as on a full disk.
    """
    now = driver(store).execute("PRAGMA page_count").fetchone()[0]
    driver(store).execute(f"PRAGMA max_page_count={now}")
    try:
        yield
    finally:
        driver(store).execute("PRAGMA max_page_count=1000000")


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """
    Have somebody else write, and not end.
    """
    other = sqlite3.connect(store.place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def in_trouble(store: Store) -> str:
    """
    Wait until something waits for the store; returns what it lacks.
    """
    async with asyncio.timeout(BOUND_S):
        while True:
            if (trouble := store.calls.trouble) is not None:
                return trouble.text
            await asyncio.sleep(0.01)


@asynccontextmanager
async def playing(stage: Stage, play: Any) -> AsyncIterator["asyncio.Task[Any]"]:
    attempt = asyncio.ensure_future(stage.play(play))
    try:
        yield attempt
        async with asyncio.timeout(BOUND_S):
            await attempt
    finally:
        attempt.cancel()


def lines(stage: Stage) -> list[dict[str, Any]]:
    return MissionRecords(stage.ledger.store).attempts(MISSION)


@pytest.mark.parametrize(("trouble", "told"), [(full, "full"), (locked, "locked")])
async def test_an_attempt_outlives_the_trouble_of_its_store(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, trouble: Any, told: str
) -> None:
    """
    It waits where it is, beats, does not stall, and goes on: one attempt, no failure.
    """
    monkeypatch.setattr(outlast.store.sqlite, "SQLITE_BUSY_S", 0.05)
    stage.policy = Policy(stall_s=0.3)
    began, go_on = asyncio.Event(), asyncio.Event()

    async def play(given: Any, ctx: Context) -> int:
        await ctx.save(1)
        began.set()
        await go_on.wait()
        await ctx.save(LARGE)
        return 2

    store = stage.ledger.store
    async with playing(stage, play) as attempt:
        await began.wait()
        with trouble(store):
            go_on.set()
            assert told in await in_trouble(store)
            beats = len(stage.beats)
            await asyncio.sleep(0.6)  # twice the stall limit
            assert len(stage.beats) > beats
            assert not attempt.done()
    assert stage.result() == 2
    assert [each["end_reason"] for each in lines(stage)] == ["done"]
    assert store.calls.trouble is None


async def test_a_lease_outlives_the_trouble_of_its_store(file: Store) -> None:
    """
    No item fails of it, nor is one played again.
    """
    began, go_on = asyncio.Event(), asyncio.Event()
    played: list[int] = []

    async def play(given: dict[str, int], ctx: Context) -> str:
        played.append(given["n"])
        began.set()
        await go_on.wait()
        await ctx.save(LARGE)
        return LARGE[:1000]

    with ThreadPoolExecutor(1) as threads:
        lender = Lender(Shelf(file), threads, Policy(stall_s=0.3))
        lender.fill(numbered(3))
        work = asyncio.ensure_future(lender.work(play))
        await began.wait()
        with full(file):
            go_on.set()
            await in_trouble(file)
            beats = len(lender.beats)
            await asyncio.sleep(0.7)  # twice the stall limit
            assert len(lender.beats) > beats
        worked = await work
    assert (worked.settled, worked.dead) == (3, 0)
    assert sorted(played) == [1, 2, 3]


async def test_a_lease_beats_while_its_claim_waits(
    file: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    From before its first line: a store that is away then must not make it look lost.
    """
    monkeypatch.setattr(outlast.store.sqlite, "SQLITE_BUSY_S", 0.05)

    async def play(given: dict[str, int], ctx: Context) -> int:
        return given["n"]

    with ThreadPoolExecutor(1) as threads:
        lender = Lender(Shelf(file), threads)
        lender.fill(numbered(1))
        with locked(file):
            work = asyncio.ensure_future(lender.work(play))
            await in_trouble(file)
            assert len(lender.beats) > 0
        assert (await work).settled == 1


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_name("other.db")
    Store(other).close()
    other.replace(path)


def moved(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def without_its_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("change", [deleted, replaced, moved, without_its_log])
async def test_nothing_completes_into_a_file_that_is_gone(
    stage: Stage, path: Path, change: Any
) -> None:
    """
    An open file can be written to for ever, and nobody would read it: the attempt ends
    by that, whatever its agent makes of it, and whoever stops the fleet hears it.
    """
    lost: list[StoreLostError] = []
    store = stage.ledger.store
    store.on_lost(lost.append)

    async def play(given: Any, ctx: Context) -> str:
        await ctx.save(1)
        change(path)
        try:
            await ctx.save(2)
        except StoreLostError:
            return "caught it"
        return "done"

    with pytest.raises(StoreLostError) as refusal:
        await stage.play(play)
    assert str(path) in told_in_one_sentence(refusal.value)
    assert lost


def overwritten(path: Path) -> None:
    other = path.with_name("other.db")
    Store(other).close()
    body = other.read_bytes()
    with path.open("r+b") as file:  # the same file, as `cp` writes it
        file.truncate(0)
        file.write(body)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def scribbled(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no database at all  " * 400)


@pytest.mark.parametrize("change", [deleted, replaced, overwritten, emptied, scribbled])
async def test_a_store_that_nobody_uses_is_looked_at(path: Path, change: Any) -> None:
    """
    With fresh eyes: an open connection has its pages in memory.
    """
    file = Store(path)
    file.check()
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    change(path)
    with pytest.raises(StoreLostError) as refusal:
        await asyncio.wait_for(file.run(file.check), BOUND_S)
    told_in_one_sentence(refusal.value)
    file.close()


def test_a_corrupt_page_is_the_end(path: Path) -> None:
    """
    What is read from it is not guessed at, and waiting does not mend it.
    """
    books = MissionRecords(Store(path))
    for number in range(200):
        books.open(mission(task("a"), id=f"m{number}", goal="g" * 500))
    books.store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 3))
    broken = Store(path)
    with pytest.raises(StoreLostError) as refusal:
        MissionRecords(broken).records()
    assert "backup" in told_in_one_sentence(refusal.value)
    broken.close()


def test_a_table_that_is_gone_is_the_end(file: Store) -> None:
    """
    It is not built again, with nothing in it.
    """
    with sqlite3.connect(file.place) as raw:
        raw.execute("DROP TABLE missions")
    with pytest.raises(StoreLostError):
        MissionRecords(file).records()


def test_a_store_changed_by_a_newer_release_is_the_end(file: Store) -> None:
    """
    One that has it open is not to write into what it does not know.
    """
    with sqlite3.connect(file.place) as raw:
        raw.execute("UPDATE meta SET value = '99' WHERE key = 'oldest'")
    with pytest.raises(StoreLostError, match="newer release"):
        file.check()


def test_a_file_that_could_not_be_written_is_opened_anew(path: Path) -> None:
    """
    A connection to a read-only file stays read-only for ever.
    """
    file = Store(path)
    driver(file).execute("PRAGMA query_only=ON")  # as root no file is read-only
    with pytest.raises(StoreUnavailableError):
        MissionRecords(file).open(mission(task("a")))
    MissionRecords(file).open(mission(task("a")))
    file.close()


@pytest.mark.parametrize("what", ["gone", "empty", "another"])
def test_a_store_that_is_known_is_not_built_anew(path: Path, what: str) -> None:
    """
    Missions may be open that are in the one before; an operator may say otherwise.
    """
    known = {str(path): Store(path).id}
    path.unlink()
    if what == "empty":
        path.touch()
    elif what == "another":
        Store(path).close()
    with pytest.raises(StoreLostError) as refusal:
        Store(path, known=known)
    assert "migrate" in told_in_one_sentence(refusal.value)
    assert path.exists() is (what != "gone")
    store = Store(path, upgrade=True, known=known)
    assert store.id != known[str(path)]
    store.close()


# PostgreSQL.


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def server(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()


def sever(postgres: Postgres, url: str) -> None:
    name = url.rpartition("/")[2]
    postgres.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{name}'"
    )


async def accept(store: Store, id_: str = MISSION) -> None:
    async with asyncio.timeout(BOUND_S):
        await store.run(MissionRecords(store).open, mission(task("a"), id=id_))


@contextmanager
def read_only(postgres: Postgres, url: str) -> Iterator[None]:
    """
    Demote the server, as a failover does.
    """
    name = url.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    sever(postgres, url)
    try:
        yield
    finally:
        postgres.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@contextmanager
def crowded(postgres: Postgres, url: str) -> Iterator[None]:
    """
    Take all connections that the server has.
    """
    taken = []
    sever(postgres, url)
    try:
        while True:
            taken.append(psycopg.connect(postgres.url()))
    except psycopg.OperationalError:
        yield
    finally:
        for each in taken:
            each.close()


@contextmanager
def swapped(postgres: Postgres, url: str) -> Iterator[None]:
    """
    Have the address lead to an empty database.
    """
    name = url.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    sever(postgres, url)
    postgres.sql(f"ALTER DATABASE {name} RENAME TO {name}_old")
    postgres.sql(f"CREATE DATABASE {name}")
    try:
        yield
    finally:
        assert (
            postgres.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'meta'", url)
            == "0"
        )
        sever(postgres, url)
        postgres.sql(f"DROP DATABASE {name}")
        postgres.sql(f"ALTER DATABASE {name}_old RENAME TO {name}")
        postgres.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(read_only, "read-only"), (crowded, "too many"), (swapped, "meta")],
)
async def test_a_server_in_trouble_is_waited_for(
    postgres: Postgres, url: str, server: Store, trouble: Any, told: str
) -> None:
    """
    What passes by an operator's hand; nothing is built meanwhile in what is empty.
    """
    await accept(server, "before")
    with trouble(postgres, url):
        doing = asyncio.ensure_future(accept(server))
        assert told in await in_trouble(server)
    await doing
    assert {each.id for each in MissionRecords(server).records()} == {"before", MISSION}


def test_a_connection_never_leads_to_another_store(
    postgres: Postgres, url: str, server: Store
) -> None:
    """
    What is done there would be done again, effects too.
    """
    name = url.rpartition("/")[2]
    other = postgres.database()
    Store(other).close()
    sever(postgres, url)
    sever(postgres, other)
    other_name = other.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {name} RENAME TO {name}_old")
    postgres.sql(f"ALTER DATABASE {other_name} RENAME TO {name}")

    def write() -> None:
        with server._database.writing(True, 0.0) as connection:
            connection.execute(sa.text("INSERT INTO meta VALUES ('a', 'b')"))

    for act in (write, server._database.check):
        with pytest.raises(StoreUnavailableError, match="another one") as refusal:
            act()
        assert refusal.value.maybe_written
    assert postgres.sql("SELECT count(*) FROM missions", url) == "0"


async def test_a_dropped_table_is_waited_for_a_while_only(
    postgres: Postgres, url: str, server: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Then the store is lost.
    """
    monkeypatch.setattr("outlast.store.calls.UNKNOWN_OUTAGE_S", 0.3)
    postgres.sql("DROP TABLE missions CASCADE", url)
    with pytest.raises(StoreLostError) as refusal:
        await accept(server)
    told_in_one_sentence(refusal.value)


async def test_a_statement_that_was_cancelled_is_made_again(
    postgres: Postgres, url: str, server: Store
) -> None:
    """
    By an operator, or since it took too long.
    """
    tries: list[int] = []

    def act() -> str:
        tries.append(1)
        with server.write() as connection:
            if len(tries) == 1:
                connection.execute(sa.text("SET LOCAL statement_timeout TO 50"))
                connection.execute(sa.text("SELECT pg_sleep(5)"))
            return "done"

    async with asyncio.timeout(BOUND_S):
        assert await server.run(act) == "done"
    assert len(tries) == 2
