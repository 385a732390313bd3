"""
The missions' books: used once, closed once, audited, pruned, forgotten.
"""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from unit_fakes import (
    MISSION,
    Clock,
    answer,
    assignment,
    contents,
    mission,
    outcome,
    report,
    task,
    told_in_one_sentence,
)

import outlast.store.database
import outlast.store.sqlite
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import BadInputError, StaleAttemptError, StoreError
from outlast.contracts.missions import RoleSpec
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.ledger.audit import audit_ledger
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effect_records import EffectRecords
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import ACCEPTED, STARTING, MissionRecords
from outlast.ledger.retention import MISSION_TABLES, forget_mission, prune
from outlast.ledger.spending import NO_USAGE
from outlast.store.database import Store
from outlast.store.schema import effects, metadata, missions

DAY_S = 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(store: Store, clock: Clock) -> MissionRecords:
    return MissionRecords(store, clock)


def accepted(books: MissionRecords, name: str = MISSION) -> None:
    books.open(mission(id=name))
    books.accept(name)


def finish(
    books: MissionRecords, name: str, status: MissionStatus = MissionStatus.COMPLETED
) -> None:
    accepted(books, name)
    books.close(report(name, status, outcome("only", TaskStatus.DONE)))


def work(ledger: Ledger, name: str, effect: str) -> None:
    """
    Leave something of a mission in each table.
    """
    claim = ledger.claim(assignment(of=name), "worker", 1)
    ledger.save(claim, Checkpoint(seq=1, route="worker"), False, NO_USAGE, b"large")
    ledger.record_usage(claim, 1, 0.1)
    ledger.intend(claim, Proposal(effect))
    ledger.applied(claim, Proposal(effect), 1, "done")
    ledger.record(claim, answer(), "result")
    with pytest.raises(Exception, match="later attempt"):
        ledger.claim(assignment(of=name), "worker", 1)


# Opening and closing


def test_a_new_mission_is_entered(books: MissionRecords, clock: Clock) -> None:
    """
    It is starting until the server has it, then accepted.
    """
    assert books.open(mission()) is None
    entry = books.find(MISSION)
    assert entry is not None
    assert (entry.state, entry.accepted_at) == (STARTING, clock.now)
    books.accept(MISSION)
    entry = books.find(MISSION)
    assert entry is not None
    assert entry.state == ACCEPTED


def test_the_same_mission_is_joined(books: MissionRecords, store: Store) -> None:
    """
    The same id and content is the same mission, whoever is there to do it.
    """
    accepted(books)
    before = contents(store)
    other_crew = {name: RoleSpec(routes=[name]) for name in ("worker", "poet")}
    joined = books.open(mission(crew=other_crew))
    assert joined is not None
    assert joined.state == ACCEPTED
    assert contents(store) == before


def test_an_id_is_used_once(books: MissionRecords, store: Store) -> None:
    """
    Other content under a used id is refused, and nothing changes.
    """
    accepted(books)
    before = contents(store)
    with pytest.raises(BadInputError) as refusal:
        books.open(mission(goal="something else"))
    assert f"'{MISSION}'" in told_in_one_sentence(refusal.value)
    assert contents(store) == before


def test_a_finished_mission_is_joined_with_its_report(books: MissionRecords) -> None:
    """
    Who asks again gets what was found the first time.
    """
    finish(books, MISSION)
    joined = books.open(mission())
    assert joined is not None
    assert joined.report is not None
    assert joined.report.status is MissionStatus.COMPLETED


def test_a_mission_is_closed_once(
    books: MissionRecords, store: Store, clock: Clock
) -> None:
    """
    The first report stands, however often and whatever is said later.
    """
    finish(books, MISSION)
    before = contents(store)
    clock.turn(5)
    books.close(
        report(MISSION, MissionStatus.COMPLETED, outcome("only", TaskStatus.DONE))
    )
    books.close(report(MISSION, MissionStatus.FAILED, outcome("only", TaskStatus.DEAD)))
    assert contents(store) == before


def test_a_closed_mission_is_not_accepted_again(books: MissionRecords) -> None:
    """
    A starter that joins a finished mission does not open it.
    """
    finish(books, MISSION)
    books.accept(MISSION)
    entry = books.find(MISSION)
    assert entry is not None
    assert entry.state == MissionStatus.COMPLETED


def test_a_mission_may_end_before_its_starter_notes_it(books: MissionRecords) -> None:
    """
    The end stands though the starter died between handing over and accepting.
    """
    books.open(mission())
    books.close(
        report(MISSION, MissionStatus.COMPLETED, outcome("only", TaskStatus.DONE))
    )
    books.accept(MISSION)
    assert audit_ledger(books.store).accepted == audit_ledger(books.store).finished == 1


def test_a_report_comes_back_as_it_was(books: MissionRecords) -> None:
    """
    The books outlive the server's retention, so nothing of it may be lost.
    """
    told = report(
        MISSION,
        MissionStatus.DEGRADED,
        outcome("only", TaskStatus.DONE),
        outcome("extra", TaskStatus.DEAD, required=False),
    ).model_copy(update={"degraded": ["extra: raised | twice\nhere"]})
    accepted(books)
    books.close(told)
    entry = books.find(MISSION)
    assert entry is not None
    assert entry.report == told


def test_missions_are_listed_newest_first(books: MissionRecords, clock: Clock) -> None:
    """
    What was started last is what one looks for.
    """
    for name in ("old", "middle", "new"):
        clock.turn(1)
        accepted(books, name)
    assert [entry.id for entry in books.records()] == ["new", "middle", "old"]
    assert books.find("unknown") is None


def test_results_are_those_of_the_last_round(
    books: MissionRecords, ledger: Ledger
) -> None:
    """
    A redone task counts with what it found last.
    """
    for round_ in (1, 2):
        claim = ledger.claim(assignment("a", round_), "worker", round_)
        ledger.record(claim, answer(), {"round": round_})
    other = ledger.claim(assignment("b"), "worker", 1)
    ledger.record(other, answer(), None)
    assert books.results(MISSION) == {"a": {"round": 2}, "b": None}


def test_attempts_are_told_in_the_order_of_their_starts(
    books: MissionRecords, store: Store
) -> None:
    """
    The story of a mission reads from first to last.
    """
    turned = Clock()
    ledger = Ledger(store, clock=turned)
    for fence, name in enumerate(("b", "a", "b"), 1):
        turned.turn(1)
        ledger.claim(assignment(name), "worker", fence)
    assert [each["task"] for each in books.attempts(MISSION)] == ["b", "a", "b"]


# Auditing


def test_an_audit_counts(books: MissionRecords, ledger: Ledger) -> None:
    """
    What was acknowledged is finished, parked or open; nothing else was promised.
    """
    finish(books, "done")
    finish(books, "failed", MissionStatus.FAILED)
    finish(books, "parked", MissionStatus.PARKED)
    accepted(books, "open")
    books.open(mission(id="starting"))
    accepted(books, "dead")
    buried = outcome("only", TaskStatus.DEAD).model_copy(update={"reasons": ["raised"]})
    books.close(report("dead", MissionStatus.FAILED, buried))
    work(ledger, "done", "effect:1")

    audit = audit_ledger(books.store)

    assert (audit.accepted, audit.finished, audit.parked) == (5, 3, 1)
    assert audit.open == ["open"]
    assert audit.dead_lettered == 1
    assert audit.attempts == 1
    assert audit.stale_refused == 1
    assert [(each["key"], each["applied"]) for each in audit.effects] == [
        ("effect:1", 1)
    ]
    assert audit.violations == []


def test_an_audit_of_one_mission_leaves_the_others_out(
    books: MissionRecords, ledger: Ledger
) -> None:
    """
    Counts and violations are those of the mission that was asked for.
    """
    for name in ("one", "two"):
        finish(books, name)
        work(ledger, name, f"effect:{name}")
    accepted(books, "three")
    audit = audit_ledger(books.store, "one")
    assert (audit.accepted, audit.attempts, audit.stale_refused) == (1, 1, 1)
    assert [each["key"] for each in audit.effects] == ["effect:one"]
    assert audit.open == []


def test_an_effect_applied_twice_is_a_violation(
    books: MissionRecords, ledger: Ledger, store: Store
) -> None:
    """
    One applied row for each effect.
    """
    finish(books, MISSION)
    work(ledger, MISSION, "refund:17")
    with store.write() as connection:
        connection.execute(sa.update(effects).values(applied=2))
    assert audit_ledger(books.store).violations == [
        "effect 'refund:17' was applied 2 times"
    ]
    assert audit_ledger(books.store, "another").violations == []


def test_a_stale_result_is_a_violation(books: MissionRecords, store: Store) -> None:
    """
    A result whose writer had been overtaken is found, with fencing off.
    """
    turned = Clock()
    ledger = Ledger(store, fencing=False, clock=turned)
    stale = ledger.claim(assignment(), "worker", 1)
    turned.turn(1)
    ledger.claim(assignment(), "worker", 2)
    turned.turn(1)
    ledger.record(stale, answer(), "stale")
    told = f"{MISSION}/only: a stale attempt's result stands"
    assert audit_ledger(books.store).violations == [told]
    assert audit_ledger(books.store, "another").violations == []


@pytest.mark.parametrize("apart_s", [0.05, 3_600.0, -0.05, -3_600.0])
def test_hosts_whose_clocks_differ_break_nothing(
    books: MissionRecords, store: Store, apart_s: float
) -> None:
    """
    One host's attempt is done, the other's comes after it, and no clock says so.
    """
    here = Clock()
    there = Clock(here.now + apart_s)
    first, second = Ledger(store, clock=here), Ledger(store, clock=there)
    first.record(first.claim(assignment(), "worker", 1), answer(), "good")
    after_s = second.claim(assignment(), "worker", 2).recovery_s
    assert after_s is not None
    assert after_s >= 0
    assert audit_ledger(books.store).violations == []
    lost = second.claim(assignment("b"), "worker", 3)
    kept = first.claim(assignment("b"), "worker", 4)
    first.record(kept, answer(), "good")
    with pytest.raises(StaleAttemptError):
        second.record(lost, answer(), "stale")
    assert audit_ledger(books.store).violations == []


@pytest.mark.parametrize("apart_s", [0.05, 3_600.0, -0.05, -3_600.0])
def test_a_stale_result_is_found_whatever_the_clocks_say(
    books: MissionRecords, store: Store, apart_s: float
) -> None:
    """
    The negative control: without fencing there is one.
    """
    here = Clock()
    first = Ledger(store, fencing=False, clock=here)
    second = Ledger(store, fencing=False, clock=Clock(here.now + apart_s))
    stale = first.claim(assignment(), "worker", 1)
    second.claim(assignment(), "worker", 2)
    first.record(stale, answer(), "stale")
    assert len(audit_ledger(books.store).violations) == 1


def test_a_result_before_the_next_attempt_is_no_violation(
    books: MissionRecords, store: Store
) -> None:
    """
    An attempt that comes after the result has overtaken nobody.
    """
    turned = Clock()
    ledger = Ledger(store, clock=turned)
    ledger.record(ledger.claim(assignment(), "worker", 1), answer(), "good")
    turned.turn(1)
    ledger.claim(assignment(), "worker", 2)
    assert audit_ledger(books.store).violations == []


def test_a_dead_letter_without_a_cause_is_a_violation(books: MissionRecords) -> None:
    """
    Whoever redrives it must know what killed it.
    """
    accepted(books)
    books.close(report(MISSION, MissionStatus.FAILED, outcome("only", TaskStatus.DEAD)))
    told = f"{MISSION}/only is a dead letter without a cause"
    assert audit_ledger(books.store).violations == [told]


# Forgetting


def test_old_missions_are_pruned(
    books: MissionRecords, ledger: Ledger, clock: Clock
) -> None:
    """
    What finished long ago is forgotten; what is open or finished lately is not.
    """
    finish(books, "old")
    accepted(books, "open")
    clock.turn(10 * DAY_S)
    finish(books, "new")
    clock.turn(10 * DAY_S)
    assert prune(books.store, 15 * DAY_S, clock()) == ["old"]
    assert {entry.id for entry in books.records()} == {"open", "new"}
    assert prune(books.store, 15 * DAY_S, clock()) == []


def test_effects_stay_when_missions_are_pruned(
    books: MissionRecords, ledger: Ledger, store: Store, clock: Clock
) -> None:
    """
    Nothing else of the mission is left but its id, and what was done once stays done.
    """
    finish(books, "old")
    work(ledger, "old", "refund:17")
    clock.turn(DAY_S)
    prune(books.store, 0, clock())
    left = {name for name, rows in contents(store, "meta").items() if rows}
    assert left == {"effects", "missions"}
    assert books.find("old") is None
    (entry,) = EffectRecords(store).records("old")
    assert (entry.key, entry.state) == ("refund:17", "applied")


def test_a_forgotten_mission_leaves_its_id_alone(
    books: MissionRecords, ledger: Ledger, store: Store
) -> None:
    """
    All it said and did goes, since somebody has the right to that; the id stays, since
    the server may know it with the old content.
    """
    finish(books, "one")
    work(ledger, "one", "effect:1")
    before = contents(store, "missions")
    finish(books, "two")
    work(ledger, "two", "effect:2")
    assert forget_mission(books.store, "two") is True
    assert contents(store, "missions") == before
    assert [each.id for each in books.records()] == ["one"]
    assert "try" not in str(contents(store)["missions"][-1])
    assert forget_mission(books.store, "two") is False
    with pytest.raises(BadInputError, match="another one"):
        books.open(mission(task("a"), id="two"))


def test_no_table_of_missions_is_overlooked() -> None:
    """
    Each table with a mission in it is emptied by `forget`.
    """
    named = {table.name for table in metadata.sorted_tables if "mission" in table.c}
    emptied = {table.name for table in MISSION_TABLES}
    assert named == emptied | {"effects"}
    assert missions.name not in emptied


# The store beneath


@pytest.mark.parametrize("folder", ["plain", "with space", "what?", "50%20off", "a#b"])
def test_a_store_lies_where_it_was_asked_to(tmp_path: Path, folder: str) -> None:
    """
    A path is a path, whatever letters it has.
    """
    path = tmp_path / folder / "store.db"
    store = Store(path)
    accepted(MissionRecords(store))
    store.close()
    assert path.is_file()
    again = Store(path)
    assert MissionRecords(again).find(MISSION) is not None
    again.close()


def ids(*paths: Path) -> list[str]:
    """
    Open the stores at *paths*, one after the other, and read their ids.
    """
    found = []
    for path in paths:
        store = Store(path)
        found.append(store.id)
        store.close()
    return found


def test_a_store_keeps_its_id(tmp_path: Path) -> None:
    """
    It is made once: whoever opens the file later reads the same, wherever it lies.
    """
    path, moved = tmp_path / "store.db", tmp_path / "moved.db"
    first, second = ids(path, path)
    path.rename(moved)
    assert first
    assert {first, second, *ids(moved)} == {first}


def test_two_who_open_a_store_agree_on_its_id(tmp_path: Path) -> None:
    """
    Processes of one host have it open at the same time.
    """
    stores = [Store(tmp_path / "store.db") for _ in range(3)]
    assert len({store.id for store in stores}) == 1
    for store in stores:
        store.close()


def test_no_two_stores_share_an_id(tmp_path: Path) -> None:
    """
    Nor does a new one at the place of one that was removed.
    """
    path = tmp_path / "one.db"
    found = ids(path, tmp_path / "two.db")
    for each in tmp_path.glob("one.db*"):
        each.unlink()
    found += ids(path)
    assert len(set(found)) == 3


def test_a_store_of_before_ids_gets_one(tmp_path: Path) -> None:
    """
    Once, and all that was in it stays.
    """
    path = tmp_path / "store.db"
    store = Store(path)
    accepted(MissionRecords(store))
    before = contents(store, "meta")
    store.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("DELETE FROM meta WHERE key = 'id'").rowcount == 1
    raw.close()
    first, second = ids(path, path)
    assert first
    assert first == second
    again = Store(path)
    assert contents(again, "meta") == before
    again.close()


def test_a_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """
    What it means is not guessed at; the sentence says what to use.
    """
    path = tmp_path / "store.db"
    Store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '99'")
        raw.execute("UPDATE meta SET value = '99' WHERE key = 'oldest'")
    with pytest.raises(StoreError) as refusal:
        Store(path)
    assert "99" in told_in_one_sentence(refusal.value)
    assert "newer release" in str(refusal.value)


def no_database(path: Path) -> None:
    path.write_text("this is no database" * 1_000)


@pytest.mark.parametrize("make", [Path.mkdir, no_database], ids=["folder", "text"])
def test_a_store_that_cannot_be_opened_is_refused(tmp_path: Path, make: Any) -> None:
    """
    One sentence with the path and the cause, for a person.
    """
    path = tmp_path / "store.db"
    make(path)
    with pytest.raises(StoreError) as refusal:
        Store(path)
    assert str(path) in told_in_one_sentence(refusal.value)


def test_a_locked_store_is_refused_and_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A writer that waited too long is told so by a StoreError, not by the driver, and
    goes on when the lock is gone.
    """
    monkeypatch.setattr(outlast.store.sqlite, "SQLITE_BUSY_S", 0.05)
    store = Store(tmp_path / "store.db")
    raw = sqlite3.connect(store.place, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError) as refusal:
            MissionRecords(store).open(mission(task("a")))
        told_in_one_sentence(refusal.value)
    finally:
        raw.execute("ROLLBACK")
        raw.close()
        after = MissionRecords(store).open(mission(task("a")))
        store.close()
    assert after is None


def test_a_failed_transaction_writes_nothing(store: Store) -> None:
    """
    All of it or none of it, and the next one is not disturbed.
    """
    before = contents(store)

    def half() -> None:
        with store.write() as connection:
            row = {"key": "half", "value": "done"}
            connection.execute(sa.insert(outlast.store.schema.meta), row)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert contents(store) == before
    accepted(MissionRecords(store))
