"""
The items of batches: numbered once, read as they came, done or given up but not both.
"""

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_fakes import BATCH, Shelf, batch, canonical, numbered
from pydantic_core import from_json
from unit_fakes import Clock, contents, refused, told_in_one_sentence

from outlast.contracts.batches import ItemRange, PoisonItem
from outlast.contracts.errors import BadInputError, StaleAttemptError
from outlast.execution.codec import Codec
from outlast.execution.results import encode
from outlast.ledger.batches import BatchRecords
from outlast.ledger.items import AddedItems
from outlast.ledger.lease_ledger import ItemFailure
from outlast.ledger.missions import MissionRecords
from outlast.ledger.retention import forget_batch
from outlast.store.database import Store
from outlast.temporal.item_source import (
    FEED_CHARS,
    BackgroundReader,
    SourceItem,
    item_source,
    read_lines,
)

SPANS = "outlast.ledger.items.MAX_PENDING_RANGES"
LOOKED_AT = "outlast.ledger.items.MAX_PENDING_ITEMS"

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)

SHAPES: list[Any] = [
    None,
    True,
    0,
    -1,
    10**40,
    0.1,
    1e300,
    5e-324,
    -0.0,
    "",
    "null",
    '"quoted"',
    "a\nb\tc\\d/e",
    "\x00 and \x1f",
    "naïve – 漢字 🙂",
    [],
    {},
    [None, [True, {"a": []}]],
    {"b": 1, "a": {"": "empty key"}},
    "[1,2]",
]

fresh_name = map("b{}".format, count())
given_store = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def shelf(store: Store) -> Shelf:
    return Shelf(store)


@pytest.fixture
def ten(shelf: Shelf) -> Shelf:
    """
    A shelf with ten items.
    """
    shelf.add(*numbered(10))
    return shelf


def counted(shelf: Shelf) -> tuple[int, int, int]:
    found = shelf.batches.count(shelf.name)
    return found.items, found.done, found.dead


def test_items_are_numbered_from_one_in_the_order_they_came(shelf: Shelf) -> None:
    """
    Numbers go on from call to call.
    """
    shelf.add({"a": 1}, {"a": 2})
    shelf.add({"a": 3})
    assert shelf.read() == [[1, {"a": 1}], [2, {"a": 2}], [3, {"a": 3}]]


def test_the_same_item_twice_is_one(shelf: Shelf) -> None:
    """
    Within one call and across calls; what is new beside it gets the next number.
    """
    one, two, three = (canonical({"a": n}) for n in (1, 2, 3))
    added = shelf.items.add(BATCH, [(one, None), (two, None), (one, None)])
    again = shelf.items.add(BATCH, [(two, None), (three, None), (three, None)])
    assert (added, again) == (AddedItems(2, 1), AddedItems(1, 2))
    assert [number for number, _ in shelf.read()] == [1, 2, 3]


def test_batches_are_numbered_apart(shelf: Shelf, store: Store) -> None:
    """
    The same item in another batch is another item.
    """
    other = Shelf(store, "other")
    shelf.add({"a": 1}, {"a": 2})
    other.add({"a": 2})
    assert other.read() == [[1, {"a": 2}]]
    assert len(shelf.read()) == 2


def test_what_is_no_item_is_a_dead_letter_from_the_start(shelf: Shelf) -> None:
    """
    It has a number and a cause, and is never lent.
    """
    shelf.add({"a": 1})
    shelf.add("line 2: garbage", fault="line 2: no JSON")
    shelf.add({"a": 3})
    assert [number for number, _ in shelf.read()] == [1, 3]
    assert shelf.pending() == [(1, 2), (3, 4)]
    found = shelf.dead()[2]
    assert (found.cause, found.input) == ("line 2: no JSON", "line 2: garbage")
    assert (found.failures, found.deaths) == (0, 0)


def test_a_batch_is_for_one_agent(shelf: Shelf, store: Store) -> None:
    """
    Its id with another agent or tenant is refused, and nothing of it changes.
    """
    before = contents(store)
    for other in ({"role": "someone-else"}, {"tenant": "else"}):
        with pytest.raises(BadInputError) as refusal:
            shelf.batches.open_batch(batch().model_copy(update=other))
        assert BATCH in told_in_one_sentence(refusal.value)
    assert contents(store) == before


def test_opening_again_takes_more_items(ten: Shelf) -> None:
    """
    A finished batch that is opened again is under way and not closed; what was done
    stays done.
    """
    ten.settle(*range(1, 11))
    ten.batches.close_input(BATCH)
    assert ten.batches.close(BATCH, cancelled=False) is not None
    ten.batches.open_batch(batch())
    ten.add({"n": 11})
    found = ten.batches.find(BATCH)
    assert found is not None
    assert (found.state, found.closed, found.finished_at) == ("open", False, None)
    assert ten.pending() == [(11, 12)]


def test_a_survey_of_what_is_fresh_is_one_span(ten: Shelf) -> None:
    """
    It tells how far it looked, how many items there are, and whether more may come.
    """
    found = ten.items.pending(BATCH, 0)
    assert found.ranges == [ItemRange(start=1, stop=11)]
    assert (found.up_to, found.items, found.closed) == (10, 10, False)
    ten.batches.close_input(BATCH)
    assert ten.items.pending(BATCH, 0).closed


def test_a_survey_leaves_out_what_is_done_or_given_up(ten: Shelf) -> None:
    """
    Done ones and dead ones are holes; one that has failed and lives is none.
    """
    ten.settle(1, 4, 5, 10)
    ten.fail(7)
    ten.fail(2, dead=False)
    assert ten.pending() == [(2, 4), (6, 7), (8, 10)]


def test_a_survey_begins_after_an_item(ten: Shelf) -> None:
    """
    What was looked at is not told again.
    """
    ten.settle(5)
    assert ten.pending(after=3) == [(4, 5), (6, 11)]
    assert ten.pending(after=10) == []


def test_a_survey_tells_a_bounded_number_of_spans(
    ten: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The next survey goes on exactly where one with too many holes has ended.
    """
    monkeypatch.setattr(SPANS, 2)
    ten.settle(2, 4, 6, 8)
    seen: list[ItemRange] = []
    after = 0
    while after < 10:
        found = ten.items.pending(BATCH, after)
        assert len(found.ranges) <= 2
        assert found.up_to > after
        seen += found.ranges
        after = found.up_to
    spans = [(span.start, span.stop) for span in seen]
    assert spans == [(1, 2), (3, 4), (5, 6), (7, 8), (9, 11)]


def test_a_survey_looks_at_a_bounded_number_of_items(
    ten: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A huge batch is looked at in parts that fit together.
    """
    monkeypatch.setattr(LOOKED_AT, 4)
    found = [ten.items.pending(BATCH, after) for after in (0, 4, 8)]
    assert [each.up_to for each in found] == [4, 8, 10]
    assert [each.ranges[0].start for each in found] == [1, 5, 9]


@given_store
@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)), st.integers(1, 4))
def test_surveys_find_every_item_that_is_left_once(
    store: Store, done: set[int], dead: set[int], most: int
) -> None:
    """
    Whatever the holes, and however short one survey: none twice, none forgotten.
    """
    shelf = Shelf(store, next(fresh_name))
    shelf.add(*numbered(30))
    shelf.settle(*sorted(done))
    for number in sorted(dead - done):
        shelf.fail(number)
    found: list[int] = []
    after = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SPANS, most)
        while after < 30:
            survey = shelf.items.pending(shelf.name, after)
            found += [n for span in survey.ranges for n in range(span.start, span.stop)]
            after = survey.up_to
    assert found == sorted(set(range(1, 31)) - done - dead)


@given_store
@given(st.lists(OBJECTS, min_size=1, max_size=6, unique_by=canonical))
def test_items_of_every_shape_are_read_as_they_came(
    store: Store, bodies: list[Any]
) -> None:
    """
    The way through the store and through the lease's own parser changes no value.
    """
    shelf = Shelf(store, next(fresh_name))
    shelf.add(*bodies)
    assert shelf.read() == [[n, body] for n, body in enumerate(bodies, 1)]


def nested(depth: int) -> str:
    return '{"deep":' + "[" * depth + "]" * depth + "}"


ODD_LINES = {
    "half a character": '{"a": "\\ud800"}',
    "half a character as a key": '{"\\udfff": 1}',
    "nested 150 deep": nested(150),
    "nested 300 deep": nested(300),
    "nested 900 deep": nested(900),
    "a key twice": '{"a": 1, "a": 2}',
    "a number of 4,000 digits": '{"a": %s}' % ("9" * 4000),
    "a tiny number": '{"a": 1e-4000}',
    "a NUL": '{"a": "\\u0000"}',
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_an_odd_item_does_not_spoil_its_neighbours(shelf: Shelf, kind: str) -> None:
    """
    What the starter takes for an item can be read; what cannot be read is a dead
    letter of its own.
    """
    pipe = io.BytesIO(b'{"n": 1}\n%s\n{"n": 3}\n' % ODD_LINES[kind].encode())
    taken = [(each.body, each.error) for each in read_lines(pipe, "pipe")]
    shelf.items.add(BATCH, taken)
    read = from_json(shelf.items.read(BATCH, ItemRange(start=1, stop=4), 10))
    assert {1, 3} <= {number for number, _ in read}
    assert len(read) + len(shelf.dead()) == 3


@pytest.mark.parametrize("depth", range(100, sys.getrecursionlimit() + 50, 10))
def test_no_depth_of_an_item_raises_in_the_starter(depth: int) -> None:
    """
    An item nested however deep is an item or has a fault, and is no traceback.
    """
    (found,) = read_lines(io.BytesIO(nested(depth).encode()), "pipe")
    assert found.body


def test_reading_is_in_order_and_bounded(ten: Shelf) -> None:
    """
    At most so many of the span, the lowest first, without what is settled.
    """
    ten.settle(3)
    ten.fail(4)
    assert [number for number, _ in ten.read(2, 9, most=3)] == [2, 5, 6]
    assert [number for number, _ in ten.read(9, 11)] == [9, 10]
    assert ten.read(3, 5) == []


@pytest.mark.parametrize("value", SHAPES, ids=repr)
def test_results_of_every_shape_come_back_to_the_byte(ten: Shelf, value: Any) -> None:
    """
    What was written is what is printed.
    """
    ten.write({4: value})
    assert list(ten.outcomes.results(BATCH)) == [(4, encode(value, Codec()), None)]


@given_store
@given(st.lists(VALUES, min_size=1, max_size=6))
def test_any_results_come_back_to_the_byte(store: Store, values: list[Any]) -> None:
    """
    No value is changed by being written beside others.
    """
    shelf = Shelf(store, next(fresh_name))
    shelf.add(*numbered(len(values)))
    shelf.write(dict(enumerate(values, 1)))
    kept = [text for _, text, _ in shelf.outcomes.results(shelf.name)]
    assert kept == [encode(value, Codec()) for value in values]


def test_the_reason_of_a_lesser_result_is_kept(ten: Shelf) -> None:
    """
    A degraded result says why; a whole one says nothing.
    """
    rows = [(1, '"x"', 'half "of" it'), (2, '"y"', None)]
    ten.ledger.write_results(ten.claim(), rows, [], True)
    assert list(ten.outcomes.results(BATCH)) == [
        (1, '"x"', 'half "of" it'),
        (2, '"y"', None),
    ]


def test_the_first_result_stands(ten: Shelf) -> None:
    """
    An item that is done again changes nothing, and what is new beside it is kept.
    """
    ten.write({1: "first"})
    ten.write({1: "second", 2: "new"})
    assert ten.results() == {1: "first", 2: "new"}


STALE: dict[str, Callable[[Shelf, Any], None]] = {
    "results": lambda shelf, claim: shelf.settle(1, 2, claim=claim),
    "nothing": lambda shelf, claim: shelf.ledger.write_results(claim, [], [], True),
    "trouble": lambda shelf, claim: shelf.ledger.record_item_failure(
        claim, ItemFailure(1, 1, 0, "x", True)
    ),
}


@pytest.mark.parametrize("kind", STALE)
def test_an_overtaken_lease_writes_nothing(ten: Shelf, store: Store, kind: str) -> None:
    """
    It is told so, and it is counted.
    """
    stale = ten.claim()
    ten.claim()
    before = contents(store, "stale_writes")
    with pytest.raises(StaleAttemptError):
        STALE[kind](ten, stale)
    assert contents(store, "stale_writes") == before
    assert refused(store) == ["items"]


def test_leases_are_claimed_apart(ten: Shelf) -> None:
    """
    A lease of other items overtakes nobody.
    """
    first = ten.claim(1)
    ten.claim(6)
    ten.settle(1, claim=first)
    assert ten.results() == {1: "result 1"}


def test_failures_are_known_to_the_next_lease(ten: Shelf) -> None:
    """
    Those within the span only; the highest count stands.
    """
    ten.fail(3, dead=False)
    ten.fail(7, dead=False)
    ten.ledger.record_item_failure(ten.claim(), ItemFailure(3, 1, 0, "again", False))
    assert ten.items.failures(BATCH, ItemRange(start=1, stop=7)) == {3: 2}
    assert ten.batches.failing(BATCH) == 2


def test_what_failed_and_was_done_then_is_no_trouble(ten: Shelf) -> None:
    """
    It is neither failing nor a dead letter.
    """
    ten.fail(3, dead=False)
    ten.settle(3)
    assert ten.batches.failing(BATCH) == 0
    assert ten.dead() == {}
    assert counted(ten) == (10, 1, 0)


def test_a_buried_item_is_a_dead_letter_with_its_deaths(ten: Shelf) -> None:
    """
    Its earlier failures stay counted, and it is not lent again.
    """
    ten.fail(3, dead=False)
    ten.items.dead_letter(PoisonItem(batch=BATCH, item=3, deaths=3, cause="killed"))
    found = ten.dead()[3]
    assert (found.deaths, found.failures, found.cause) == (3, 2, "killed")
    assert found.input == {"n": 3}
    assert ten.pending() == [(1, 3), (4, 11)]


def test_an_item_that_is_done_is_not_buried(ten: Shelf) -> None:
    """
    A process that dies with the result written already takes nothing back: an item
    counts once, or its batch could never be closed.
    """
    ten.settle(*range(1, 11))
    ten.batches.close_input(BATCH)
    ten.items.dead_letter(PoisonItem(batch=BATCH, item=3, deaths=3, cause="killed"))
    items, done, dead = counted(ten)
    assert done + dead == items
    assert ten.batches.close(BATCH, cancelled=False) is not None


def test_a_dead_letter_gets_no_result(ten: Shelf) -> None:
    """
    A lease that comes late with a result of what was given up leaves one of the two.
    """
    late = ten.claim()
    ten.batches.close_input(BATCH)
    ten.items.dead_letter(PoisonItem(batch=BATCH, item=3, deaths=3, cause="killed"))
    ten.settle(*range(1, 11), claim=late)
    items, done, dead = counted(ten)
    assert done + dead == items
    assert ten.batches.close(BATCH, cancelled=False) is not None


def test_a_batch_is_closed_when_nothing_is_left(store: Store) -> None:
    """
    Every item done or given up, and no more to come.
    """
    clock = Clock()
    shelf = Shelf(store)
    shelf.batches = BatchRecords(store, clock)
    shelf.add(*numbered(3))
    shelf.batches.close_input(BATCH)
    shelf.settle(1, 2)
    shelf.fail(3)
    clock.turn(5)
    report = shelf.batches.close(BATCH, cancelled=False)
    assert report is not None
    assert (report.items, report.done, report.dead) == (3, 2, 1)
    assert not report.cancelled
    found = shelf.batches.find(BATCH)
    assert found is not None
    assert (found.state, found.finished_at) == ("completed", clock.now)


@pytest.mark.parametrize(
    "left", ["an item", "one that failed", "unsealed"], ids=lambda left: left
)
def test_a_batch_with_something_left_is_not_closed(ten: Shelf, left: str) -> None:
    """
    Its line in the books stays as it is.
    """
    ten.settle(*range(1, 10 if left != "unsealed" else 11))
    if left == "one that failed":
        ten.fail(10, dead=False)
    if left != "unsealed":
        ten.batches.close_input(BATCH)
    before = ten.batches.find(BATCH)
    assert ten.batches.close(BATCH, cancelled=False) is None
    assert ten.batches.find(BATCH) == before


def test_a_cancelled_batch_is_closed_whatever_is_left(ten: Shelf) -> None:
    """
    What is done is kept and counted.
    """
    ten.settle(1, 2)
    report = ten.batches.close(BATCH, cancelled=True)
    assert report is not None
    assert (report.items, report.done, report.dead) == (10, 2, 0)
    assert report.cancelled
    found = ten.batches.find(BATCH)
    assert found is not None
    assert found.state == "cancelled"
    assert len(ten.results()) == 2


@pytest.mark.parametrize("page", [1, 3, 9, 10, 11])
def test_results_are_paged_in_order(ten: Shelf, page: int) -> None:
    """
    However they are paged: each once, in the order of items.
    """
    ten.settle(10, 2, 9)
    ten.settle(*range(1, 11))
    found = [number for number, _, _ in ten.outcomes.results(BATCH, page=page)]
    assert found == list(range(1, 11))
    after = [number for number, _, _ in ten.outcomes.results(BATCH, after=7, page=page)]
    assert after == [8, 9, 10]


def test_dead_letters_of_one_batch_or_of_all(ten: Shelf, store: Store) -> None:
    """
    By batch and item; what only failed is none.
    """
    other = Shelf(store, "other")
    other.add({"x": 1})
    other.fail(1, "other's")
    ten.fail(8)
    ten.fail(2)
    ten.fail(5, dead=False)
    assert list(ten.dead()) == [2, 8]
    everywhere = [(each.batch, each.item) for each in ten.outcomes.dead_letters()]
    assert everywhere == [("other", 1), (BATCH, 2), (BATCH, 8)]


@pytest.fixture
def failed(ten: Shelf) -> Shelf:
    """
    Ten items: 1 to 6 done, the others given up, the batch closed.
    """
    ten.settle(*range(1, 7))
    for number, cause in {7: "a% fault", 8: "b fault", 9: "aX fault", 10: "b"}.items():
        ten.fail(number, cause)
    ten.batches.close_input(BATCH)
    assert ten.batches.close(BATCH, cancelled=False) is not None
    return ten


@pytest.mark.parametrize(
    ("item", "cause", "back"),
    [
        (None, None, [7, 8, 9, 10]),
        (8, None, [8]),
        (None, "b", [8, 10]),
        (None, "a%", [7]),
        (8, "b", [8]),
        (7, "b", []),
        (3, None, []),
        (None, "nothing like it", []),
    ],
)
def test_dead_letters_are_taken_back(
    failed: Shelf, item: int | None, cause: str | None, back: list[int]
) -> None:
    """
    All, or one, or by words of the cause; then they are to be done, from no failure.
    """
    assert failed.outcomes.redrive(BATCH, item, cause) == len(back)
    assert [number for number, _ in failed.read()] == back
    assert set(failed.dead()) == {7, 8, 9, 10} - set(back)
    assert failed.items.failures(BATCH, ItemRange(start=1, stop=11)).keys() >= set(
        failed.dead()
    )
    found = failed.batches.find(BATCH)
    assert found is not None
    assert (found.state == "open") is bool(back)
    assert failed.results().keys() == set(range(1, 7))


def test_redriving_leaves_other_batches_alone(failed: Shelf, store: Store) -> None:
    """
    Their dead letters stay where they are.
    """
    other = Shelf(store, "other")
    other.add({"x": 1})
    other.fail(1)
    failed.outcomes.redrive(BATCH, None, None)
    assert list(other.dead()) == [1]


def test_a_forgotten_batch_is_gone(failed: Shelf, store: Store) -> None:
    """
    Its items, results and dead letters too; another one's stay.
    """
    other = Shelf(store, "other")
    other.add({"x": 1})
    other.settle(1)
    assert forget_batch(failed.store, BATCH)
    assert not forget_batch(failed.store, BATCH)
    assert failed.batches.find(BATCH) is None
    left = contents(store)
    for table in ("batches", "items", "item_results", "item_failures"):
        assert {row[0] for row in left[table]} <= {"other"}
    assert other.results() == {1: "result 1"}


def test_open_batches_count_as_under_way(ten: Shelf, store: Store) -> None:
    """
    From their opening until they are closed, and again once something is redriven.
    """
    books = MissionRecords(store)
    assert books.count_open() == 1
    Shelf(store, "other")
    assert books.count_open() == 2
    ten.settle(*range(1, 10))
    ten.fail(10)
    ten.batches.close_input(BATCH)
    ten.batches.close(BATCH, cancelled=False)
    assert books.count_open() == 1
    ten.outcomes.redrive(BATCH, None, None)
    assert books.count_open() == 2


def test_batches_are_listed_the_newest_first(store: Store) -> None:
    """
    Each with its agent and how it stands.
    """
    clock = Clock()
    batches = BatchRecords(store, clock)
    for name in ("a", "c", "b"):
        clock.turn(1)
        batches.open_batch(batch(name))
    assert [each.id for each in batches.records()] == ["b", "c", "a"]
    assert batches.find("nobody") is None


def no_more_than_two(item: dict[str, int], text: str) -> str | None:
    """
    Fit an agent that cannot count.
    """
    return None if item["n"] <= 2 else "n: too many"


def test_an_item_that_does_not_fit_is_refused_with_its_line(tmp_path: Path) -> None:
    """
    Before anything of a file is fed.
    """
    path = tmp_path / "items.jsonl"
    path.write_text('{"n": 1}\n\n{"n": 3}\n{"n": 2}\n')
    with pytest.raises(BadInputError, match=r"items\.jsonl line 3: n: too many"):
        item_source(str(path), no_more_than_two)
    assert item_source(str(path)).total == 3


def test_an_item_of_a_pipe_that_does_not_fit_is_a_dead_letter(shelf: Shelf) -> None:
    """
    Others may be at work already; no attempt sees it.
    """
    pipe = io.BytesIO(b'{"n": 1}\n{"n": 3}\n{"n": 2}\n')
    taken = list(read_lines(pipe, "pipe", no_more_than_two))
    shelf.items.add(BATCH, [(each.body, each.error) for each in taken])
    assert {number: each.cause for number, each in shelf.dead().items()} == {
        2: "pipe line 2: n: too many"
    }


def test_a_folder_is_refused_where_its_agent_takes_no_documents(tmp_path: Path) -> None:
    """
    Its items hold a path each.
    """
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(BadInputError, match="a path: path: no such field"):
        item_source(str(tmp_path), lambda item, text: "path: no such field")


def test_a_file_is_the_same_item_from_a_folder_and_from_a_line(tmp_path: Path) -> None:
    """
    An item's JSON has one form, by which it is told from others.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    lines = tmp_path / "items.jsonl"
    lines.write_text(json.dumps({"path": str(folder / "a.txt")}) + "\n")
    assert list(item_source(str(folder)).items()) == list(
        item_source(str(lines)).items()
    )


def paths(root: Path) -> list[str]:
    given = item_source(str(root)).items()
    return [
        Path(json.loads(each.body)["path"]).relative_to(root).as_posix()
        for each in given
    ]


def test_each_file_of_a_folder_is_an_item(tmp_path: Path) -> None:
    """
    Of every kind, by its whole path, in the same order on every run. Hidden files are
    none, nor is what a link leads to outside.
    """
    root, outside = tmp_path / "root", tmp_path / "outside"
    for each in ("b.json", "a/z.txt", "a.bin", ".hidden/x", ".x", "../outside/secret"):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).resolve().write_text("x")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "circle").symlink_to(root)
    (root / "same").symlink_to(root / "b.json")
    assert paths(root) == ["a.bin", "a/z.txt", "b.json", "same"]


def test_a_folder_without_a_file_has_no_items(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(BadInputError, match="holds no file"):
        item_source(str(tmp_path))


def test_no_file_is_left_out_because_its_folder_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its name is said, and nothing starts.
    """
    (tmp_path / "a.txt").write_text("x")
    locked = tmp_path / "locked"
    locked.mkdir()
    scan = os.scandir

    def refuse(path: str) -> Any:  # chmod refuses root nothing
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BadInputError, match="locked cannot be read: Permission"):
        item_source(str(tmp_path))


def test_an_item_over_the_cap_is_named_and_the_next_one_read() -> None:
    """
    The cap is in bytes and inclusive; of what is longer no more is kept than a line
    that says so.
    """
    body = json.dumps({"n": "é" * 20}, ensure_ascii=False).encode()
    lines = [body, body[:-2] + b'x"}', b'{"n": 2}']
    pipe = io.BytesIO(b"\n".join(lines))
    taken = list(read_lines(pipe, "pipe", largest=len(body)))
    assert [each.error is None for each in taken] == [True, False, True]
    assert "pipe line 2: an item of more than" in str(taken[1].error)
    assert "OUTLAST_LARGEST_MB" in str(taken[1].error)


def test_large_items_wait_in_a_bounded_queue() -> None:
    """
    A thousand of them may be more than memory holds: they come in small chunks, and
    the source is read no further than that.
    """
    read: list[int] = []
    far, exhausted = threading.Event(), threading.Event()

    def given() -> Iterator[SourceItem]:
        for at in range(40):
            read.append(at)
            if at == 4 * 4 - 1:
                far.set()
            yield SourceItem("x" * (FEED_CHARS // 4))
        exhausted.set()

    coming = BackgroundReader(given())
    assert far.wait(10), "it reads ahead while nobody takes"
    assert not exhausted.wait(0.2)
    chunks = []
    while (chunk := coming.next()) is not None:
        chunks.append(len(chunk))
        assert len(read) - sum(chunks) <= 4 * 4 + 2
    assert sum(chunks) == 40
    assert max(chunks) <= 4
