"""
Run the missions of a file and tell how each ended: one JSON object a line.

A process of its own, since it imports the cases' agents. Calm missions are started at
once; a mission that asks for approval is approved once it waits for it.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from outlast import Client, Handle, Mission
from outlast.contracts.updates import DecisionInput

LIMIT_S = 60.0
LOOK_S = 0.2


async def play(client: Client, mission: dict[str, Any]) -> dict[str, Any]:
    """
    Run one mission to its report.
    """
    asks = any("approval" in task for task in mission["tasks"])
    started = await client.start(Mission.model_validate({"goal": "see", **mission}))
    asked = await approved(started) if asks else None
    try:
        async with asyncio.timeout(LIMIT_S):
            report = await started.result()
    except TimeoutError:
        progress = await started.workflow.query("progress")
        return {"mission": mission["id"], "hung": progress}
    told = report.model_dump(mode="json")
    tasks = {each["id"]: each for each in told["tasks"]}
    return {**told, "tasks": tasks, "results": started.task_results(), "asked": asked}


async def approved(started: Handle) -> Any:
    """
    Wait until a task asks for approval, approve it; returns what was asked.
    """
    async with asyncio.timeout(LIMIT_S):
        while True:
            progress = await started.workflow.query("progress")
            if progress["approval_requests"]:
                break
            await asyncio.sleep(LOOK_S)
    await asyncio.sleep(5 * LOOK_S)  # it goes on waiting, whatever the agent does
    progress = await started.workflow.query("progress")
    for each in progress["approval_requests"]:
        await started.workflow.execute_update("approve", DecisionInput(task=each["id"]))
    return progress["approval_requests"]


async def main(missions: list[dict[str, Any]], one_by_one: bool) -> None:
    async with Client.connect() as client:
        for group in [[each] for each in missions] if one_by_one else [missions]:
            playing = (play(client, each) for each in group)
            for ended in await asyncio.gather(*playing):
                print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    asked = list(json.loads(Path(sys.argv[1]).read_text()).values())
    asyncio.run(main(asked, sys.argv[2] == "rough"))
