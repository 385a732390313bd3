"""
Record histories of every workflow, one for each path that a mission can take.

    python tests/replay/record.py        (against a development server of its own)

Run it for a release, keep what it writes, and never record anew to make a test pass:
a history that no longer replays is a mission of a user that no longer moves.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "integration")]

from small_crew import Crew, task  # noqa: E402
from temporalio import activity  # noqa: E402
from temporalio.client import WorkflowHandle  # noqa: E402
from test_supervisor import for_ever, hopeless, ill, well  # noqa: E402

from outlast import FollowUps, Run  # noqa: E402
from outlast.contracts.errors import ParkedError  # noqa: E402
from outlast.contracts.models import (  # noqa: E402
    Answer,
    Assignment,
    Checkpoint,
    Mission,
    Progress,
    Report,
)
from outlast.runtime.connect import connect  # noqa: E402
from outlast.runtime.embedded import Server, choose_ports  # noqa: E402
from outlast.store.database import Store  # noqa: E402

Handle = WorkflowHandle[object, Report]
HISTORIES = HERE / "histories"
LOCAL = {"stackTrace", "identity"}


async def plan(given: dict[str, object], run: Run) -> FollowUps:
    more = [task("more", "well"), task("last", "well", needs=["more"])]
    return FollowUps(result="planned", tasks=more)


async def unsure(given: dict[str, object], run: Run) -> None:
    raise ParkedError("did it happen?")


async def dies_once(assignment: Assignment) -> Answer:
    if assignment.noticed_by is None:
        saved = Checkpoint(seq=1, route="fragile").model_dump(mode="json")
        activity.heartbeat({"checkpoint": saved, "said": "one"})
        await asyncio.Event().wait()
    return Answer(digest="d", attempt=2)


def missions(crew: Crew) -> dict[str, Mission]:
    return {
        "graph": crew.mission(
            task("a", "well"),
            task("b", "well", needs=["a"]),
            task("c", "well", needs=["a"]),
            id="graph",
        ),
        "failures": crew.mission(
            task("sick", "ill"),
            task("after", "well", needs=["sick"]),
            task("extra", "hopeless", required=False),
            task("rerouted", "backed"),
            id="failures",
        ),
        "follow-ups": crew.mission(task("p", "plan"), id="follow-ups"),
        "death": crew.mission(task("t", "fragile"), id="death"),
        "parked": crew.mission(task("t", "unsure"), id="parked"),
        "paused": crew.mission(task("a", "well"), id="paused"),
        "cancelled": crew.mission(
            task("a", "for_ever"), task("b", "well", needs=["a"]), id="cancelled"
        ),
    }


async def pause(handle: Handle) -> None:
    await handle.execute_update("pause")
    await handle.execute_update("unpause")


async def cancel(handle: Handle) -> None:
    while not (await handle.query("progress", result_type=Progress)).running:
        pass
    await handle.execute_update("cancel", "recorded")


BESIDES: dict[str, Callable[[Handle], Awaitable[None]]] = {
    "cancelled": cancel,
    "paused": pause,
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), *choose_ports(None, None))
        await server.start()
        try:
            crew = Crew(await connect(server.address), Store(Path(folder) / "store.db"))
            await record(crew)
        finally:
            server.stop()


async def record(crew: Crew) -> None:
    for role, play in {
        "well": well,
        "ill": ill,
        "hopeless": hopeless,
        "plan": plan,
        "unsure": unsure,
        "for_ever": for_ever,
    }.items():
        crew.plays(role, play)
    crew.plays("backed", ill, fallbacks=("well",))
    crew.ends("fragile", dies_once)
    HISTORIES.mkdir(exist_ok=True)
    async with crew.at_work():
        for name, mission in missions(crew).items():
            handle = await crew.start(mission)
            if name in BESIDES:
                await BESIDES[name](handle)
            report = await handle.result()
            history = await handle.fetch_history()
            kept = json.dumps(scrub(json.loads(history.to_json())), indent=1)
            (HISTORIES / f"{name}.json").write_text(kept + "\n")
            print(f"{name}: {report.status}, {len(history.events)} events")


def scrub(value: Any) -> Any:
    """
    Leave out what says where it was recorded; replay reads none of it.
    """
    if isinstance(value, dict):
        return {key: scrub(each) for key, each in value.items() if key not in LOCAL}
    return [scrub(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    asyncio.run(main())
