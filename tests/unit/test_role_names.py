"""
Which of its agents a fleet plays.
"""

from pathlib import Path
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast.attempt.agent import Agent, load, playing
from outlast.contracts.errors import BadInputError
from outlast.runtime.settings import Settings


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
    assert playing(AGENTS, []) == AGENTS


def test_only_the_named_roles_are_played() -> None:
    """
    The others are left to other fleets.
    """
    assert list(playing(AGENTS, ["writer", "reader", "writer"])) == ["reader", "writer"]


def test_unknown_roles_are_refused_with_the_known_ones() -> None:
    """
    One sentence: what nobody plays, and who there is instead.
    """
    with pytest.raises(BadInputError) as error:
        playing(AGENTS, ["writer", "printer", "Reader"])
    told = told_in_one_sentence(error.value)
    assert told == (
        "no agent plays 'printer', 'Reader'; there are editor, reader, writer"
    )


def test_a_module_without_an_agent_is_refused(tmp_path: Path) -> None:
    """
    Whoever names it in OUTLAST_AGENTS means agents, and would look for them in vain.
    """
    module = tmp_path / "no_agents.py"
    module.write_text("from outlast import agent\n")
    with pytest.raises(BadInputError, match="no agent is declared in") as error:
        load([str(module)])
    told_in_one_sentence(error.value)


def test_a_module_that_imports_agents_has_them(tmp_path: Path) -> None:
    """
    One module may gather those of others, or be the package that holds them; and it
    has them also the second time.
    """
    module = tmp_path / "gathers.py"
    module.write_text("from activities.writer import writer\n")
    for _ in range(2):
        assert "writer" in load([str(module), "activities.writer", "activities"])
