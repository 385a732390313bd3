"""
The store's one way to wait in a thread for what passes by itself.
"""

from collections.abc import Callable

import pytest

from outlast.store.retry import retry


class PassingError(Exception):
    """
    Over soon.
    """


class LastingError(Exception):
    """
    Over never.
    """


def is_passing(error: Exception) -> bool:
    return isinstance(error, PassingError)


def failing(*errors: Exception) -> Callable[[], str]:
    """
    Make an act that fails by each of *errors* in turn, then succeeds.
    """
    left = list(errors)

    def act() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return act


def test_what_passes_is_tried_again() -> None:
    """
    Until it succeeds, however often that is within the limit.
    """
    act = failing(*[PassingError()] * 5)
    assert retry(act, is_passing, limit_s=60.0, pause_s=0.0) == "done"


def test_what_lasts_is_raised_at_once() -> None:
    """
    No second try could end otherwise.
    """
    act = failing(PassingError(), LastingError())
    with pytest.raises(LastingError):
        retry(act, is_passing, limit_s=60.0, pause_s=0.0)


def test_the_limit_ends_the_waiting() -> None:
    """
    The last try is made once it is over: then its error is raised.
    """
    times = iter([0.0, 1.0, 2.0, 3.0])
    act = failing(*[PassingError()] * 9)
    with pytest.raises(PassingError):
        retry(act, is_passing, limit_s=3.0, pause_s=0.0, clock=lambda: next(times))
    assert next(times, None) is None
