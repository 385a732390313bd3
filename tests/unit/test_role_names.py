"""
Which of its agents a fleet plays.
"""

from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast.agents.agent import Agent
from outlast.agents.agent_loading import for_roles
from outlast.contracts.errors import BadInputError
from outlast.settings import Settings


async def nothing(given: Any, run: Any) -> None:
    """
    Play no part.
    """


AGENTS = {role: Agent(role, 1, nothing) for role in ("reader", "writer", "editor")}


@pytest.mark.parametrize(
    ("said", "roles"),
    [
        ("", []),
        (" , ", []),
        ("reader", ["reader"]),
        (" reader, writer ,", ["reader", "writer"]),
    ],
)
def test_roles_are_separated_by_commas(said: str, roles: list[str]) -> None:
    """
    Spaces and commas too many mean nothing.
    """
    assert Settings(roles=said).role_names == roles


def test_without_roles_all_are_played() -> None:
    """
    A fleet that is told nothing plays everybody.
    """
    assert for_roles(AGENTS, []) == AGENTS


def test_only_the_named_roles_are_played() -> None:
    """
    The others are left to other fleets.
    """
    assert list(for_roles(AGENTS, ["writer", "reader", "writer"])) == [
        "reader",
        "writer",
    ]


def test_unknown_roles_are_refused_with_the_known_ones() -> None:
    """
    One sentence: what nobody plays, and who there is instead.
    """
    with pytest.raises(BadInputError) as error:
        for_roles(AGENTS, ["writer", "printer", "Reader"])
    told = told_in_one_sentence(error.value)
    assert told == (
        "no agent plays 'printer', 'Reader'; there are editor, reader, writer; set "
        "OUTLAST_AGENTS to the module that has it"
    )
