"""
The fence: later attempts have higher ones, whatever restarts their numbers.
"""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from outlast.attempt.host import fence_of

moments = st.datetimes(
    datetime(2020, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)
)
steps = st.one_of(
    st.integers(1, 5).map(lambda each: timedelta(microseconds=each)),
    st.timedeltas(timedelta(microseconds=1), timedelta(days=365)),
)
attempts = st.integers(1, 1023)


@given(moments, steps, attempts, attempts)
def test_a_fence_grows_with_the_servers_clock(
    scheduled: datetime, later: timedelta, attempt: int, other: int
) -> None:
    """
    What was scheduled later wins, though its number may start again at 1.
    """
    assert fence_of(scheduled, attempt) < fence_of(scheduled + later, other)


@given(moments, st.integers(1, 1022))
def test_a_fence_grows_with_the_attempt(scheduled: datetime, attempt: int) -> None:
    """
    At the same moment, the next number wins.
    """
    assert fence_of(scheduled, attempt) < fence_of(scheduled, attempt + 1)


@given(moments, st.integers(1024, 10**9), steps)
def test_a_great_number_does_not_reach_the_next_moment(
    scheduled: datetime, attempt: int, later: timedelta
) -> None:
    """
    However often it was tried, the number never counts more than the clock.
    """
    assert fence_of(scheduled, attempt) < fence_of(scheduled + later, 1)


@given(moments, st.integers(1, 10**9))
def test_a_fence_fits_into_the_store(scheduled: datetime, attempt: int) -> None:
    """
    It is a positive integer of 63 bits.
    """
    assert 0 < fence_of(scheduled, attempt) < 2**63


@given(moments, st.integers(-12, 14), attempts)
def test_a_fence_is_the_same_in_every_time_zone(
    scheduled: datetime, hours: int, attempt: int
) -> None:
    """
    Only the moment counts, not how it is written.
    """
    moved = scheduled.astimezone(timezone(timedelta(hours=hours)))
    assert fence_of(moved, attempt) == fence_of(scheduled, attempt)


@given(moments, st.integers(1, 1000), st.integers(0, 2**62))
def test_a_fence_is_above_the_one_that_has_refused(
    scheduled: datetime, attempt: int, floor: int
) -> None:
    """
    Whatever the server's clock says, and each attempt after it comes later still.
    """
    found = fence_of(scheduled, attempt, floor)
    assert floor < found < 2**63
    assert found < fence_of(scheduled, attempt + 1, floor)
