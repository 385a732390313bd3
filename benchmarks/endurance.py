"""
What a fleet endures: the loss of its parent, killers among innocents, a storm of kills.

    python -m benchmarks.endurance [--kills 1000] [--parents 10]

Every fault is a real SIGKILL of a real process. Each bound is printed as ok or MISSED;
exit code 1 says that one was missed. For Linux: what is left is looked for in /proc.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client

from drills.real import Fleet, Home, events, wait_for
from outlast.contracts.models import Mission, Outcome, Report, Status
from outlast.fleet.recorder import recorders
from outlast.runtime.connect import connect_patiently
from outlast.runtime.embedded import Server, choose_ports
from outlast.runtime.start import Started, start
from outlast.store.database import Store

# A mission without a report so long after it could go on has been lost.
END_LIMIT_S = 60.0
SETTLE_S = (0.1, 0.6)  # a fault hits any moment of a step
BIRTH_S = (0.0, 0.4)  # from the death of a worker until the next one polls
SHOWN = 20  # lines of evidence for a bound that was missed

TASKS = 6  # of a mission, but for the killers'

# Long enough to be under way at the kill and not over before the next fleet polls.
PARENT_STEPS, PARENT_STEP_S = 60, 0.05
ORPHANS_GONE_S = 5.0

INNOCENTS, KILLER_TRIALS = 12, 3
FATAL_STEPS = (1, 3)  # of the two killers
KILLED = "exit report: killed by SIGKILL"

IN_FLIGHT, STORM_PROCESSES = 4, 6
# Each step saves, so that a task seldom dies twice at one: that would make a suspect.
STORM_STEPS, STORM_STEP_S, STORM_EFFECT_S = 20, 0.05, 0.02
# The fleet brings 13 processes a second; killed as fast, none would live to work and
# every task would be a suspect. With fewer than two polling nobody makes progress.
PACE_S = (0.1, 0.25)
LEAST_POLLING = 2
SAMPLE_S = 0.25
GROWTH_SHARE, GROWTH_MB = 0.10, 10.0
# A stopped parent does not wait for its zygotes, which end within moments.
LEFT_AFTER_S = 1.0


@dataclass
class Course:
    """
    A mission under way and what its rehearsals log.
    """

    started: Started
    log: Path
    keys: list[str]
    report: Report | None = None

    @property
    def name(self) -> str:
        return self.started.id

    @property
    def status(self) -> Status | None:
        return self.report.status if self.report else None

    async def end(self, limit_s: float | None = END_LIMIT_S) -> None:
        """
        Wait for the report; a mission that is lost stays without.
        """
        with suppress(TimeoutError):
            self.report = await asyncio.wait_for(self.started.report(), limit_s)

    def outcomes(self, status: Status) -> list[Outcome]:
        tasks = self.report.tasks if self.report else []
        return [each for each in tasks if each.status is status]

    def amiss(self) -> list[str]:
        """
        Tell each effect that has not exactly one line in the log.
        """
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
        return self.started.books.attempts(self.name)


class Findings:
    """
    The bounds, printed as they are judged.
    """

    def __init__(self) -> None:
        self.held = True

    def bound(self, held: bool, told: str, evidence: Sequence[str] = ()) -> None:
        """
        Print a bound and, where it was missed, what shows that.
        """
        self.held = self.held and held
        print(f"  {'ok' if held else 'MISSED':<8}{told}", flush=True)
        for each in evidence[: 0 if held else SHOWN]:
            self.note(each)

    def none(self, what: str, found: Sequence[str]) -> None:
        """
        Judge that nothing of the kind was *found*.
        """
        self.bound(not found, f"{len(found)} {what}", found)

    def note(self, told: str) -> None:
        print(f"          {told}", flush=True)


@dataclass
class Ground:
    """
    A home with a server of its own, and the missions that run there.
    """

    home: Home
    client: Client
    store: Store
    findings: Findings
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    courses: list[Course] = field(default_factory=list)

    async def fleet(self, processes: int) -> Fleet:
        return await asyncio.to_thread(self.home.fleet, processes)

    async def begin(self, name: str, scripts: dict[str, dict[str, Any]]) -> Course:
        """
        Start a mission of rehearsals that have an effect each.
        """
        log = self.home.path / f"{name}.jsonl"
        tasks = []
        for task, script in scripts.items():
            given = {"log": str(log), "effect": f"{name}:{task}", **script}
            tasks.append({"id": task, "role": "rehearse", "input": given})
        content = {"id": name, "goal": "endure", "tasks": tasks}
        limits = {"concurrency": len(tasks)}
        mission = Mission.model_validate({**content, "limits": limits})
        started = await start(mission, client=self.client, store=self.store)
        course = Course(started, log, [f"{name}:{task}" for task in scripts])
        self.courses.append(course)
        return course

    def judge_completion(self) -> None:
        """
        Every mission completed, no task given up.
        """
        short = [each for each in self.courses if each.status is not Status.COMPLETED]
        told = f"{len(self.courses) - len(short)} of {len(self.courses)} missions done"
        self.findings.bound(not short, told, [f"{c.name}: {c.status}" for c in short])
        dead = [
            f"{course.name}/{each.id}: {each.reasons}"
            for course in self.courses
            for each in course.outcomes(Status.DEAD)
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
        Say what noticed the ends of attempts. A death between the poll and the first
        record is in no recorder, so it is the heartbeat timeout that notices it.
        """
        told = [each for course in self.courses for each in course.attempts()]
        noticed = Counter(each["noticed_by"] for each in told if each["noticed_by"])
        for cause, count in noticed.most_common():
            waits = [each["after_s"] for each in told if each["noticed_by"] == cause]
            known = [each for each in waits if each is not None]
            after = f"; next after {statistics.median(known):.2f} s" if known else ""
            self.findings.note(f"{count} attempts ended by: {cause}{after}")


@asynccontextmanager
async def ground(findings: Findings) -> AsyncIterator[Ground]:
    """
    A home that is gone afterwards, with everything that runs on it.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        home = Home(folder, Server(folder, *choose_ports(None, None)))
        home.extra["OUTLAST_SLOTS"] = "8"
        await home.server.start()
        store = Store(folder / "store.db")
        try:
            # It listens before it is healthy.
            os.environ["TEMPORAL_ADDRESS"] = home.server.address
            client = await connect_patiently(asyncio.Event(), "endurance")
            assert client is not None
            yield Ground(home, client, store, findings)
        finally:
            store.close()
            await asyncio.to_thread(home.close)


async def lose_parents(trials: int, findings: Findings) -> None:
    """
    SIGKILL the parent alone, again and again.
    """
    print(f"\nSIGKILL of the parent alone, {trials} trials", flush=True)
    async with ground(findings) as on:
        await on.fleet(2)
        seconds = [await _lose_parent(on, trial) for trial in range(trials)]
        on.judge_completion()
        await on.judge_books()
        on.judge_overlaps()
        median, worst = statistics.median(seconds), max(seconds)
        told = f"its processes gone after {median:.2f} s, at worst {worst:.2f} s"
        findings.bound(worst <= ORPHANS_GONE_S, f"{told}; bound {ORPHANS_GONE_S:g} s")
        on.tell_notices()


async def _lose_parent(on: Ground, trial: int) -> float:
    """
    Kill the fleet's parent while a mission is under way; returns the seconds until
    nothing of that fleet is left.

    In turn the next fleet starts right after, as systemd would see to; is there
    before; or starts right after, with the birth of a worker cut short by the kill.
    """
    how = ("none other alive", "another alive", "in a birth")[trial % 3]
    (lost,) = on.home.fleets
    if how == "another alive":
        await on.fleet(2)
    script = {"steps": PARENT_STEPS, "step_seconds": PARENT_STEP_S}
    course = await on.begin(f"parent{trial}", {f"t{n}": script for n in range(TASKS)})
    await _looked(lambda: len(events(course.log, "start")) >= TASKS, "all to start")
    await asyncio.sleep(on.dice.uniform(*SETTLE_S))
    if how == "in a birth":
        lost.kill_one(on.dice)
        await asyncio.sleep(on.dice.uniform(*BIRTH_S))
    lost.process.kill()
    leaving = asyncio.create_task(_until_gone(on.home))
    on.home.fleets.remove(lost)
    if not on.home.fleets:
        await on.fleet(2)
    gone_after_s = await leaving
    lost.process.wait()
    await course.end()
    on.findings.note(f"{how}: gone after {gone_after_s:.2f} s, {course.status}")
    return gone_after_s


async def _until_gone(home: Home) -> float:
    """
    Wait until nothing of a lost fleet is left; returns the seconds.
    """
    began = time.monotonic()
    await _looked(lambda: not any(_orphans(home)), "the orphans' end")
    return time.monotonic() - began


async def bear_killers(findings: Findings) -> None:
    """
    Two tasks that kill their process at every attempt, among innocents.
    """
    told = f"2 killers among {INNOCENTS} innocents on 3 processes"
    print(f"\n{told}, {KILLER_TRIALS} trials", flush=True)
    async with ground(findings) as on:
        fleet = await on.fleet(3)
        for trial in range(KILLER_TRIALS):
            await _bear_killers(on, fleet, trial)
        on.tell_notices()


async def _bear_killers(on: Ground, fleet: Fleet, trial: int) -> None:
    before = fleet.health()["restarts"]
    innocents = {f"t{n}": {"step_seconds": 0.05, "steps": 20} for n in range(INNOCENTS)}
    killers = {f"killer{step}": _killer(step) for step in FATAL_STEPS}
    course = await on.begin(f"killers{trial}", innocents | killers)
    await course.end()
    await _looked(lambda: fleet.health()["ready"], "the whole fleet")
    deaths = fleet.health()["restarts"] - before
    done = {each.id for each in course.outcomes(Status.DONE)}
    told = f"{len(done)} innocents done, {deaths} process deaths"
    on.findings.bound(done == innocents.keys(), told, [f"done: {sorted(done)}"])
    dead = {each.id: str(each.reasons) for each in course.outcomes(Status.DEAD)}
    true = dead.keys() == killers.keys() and all(KILLED in why for why in dead.values())
    told = f"{len(dead)} dead letters, the killers with their true cause"
    on.findings.bound(true, told, [f"{who}: {why}" for who, why in dead.items()])


def _killer(step: int) -> dict[str, Any]:
    """
    Make a script that kills its process at *step* of every attempt.
    """
    misdeed = {"step": step, "how": "crash"}
    return {"step_seconds": 0.05, "steps": 5, "misbehave": misdeed}


class Memory:
    """
    What the parent and its zygotes hold, in MB, sampled while they work.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._parent = fleet.process.pid
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.zygotes: set[int] = set()

    async def watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_S)

    def judge(self, findings: Findings) -> None:
        """
        Compare the second tenth of the samples, when it is warm, with the last.
        """
        for who, samples in self.samples.items():
            tenth = max(1, len(samples) // 10)
            early = statistics.median(samples[tenth : 2 * tenth])
            late = statistics.median(samples[-tenth:])
            flat = late - early <= max(GROWTH_MB, early * GROWTH_SHARE)
            told = f"{who}: {early:.1f} MB, at the end {late:.1f} MB"
            findings.bound(flat, f"{told}, {len(samples)} samples")
        findings.note(f"{len(self.zygotes)} zygotes in all")

    def _look(self) -> None:
        self.samples["parent"].append(_memory_mb(self._parent))
        for pid in _children(self._parent):
            with suppress(OSError):
                command = _command(pid)
                if "outlast.fleet.zygote" in command:
                    self.zygotes.add(pid)
                    self.samples[f"zygote of {command[-1]}"].append(_memory_mb(pid))


async def bear_storm(kills: int, findings: Findings) -> None:
    """
    SIGKILL one agent process after another while missions are under way.
    """
    print(f"\n{kills} SIGKILLs of agent processes under load", flush=True)
    async with ground(findings) as on:
        fleet = await on.fleet(STORM_PROCESSES)
        memory = Memory(fleet)
        watching = asyncio.create_task(memory.watch())
        await _under_load(on, _storm(on, fleet, kills))
        watching.cancel()
        on.judge_completion()
        await on.judge_books()
        on.judge_overlaps()
        on.tell_notices()
        _tell_suspects(on, fleet)
        memory.judge(findings)
        _judge_health(fleet.health(), kills, findings)
        await _judge_remains(on, fleet)


async def _under_load(on: Ground, storm: Coroutine[Any, Any, None]) -> None:
    """
    Keep missions under way through the *storm*, then let them end.
    """
    over = asyncio.Event()
    load = [asyncio.create_task(_keep_busy(on, n, over)) for n in range(IN_FLIGHT)]
    await storm
    over.set()
    _, lost = await asyncio.wait(load, timeout=END_LIMIT_S)
    for each in lost:
        each.cancel()


async def _keep_busy(on: Ground, number: int, over: asyncio.Event) -> None:
    """
    Have one mission after another under way.
    """
    script = {
        "steps": STORM_STEPS,
        "step_seconds": STORM_STEP_S,
        "effect_seconds": STORM_EFFECT_S,
    }
    count = 0
    while not over.is_set():
        count += 1
        tasks = {f"t{at}": script for at in range(TASKS)}
        course = await on.begin(f"storm{number}-{count}", tasks)
        await course.end(None)


async def _storm(on: Ground, fleet: Fleet, kills: int) -> None:
    killed: set[int] = set()
    began = time.monotonic()
    while len(killed) < kills:
        await asyncio.sleep(on.dice.uniform(*PACE_S))
        # The parent may not have seen the last death yet.
        polling = {*await asyncio.to_thread(fleet.pids, "agents")} - killed
        if len(polling) >= LEAST_POLLING:
            victim = on.dice.choice(sorted(polling))
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
    lasted = time.monotonic() - began
    on.findings.note(f"{kills} kills in {lasted:.0f} s, {kills / lasted:.1f} a second")


def _tell_suspects(on: Ground, fleet: Fleet) -> None:
    """
    Say how many tasks died twice at one step, all by chance here, and so ran alone.
    """
    alone = set(fleet.pids("alone"))
    suspects = {
        (course.name, each["task"])
        for course in on.courses
        for each in course.attempts()
        if each["pid"] in alone
    }
    on.findings.note(f"{len(suspects)} tasks were suspects for a while")


def _judge_health(health: dict[str, Any], kills: int, findings: Findings) -> None:
    """
    Nothing but what was killed may have died: a restart more is a fault of its own.
    """
    restarts, bites = health["restarts"], health["bites"]
    told = f"{restarts} restarts, {bites} by the watchdog, for {kills} kills"
    findings.bound(restarts <= kills, told)
    findings.note(f"{health['reported']} attempts ended by an exit report")


async def _judge_remains(on: Ground, fleet: Fleet) -> None:
    code = await asyncio.to_thread(fleet.stop)
    on.findings.bound(code == 0, f"stopped with exit code {code}")
    await asyncio.sleep(LEFT_AFTER_S)
    left = [f"{pid}: {_command(pid)}" for pid in _orphans(on.home)]
    on.findings.none("processes left", left)
    run = on.home.path / "run"
    on.findings.none("recorders left", [str(each) for each in recorders(run)])


def _once(effect: dict[str, Any]) -> bool:
    return (effect["state"], effect["applied"]) == ("applied", 1)


async def _looked(look: Any, what: str) -> Any:
    return await asyncio.to_thread(wait_for, look, what)


def _orphans(home: Home) -> Iterator[int]:
    """
    Find the processes of this home's fleets that have no living parent; a zombie has
    no environment any more and is none.
    """
    mark = f"OUTLAST_HOME={home.path}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(folder.name)
            ours = mark in (folder / "environ").read_bytes().split(b"\0")
            worker = "outlast.fleet" in " ".join(_command(pid))
            if ours and worker and not _has_parent(pid):
                yield pid


def _has_parent(pid: int) -> bool:
    """
    Say whether a fleet's parent is among the ancestors of *pid*.
    """
    while pid > 1:
        if "worker.py" in _command(pid):
            return True
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return False


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in tasks for child in each.read_text().split()]


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def endure(parents: int, kills: int) -> bool:
    """
    Run all three; returns whether every bound held.
    """
    findings = Findings()
    if parents:
        await lose_parents(parents, findings)
    await bear_killers(findings)
    if kills:
        await bear_storm(kills, findings)
    return findings.held


def main() -> int:
    """
    Run what is asked for and print what was found.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--parents", type=int, default=10)
    args = parser.parse_args()
    return int(not asyncio.run(endure(args.parents, args.kills)))


if __name__ == "__main__":
    sys.exit(main())
