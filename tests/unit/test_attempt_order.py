"""
The order of attempts: the run, then the dispatch, then the attempt, and no clock.
"""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment
from unit_fakes import RunClient

from outlast.execution.run_order import order_of
from outlast.ledger.attempt_order import (
    ATTEMPTS,
    DISPATCHES,
    AttemptOrder,
    dispatch_of,
)

runs = st.integers(1, 2**21 - 1)
dispatches = st.integers(0, DISPATCHES)
attempts = st.integers(1, ATTEMPTS)
great = st.integers(0, 2**63)  # also past what has room


async def nobody() -> str | None:
    raise AssertionError("the server was asked")


def fence(run: int, dispatch: int, attempt: int) -> int:
    return AttemptOrder("r", dispatch, attempt, nobody).fence(run)


@given(st.tuples(runs, dispatches, attempts), st.tuples(runs, dispatches, attempts))
def test_attempts_are_ordered_by_run_then_dispatch_then_number(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    """
    A fence compares as the three numbers do.
    """
    assert (fence(*one) < fence(*other)) == (one < other)
    assert (fence(*one) == fence(*other)) == (one == other)


@given(st.integers(1, 2**21 - 2), great, great)
def test_what_has_no_room_never_reaches_the_next_run(
    run: int, dispatch: int, attempt: int
) -> None:
    """
    Numbers past their bits stop growing instead of counting as more.
    """
    assert fence(run, dispatch, attempt) < fence(run + 1, 0, 1)
    assert fence(run, min(dispatch, DISPATCHES - 1), attempt) < fence(
        run, min(dispatch, DISPATCHES - 1) + 1, 1
    )


@given(runs, great, great)
def test_a_fence_fits_into_the_store(run: int, dispatch: int, attempt: int) -> None:
    """
    It is a positive integer of 63 bits, above all that a migration has lowered.
    """
    assert 0 < fence(run, dispatch, attempt) < 2**63


@given(runs, dispatches, attempts)
def test_the_dispatch_is_read_back(run: int, dispatch: int, attempt: int) -> None:
    """
    So that a workflow goes on after one that it does not remember.
    """
    assert dispatch_of(fence(run, dispatch, attempt)) == dispatch


def test_fences_from_before_tell_no_dispatch() -> None:
    """
    A migration has made them negative; 0 is a row that came from another peer.
    """
    assert dispatch_of(-(2**61)) == dispatch_of(0) == 0


async def test_the_servers_clock_orders_nothing() -> None:
    """
    A later dispatch comes later, also when the server's clock was set back by an hour.
    """

    async def placed(dispatch: int) -> AttemptOrder:
        return order_of(dispatch)

    async def ordered(dispatch: int, attempt: int, back_s: float) -> AttemptOrder:
        made = ActivityEnvironment(client=RunClient())  # type: ignore[arg-type]
        known = made.info
        made.info = replace(
            known,
            attempt=attempt,
            scheduled_time=known.scheduled_time - timedelta(seconds=back_s),
            current_attempt_scheduled_time=known.current_attempt_scheduled_time
            - timedelta(seconds=back_s),
        )
        found: AttemptOrder = await made.run(placed, dispatch)
        return found

    first, then = await ordered(1, 7, 0), await ordered(2, 1, 3600)
    assert first.fence(1) < then.fence(1)
    retried = await ordered(2, 2, 7200)
    assert then.fence(1) < retried.fence(1)
