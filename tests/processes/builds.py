"""
Two builds of the same agents, each of which says which one it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.processes import FleetProcess, Home, events, wait_for

AGENTS = """
import asyncio

from outlast.crew.scripted_agent import ScriptLog, Script, rehearse
from outlast import Context, FanOut, agent

BUILD = "{build}"


@agent("teller")
async def tell(script: Script, ctx: Context) -> str:
    ScriptLog(script.log, ctx).write("code", build=BUILD)
    await rehearse(script, ctx)
    while not script.log.with_suffix(".open").exists():
        ctx.emit("waits")
        await asyncio.sleep(0.05)
    return BUILD


@agent("spreader")
async def spread(script: Script, ctx: Context) -> FanOut:
    item = script.model_dump(mode="json", exclude_unset=True)
    return FanOut(role="teller", items=[{{**item, "steps": n}} for n in range(5)])
"""


@dataclass
class Upgrade:
    """
    A home in which builds come and go; *folder* has their agents.
    """

    home: Home
    folder: Path

    def take(self, build: str) -> None:
        """
        Have fleets that are started from now on be of *build*, "" for none.
        """
        file = self.folder / f"agents_{build or 'none'}.py"
        file.write_text(AGENTS.format(build=build))
        self.home.extra["OUTLAST_AGENTS"] = str(file)
        self.home.extra["OUTLAST_BUILD"] = build
        # Each queue of each build is made known to the server, which takes a while.
        self.home.extra["OUTLAST_ROLES"] = "teller,spreader"

    def fleet(self, build: str, processes: int = 1) -> FleetProcess:
        self.take(build)
        return self.home.fleet(processes)

    def known(self) -> dict[str, dict[str, Any]]:
        """
        Ask the starter for the builds, by name.
        """
        told = self.home.starter("builds", "--json")
        assert told.code == 0, told.err
        return {each["build"]: each for each in told.json}

    def becomes(self, build: str, status: str) -> dict[str, Any]:
        """
        Wait until *build* has *status*, and a live fleet.
        """

        def look() -> dict[str, Any] | None:
            found = self.known().get(build)
            wanted = found and (found["status"], found["fleets"]) == (status, 1)
            return found if wanted else None

        found: dict[str, Any] = wait_for(look, f"{build} being {status}")
        return found

    def promote(self, build: str) -> str:
        """
        Promote *build*; returns which one was current before.
        """
        told = self.home.starter("promote", build, "--json")
        assert told.code == 0, told.err
        assert told.json["current"] == build
        before: str = told.json["before"]
        return before


def code_of(log: Path) -> dict[str, set[str]]:
    """
    Read which builds have played each task.
    """
    found: dict[str, set[str]] = {}
    for each in events(log, "code"):
        found.setdefault(each["task"], set()).add(each["build"])
    return found
