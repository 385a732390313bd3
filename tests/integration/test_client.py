"""
`outlast.Client`: missions for a program that is not a worker.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_crew import BOUND_S, Crew

from outlast import Client, Mission
from outlast.contracts.errors import BadInputError
from outlast.dev.server import DevServer
from outlast.settings import settings

AGENTS = """
from outlast import agent

@agent("shout")
def shout(given, ctx): ...

@agent("sleep")
async def sleep(given, ctx): ...
"""


@pytest.fixture
def home(
    tmp_path: Path, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """
    A home whose store is the crew's and whose agents are the crew's roles.
    """
    (tmp_path / "agents_here.py").write_text(AGENTS)
    monkeypatch.setenv("OUTLAST_HOME", str(tmp_path))
    monkeypatch.setenv("OUTLAST_AGENTS", str(tmp_path / "agents_here.py"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


async def sleep_for_ever(given: dict[str, Any], run: Any) -> None:
    await asyncio.sleep(3600)


def asked(crew: Crew, name: str, role: str) -> Mission:
    task = {"id": "t", "role": role, "input": {"say": name}}
    content = {"id": f"{crew.name}-{name}", "goal": "try", "tasks": [task]}
    return Mission.model_validate(content)


async def test_one_client_serves_any_number_of_missions(
    lasting_crew: Crew, home: Path
) -> None:
    """
    Started once by its id, found again by it, ended on request; then all is closed.
    """
    lasting_crew.plays("shout", lambda given, run: given["say"].upper())
    lasting_crew.plays("sleep", sleep_for_ever)
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        async with Client.connect() as client:
            first, second = (asked(lasting_crew, each, "shout") for each in "ab")
            started = [await client.start(each) for each in (first, first, second)]
            reports = [await each.result() for each in started]
            assert [each.status for each in reports] == ["completed"] * 3
            assert reports[0] == reports[1]
            found = client.get(first.id)
            assert await found.status() == "completed"
            assert found.task_results() == {"t": "A"}

            lasting = await client.start(asked(lasting_crew, "c", "sleep"))
            assert await lasting.status() == "running"
            await lasting.cancel("enough")
            assert (await lasting.result()).status == "cancelled"
            assert await lasting.status() == "cancelled"
            with pytest.raises(BadInputError, match="is under way"):
                await lasting.cancel()
            with pytest.raises(BadInputError, match="outlast list"):
                await client.get("never-started").status()
        with pytest.raises(RuntimeError, match="after shutdown"):  # its store is closed
            await found.status()
