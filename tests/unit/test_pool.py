"""
The pool's contracts: how large a lease is, how things are named, what travels.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from outlast.contracts.batches import (
    LEASE_GROWTH,
    MAX_LEASE_ITEMS,
    TARGET_LEASE_S,
    Batch,
    BatchReport,
    ItemRange,
    Lease,
    LeaseResult,
    PendingItems,
    PoisonItem,
    PoolProgress,
    PoolState,
    next_lease_size,
)
from outlast.contracts.ids import ItemId, LeaseId
from outlast.contracts.retries import Policy

SIZES = st.integers(1, MAX_LEASE_ITEMS)
TIMES = st.just(0.0) | st.floats(1e-12, 86_400)
NUMBERS = st.integers(1, 999_999_999)

BATCH = Batch(id="b", role="worker", policy=Policy(failures=2), store="s")
SPAN = ItemRange(start=1, stop=9)
CONTRACTS = [
    BATCH,
    SPAN,
    PendingItems(ranges=[SPAN], up_to=9, items=9, closed=True),
    Lease(batch=BATCH, span=SPAN, skip=[2], deaths={3: 1}, quarantined=True),
    LeaseResult(settled=8, dead=1, item_s=0.25),
    PoisonItem(batch="b", item=3, deaths=3, cause="killed"),
    BatchReport(batch="b", items=9, done=8, dead=1, events=12),
    PoolState(batch=BATCH, read_up_to=8, lease_size=32, settled=8, dead=1, events=9),
    PoolProgress(batch="b", settled=8, dead=1, leases=2, lease_size=8, events=9),
]


@given(SIZES, TIMES)
def test_a_lease_is_never_empty_and_never_past_the_largest(
    size: int, item_s: float
) -> None:
    """
    Whatever an item takes, a lease holds at least one and at most the largest.
    """
    assert 1 <= next_lease_size(size, item_s) <= MAX_LEASE_ITEMS


@given(SIZES, TIMES)
def test_a_lease_grows_by_steps(size: int, item_s: float) -> None:
    """
    One fast lease is no reason to lend the whole batch: at most so many times more.
    """
    assert next_lease_size(size, item_s) <= size * LEASE_GROWTH


@given(SIZES, st.floats(TARGET_LEASE_S / MAX_LEASE_ITEMS, TARGET_LEASE_S))
def test_a_lease_takes_no_longer_than_it_should(size: int, item_s: float) -> None:
    """
    What an item took says how many fit into a lease's time.
    """
    assert next_lease_size(size, item_s) * item_s <= TARGET_LEASE_S * 1.000_001


@pytest.mark.parametrize(
    ("size", "item_s", "expected"),
    [
        (8, 0.0, 32),
        (8, 0.1, 15),
        (8, TARGET_LEASE_S, 1),
        (8, 3600.0, 1),
        (1, 0.000_01, LEASE_GROWTH),
        (MAX_LEASE_ITEMS, 0.0, MAX_LEASE_ITEMS),
    ],
)
def test_the_next_size(size: int, item_s: float, expected: int) -> None:
    """
    It shrinks at once and grows by steps.
    """
    assert next_lease_size(size, item_s) == expected


@given(NUMBERS, NUMBERS)
def test_items_are_named_in_the_order_of_their_numbers(one: int, other: int) -> None:
    """
    The ledger finds a span's items by comparing names.
    """
    assert (str(ItemId(one)) < str(ItemId(other))) == (one < other)


@given(NUMBERS, NUMBERS)
def test_names_of_leases_and_items_differ(one: int, other: int) -> None:
    """
    Two leases, two items, or a lease and an item never share a row in the ledger.
    """
    assert str(LeaseId(one)) != str(ItemId(other))
    assert (str(LeaseId(one)) == str(LeaseId(other))) == (one == other)


@pytest.mark.parametrize("sent", CONTRACTS, ids=lambda sent: type(sent).__name__)
def test_what_is_sent_is_what_arrives(sent: Any) -> None:
    """
    Every contract is the same after its way through JSON.
    """
    assert type(sent).model_validate_json(sent.model_dump_json()) == sent


@pytest.mark.parametrize("sent", CONTRACTS, ids=lambda sent: type(sent).__name__)
def test_strangers_are_refused(sent: Any) -> None:
    """
    A field that a contract does not know is a mistake, not something to overlook.
    """
    with pytest.raises(ValidationError):
        type(sent).model_validate({**sent.model_dump(), "stranger": 1})


def test_items_are_numbered_from_one() -> None:
    """
    There is no item 0 to lend.
    """
    with pytest.raises(ValidationError):
        ItemRange(start=0, stop=1)


@pytest.mark.parametrize(
    ("more", "singly"),
    [({}, False), ({"deaths": {3: 1}}, True), ({"quarantined": True}, True)],
)
def test_after_a_death_items_are_played_singly(
    more: dict[str, Any], singly: bool
) -> None:
    """
    The next death must tell which item it was.
    """
    assert Lease(batch=BATCH, span=SPAN, **more).one_by_one is singly
