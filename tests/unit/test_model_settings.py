"""
Which models the crew thinks with, and what that costs those who do not think.
"""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from pydantic import ValidationError

from outlast.crew.settings import CrewSettings

ROOT = Path(__file__).parents[2]
TRADES = ("planner", "researcher", "writer", "reviewer")


def told(code: str, **environment: str) -> str:
    """
    What *code* prints in a fresh interpreter.
    """
    known = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAST_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**known, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


LOADED = """
import sys
from outlast.agents.agent_loading import resolve_routes, load_agents
from outlast.settings import settings
made = resolve_routes(load_agents(settings().{modules}))
print("pydantic_ai" in sys.modules)
for role in ("planner", "researcher", "writer", "reviewer", "publisher"):
    print(*made[role].routes)
"""


def test_without_a_model_nothing_changes() -> None:
    """
    The crew is as it was, and nothing of pydantic-ai is imported.
    """
    imported, *routes = told(LOADED.format(modules="worker_modules")).splitlines()
    assert imported == "False"
    assert routes == [*TRADES, "publisher"]


def test_a_model_goes_ahead_of_four_trades() -> None:
    """
    Then the other model, then what needs none. A starter, which only names the routes,
    does not import what the thoughts need.
    """
    imported, *routes = told(
        LOADED.format(modules="modules"),
        OUTLAST_MODEL="openai:a",
        OUTLAST_FALLBACK_MODEL="openai:b",
    ).splitlines()
    assert imported == "False"
    expected = [f"{role}.model {role}.fallback-model {role}" for role in TRADES]
    assert routes == [*expected, "publisher"]


def test_workers_import_what_thoughts_need_before_they_work() -> None:
    """
    Else the first thought of each process would hold its event loop for a second.
    """
    imported, first, *_ = told(
        LOADED.format(modules="worker_modules"),
        OUTLAST_MODEL="openai:a",
        OPENAI_API_KEY="none",
    ).splitlines()
    assert imported == "True"
    assert first == "planner.model planner"


def test_a_model_of_no_sort_is_refused_by_workers() -> None:
    """
    Before they work, and not by degrading every mission.
    """
    code = LOADED.format(modules="worker_modules")
    code = f"try:\n{indent(code, ' ')}\nexcept Exception as e: print(repr(e))"
    said = told(code, OUTLAST_MODEL="nobody:nothing")
    assert said.startswith("BadInputError")
    assert "OUTLAST_MODEL: the model 'nobody:nothing' cannot be used" in said


def test_a_fallback_needs_something_to_fall_back_from() -> None:
    """
    One model is named by OUTLAST_MODEL.
    """
    with pytest.raises(ValidationError, match="OUTLAST_MODEL is away"):
        CrewSettings(fallback_model="openai:b")


def test_a_model_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The sentence says what to install.
    """
    monkeypatch.setattr("outlast.crew.settings.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"outlast\[models\]"):
        CrewSettings(model="openai:a")
