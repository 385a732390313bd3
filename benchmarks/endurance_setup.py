"""
A home to break, the missions that run in it, and the bounds they are held to.
"""

import asyncio
import os
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client

from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Outcome, Report, TaskStatus
from outlast.dev.ports import choose_ports
from outlast.dev.server import DevServer
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store
from outlast.temporal.client import Client as MissionClient
from outlast.temporal.client import Handle
from outlast.temporal.connect import connect_when_available
from testkit.proc import command_of, parent_of, processes_of
from testkit.processes import FleetProcess, Home, events, rehearsal, wait_for

# A mission without a report so long after it could go on has been lost.
ENDURANCE_END_S = 60.0
MAX_SHOWN_FINDINGS = 20  # lines of evidence for a bound that was missed


@dataclass
class MissionRun:
    """
    A mission under way and what its rehearsals log.
    """

    started: Handle
    log: Path
    keys: list[str]
    report: Report | None = None

    @property
    def name(self) -> str:
        return self.started.id

    @property
    def status(self) -> MissionStatus | None:
        return self.report.status if self.report else None

    async def end(self, limit_s: float | None = ENDURANCE_END_S) -> None:
        with suppress(TimeoutError):
            self.report = await asyncio.wait_for(self.started.result(), limit_s)

    def outcomes(self, status: TaskStatus) -> list[Outcome]:
        tasks = self.report.tasks if self.report else []
        return [each for each in tasks if each.status is status]

    def amiss(self) -> list[str]:
        lines = Counter(each["key"] for each in events(self.log, "effect"))
        return [f"{key}: {lines[key]} lines" for key in self.keys if lines[key] != 1]

    def overlaps(self) -> list[str]:
        """
        Tell each line of an attempt that was written after a later one had begun.
        """
        return [
            f"{self.name}: {late} after {later}"
            for later in events(self.log, "start")
            for late in events(self.log, "step", "end")
            if late["task"] == later["task"]
            and late["attempt"] < later["attempt"]
            and late["at"] > later["at"]
        ]

    def attempts(self) -> list[dict[str, Any]]:
        return MissionRecords(self.started.store).attempts(self.name)


class EnduranceFindings:
    """
    The bounds, printed as they are judged.
    """

    def __init__(self) -> None:
        self.held = True

    def bound(self, held: bool, told: str, evidence: Sequence[str] = ()) -> None:
        self.held = self.held and held
        print(f"  {'ok' if held else 'MISSED':<8}{told}", flush=True)
        for each in evidence[: 0 if held else MAX_SHOWN_FINDINGS]:
            self.note(each)

    def none(self, what: str, found: Sequence[str]) -> None:
        self.bound(not found, f"{len(found)} {what}", found)

    def note(self, told: str) -> None:
        print(f"          {told}", flush=True)


@dataclass
class EnduranceSetup:
    """
    A home with a server of its own, and the missions that run there.
    """

    home: Home
    client: Client
    store: Store
    findings: EnduranceFindings
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    courses: list[MissionRun] = field(default_factory=list)

    async def fleet(self, processes: int) -> FleetProcess:
        return await asyncio.to_thread(self.home.fleet, processes)

    async def begin(self, name: str, scripts: dict[str, dict[str, Any]]) -> MissionRun:
        """
        Start a mission of rehearsals that have an effect each.
        """
        log = self.home.path / f"{name}.jsonl"
        tasks = [
            rehearsal(task, log, **{"effect": f"{name}:{task}", **script})
            for task, script in scripts.items()
        ]
        content = {"id": name, "goal": "endure", "tasks": tasks}
        limits = {"concurrency": len(tasks)}
        mission = Mission.model_validate({**content, "limits": limits})
        started = await MissionClient(self.client, self.store).start(mission)
        course = MissionRun(started, log, [f"{name}:{task}" for task in scripts])
        self.courses.append(course)
        return course

    def judge_completion(self) -> None:
        """
        Every mission completed, no task given up.
        """
        short = [
            each for each in self.courses if each.status is not MissionStatus.COMPLETED
        ]
        told = f"{len(self.courses) - len(short)} of {len(self.courses)} missions done"
        self.findings.bound(not short, told, [f"{c.name}: {c.status}" for c in short])
        dead = [
            f"{course.name}/{each.id}: {each.reasons}"
            for course in self.courses
            for each in course.outcomes(TaskStatus.DEAD)
        ]
        self.findings.none("dead letters", dead)

    async def judge_books(self) -> None:
        """
        Every effect once and the audit clean.

        The log honours the key, so no second line can stand there: what was lost is
        missing from the log, what was recorded twice shows in the ledger.
        """
        said = await asyncio.to_thread(self.home.starter, "audit", "--json")
        audit = said.json
        applied = {each["key"] for each in audit["effects"] if _once(each)}
        keys = [key for course in self.courses for key in course.keys]
        amiss = [each for course in self.courses for each in course.amiss()]
        amiss += [f"{key}: not once in the ledger" for key in {*keys} - applied]
        self.findings.none(f"of {len(keys)} effects not exactly once", amiss)
        broken = [*audit["violations"], *(f"{each} is open" for each in audit["open"])]
        broken += [said.err] if said.code and not broken else []
        self.findings.none("violations in the audit", broken)
        attempts, refused = audit["attempts"], audit["stale_refused"]
        self.findings.note(f"{attempts} attempts, {refused} stale writes refused")

    def judge_overlaps(self) -> None:
        overlaps = [each for course in self.courses for each in course.overlaps()]
        self.findings.none("lines of an attempt that a later one had taken", overlaps)

    def tell_notices(self) -> None:
        """
        Say what noticed the ends of attempts. One that died "before it began", between
        the poll and the first record, is in no recorder: its parent asked the server.
        """
        told = [each for course in self.courses for each in course.attempts()]
        noticed = Counter(filter(None, (each["previous_failure"] for each in told)))
        for cause, count in noticed.most_common():
            waits = [
                each["recovery_s"] for each in told if each["previous_failure"] == cause
            ]
            known = [each for each in waits if each is not None]
            more = f"; next after {statistics.median(known):.2f} s" if known else ""
            self.findings.note(f"{count} attempts ended by: {cause}{more}")


@asynccontextmanager
async def ground(findings: EnduranceFindings) -> AsyncIterator[EnduranceSetup]:
    """
    A home that is gone afterwards, with everything that runs on it.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        home = Home(folder, DevServer(folder, *choose_ports(None, None)))
        home.extra["OUTLAST_SLOTS"] = "8"
        await home.server.start()
        store = Store(folder / "store.db")
        try:
            # It listens before it is healthy.
            os.environ["TEMPORAL_ADDRESS"] = home.server.address
            client = await connect_when_available(asyncio.Event(), "endurance")
            assert client is not None
            yield EnduranceSetup(home, client, store, findings)
        finally:
            store.close()
            await asyncio.to_thread(home.close)


def _once(effect: dict[str, Any]) -> bool:
    return (effect["state"], effect["applied"]) == ("applied", 1)


async def looked(look: Any, what: str) -> Any:
    return await asyncio.to_thread(wait_for, look, what)


def orphans(home: Home) -> Iterator[int]:
    for pid, command in processes_of(home.path):
        with suppress(OSError):
            if "outlast.fleet" in " ".join(command) and not _has_parent(pid):
                yield pid


def _has_parent(pid: int) -> bool:
    while pid > 1:
        if {"worker.py", "outlast.worker"} & set(command_of(pid)):
            return True
        pid = parent_of(pid)
    return False
