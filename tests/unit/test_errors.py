"""
What an agent raises says what it means, or is refused in the agent's own line.
"""

import math
import pickle
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast import Degraded, GiveUp, TryLater
from outlast.contracts.errors import BudgetExceededError


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(5, 5.0), (0.25, 0.25), (timedelta(minutes=1), 60.0), (0, 0.0)],
)
def test_a_delay_is_seconds_or_a_timedelta(after: Any, seconds: float) -> None:
    """
    As everywhere in Python.
    """
    assert TryLater(after).after == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (-1, ValueError),
        (timedelta(seconds=-1), ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (31 * 86_400, ValueError),
        (10**400, ValueError),
        (timedelta.max, ValueError),
        ("5", TypeError),
        (None, TypeError),
        (True, TypeError),
        (Decimal(5), TypeError),
    ],
)
def test_what_is_no_delay_is_refused_at_once(after: Any, kind: type[Exception]) -> None:
    """
    In the line that says it, not in the client that sends it.
    """
    with pytest.raises(kind, match=r"TryLater\(after\): ") as refused:
        TryLater(after)
    told_in_one_sentence(refused.value)


def test_a_delay_survives_pickling() -> None:
    """
    An agent's own pool of processes may raise it.
    """
    again = pickle.loads(pickle.dumps(TryLater(5, "busy")))
    assert again.after == timedelta(seconds=5)
    assert str(again) == "busy"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ((), "the agent gave no reason"),
        (("",), "the agent gave no reason"),
        ((None,), "the agent gave no reason"),
        (("no such order",), "no such order"),
        ((ValueError("bad cents"),), "bad cents"),
        ((ValueError(),), "ValueError"),
        ((Unprintable(),), "Unprintable"),
        (("order", 17), "order, 17"),
    ],
)
def test_giving_up_always_has_a_reason(reasons: tuple[Any, ...], told: str) -> None:
    """
    It means the same however it is said: an error in it would be retried instead.
    """
    assert str(GiveUp(*reasons)) == told
    assert str(pickle.loads(pickle.dumps(GiveUp(*reasons)))) == told


def test_the_kinds_of_giving_up_keep_their_words() -> None:
    """
    What is ours says its reason as before.
    """
    assert str(BudgetExceededError("7 tokens used of 5")) == "7 tokens used of 5"


@pytest.mark.parametrize("reason", [None, "", 7])
def test_less_than_was_asked_has_a_reason(reason: Any) -> None:
    """
    The report says it.
    """
    with pytest.raises(TypeError, match="the reason is a text"):
        Degraded({}, reason)
