"""
Where an agent asks to be played.
"""

from typing import Any

import pytest

from outlast.agents.agent import Agent
from outlast.agents.agent_options import fault_of_options
from outlast.agents.registry import agent
from outlast.contracts.errors import BadInputError


async def play(given: dict[str, Any], ctx: Any) -> None:
    pass


def test_attempts_share_processes_unless_an_agent_asks() -> None:
    """
    The default is what costs nothing.
    """
    shared = Agent("role", 1, play)
    assert not shared.isolated
    assert not shared.one_by_one


def test_a_lease_plays_item_after_item_for_those_that_ask() -> None:
    """
    Items are attempts too: what may not run beside another attempt runs alone.
    """
    assert Agent("role", 1, play, isolation="process").one_by_one
    assert Agent("role", 1, play, slots=1).one_by_one


@pytest.mark.parametrize(
    ("isolation", "slots", "told"),
    [
        ("process", 0, None),
        ("process", 1, None),
        ("shared", 3, None),
        ("thread", 0, "isolation is"),
        (True, 0, "isolation is"),
        ("shared", -1, "slots is"),
        ("shared", True, "slots is"),
        ("shared", "2", "slots is"),
        ("process", 2, "contradicts"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    isolation: Any, slots: Any, told: str | None
) -> None:
    """
    Refused at the declaration, with the word that is wrong.
    """
    fault = fault_of_options("role", {"isolation": isolation, "slots": slots})
    assert fault is None if told is None else told in (fault or "")


def test_a_wrong_place_is_refused_at_the_declaration() -> None:
    """
    With the role's name.
    """
    with pytest.raises(BadInputError, match=r"'placed'.*thread"):
        agent("placed", isolation="thread")(play)  # type: ignore[arg-type]
