"""
Model clients are imported whole before a worker serves, if agents use them at all.
"""

import json
import subprocess
import sys

import pytest

CHECK = """
import json, sys
{before}
from outlast.fleet.model_clients import warm_clients
known = set(sys.modules)
warm_clients()
print(json.dumps(sorted(set(sys.modules) - known)))
"""


def warmed(before: str, **environment: str) -> set[str]:
    """
    Tell what is imported in a process that has done *before*.
    """
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(before=before)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


def test_without_a_client_nothing_is_imported() -> None:
    """
    A start is no slower for those who ask no model, whatever keys they have.
    """
    assert warmed("", OPENAI_API_KEY="x") == set()


def test_what_a_client_would_import_with_its_first_question_is_there() -> None:
    """
    For users' agents as for ours.
    """
    pytest.importorskip("openai")
    assert "openai.resources.embeddings" in warmed("import openai")
    assert "anyio._backends._asyncio" in warmed("import httpx")


def test_pydantic_ais_models_are_those_of_the_keys() -> None:
    """
    The others would cost a second each.
    """
    pytest.importorskip("pydantic_ai")
    with_key = warmed("import pydantic_ai", OPENAI_API_KEY="x")
    assert "pydantic_ai.models.openai" in with_key
    assert "pydantic_ai.models.openai" not in warmed("import pydantic_ai")
