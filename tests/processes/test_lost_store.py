"""
A store whose file is deleted under a fleet at work, and put back.
"""

import shutil
import sqlite3
from pathlib import Path

import pytest

from outlast.fleet.fleet_state import EXIT_STORE_LOST
from testkit.processes import Home, mission, wait_for

AGENTS = """
import asyncio
from outlast import Policy, agent

@agent("walker", policy=Policy(failures=1, crashes=1))
async def walker(given: dict, ctx) -> int:
    done = await ctx.resume(int, 0)
    for step in range(done + 1, 101):
        await asyncio.sleep(0.03)
        with open(given["log"], "a") as log:
            print(step, file=log)
        await ctx.save(step)
    return 100
"""

pytestmark = pytest.mark.timeout(120)


def test_a_deleted_store_stops_the_fleet_and_harms_no_mission(
    home: Home, tmp_path: Path
) -> None:
    """
    Within seconds, with one sentence and a code of its own; nothing builds it anew;
    and with the file back the mission goes on, charged with nothing.
    """
    module = tmp_path / "walking_agents.py"
    module.write_text(AGENTS)
    home.extra["OUTLAST_AGENTS"] = str(module)
    fleet, log = home.fleet(1), tmp_path / "log"
    tasks = [{"id": "walk", "role": "walker", "input": {"log": str(log)}}]
    path = mission(tmp_path / "walk.yaml", tasks, id="walk")
    starter = home.begin("run", path, "--json")
    wait_for(lambda: log.exists() and len(log.read_text().split()) > 10, "some steps")

    file, kept = home.path / "store.db", tmp_path / "kept.db"
    with sqlite3.connect(file) as now, sqlite3.connect(kept) as copy:
        now.backup(copy)
    for each in home.path.glob("store.db*"):
        each.unlink()
    assert fleet.process.wait(timeout=10) == EXIT_STORE_LOST
    steps = len(log.read_text().split())
    assert steps < 100, "it went on into a file that is gone"

    refused = home.starter("status", "walk")
    assert refused.code == 2
    assert "put theirs back" in refused.err
    assert not file.exists()

    shutil.move(kept, file)
    home.fleet(1)
    told = home.starter("run", path, "--json")
    assert told.code == 0, "one failure or death would have ended it"
    starter.wait(timeout=60)  # it has the file that is gone
    found = home.starter("audit", "--json")
    assert found.code == 0, found
