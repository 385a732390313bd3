"""
One agent process after another is killed while missions are under way.
"""

import asyncio
import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from benchmarks.endurance_setup import (
    ENDURANCE_END_S,
    EnduranceFindings,
    EnduranceSetup,
    ground,
    orphans,
)
from outlast.fleet.recorder_reader import recorder_files
from testkit.proc import children_of, command_of, memory_mb
from testkit.processes import FleetProcess

IN_FLIGHT, STORM_PROCESSES = 4, 6
# Each step saves, so that a task seldom dies twice at one: that would make a suspect.
STORM_TASKS, STORM_STEPS, STORM_STEP_S, STORM_EFFECT_S = 6, 20, 0.05, 0.02
# The fleet brings 13 processes a second; killed as fast, none would live to work and
# every task would be a suspect. With fewer than two polling nothing makes progress.
STORM_PACE_S = (0.1, 0.25)
LEAST_POLLING = 2
STORM_SEEN_S = 5.0
SAMPLE_S = 0.25
GROWTH_SHARE, GROWTH_MB = 0.10, 10.0
# A stopped parent does not wait for its fork servers, which end within moments.
LEFT_AFTER_S = 1.0


class Memory:
    """
    What the parent and its fork servers hold, in MB, sampled while they work.
    """

    def __init__(self, fleet: FleetProcess) -> None:
        self._parent = fleet.process.pid
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.fork_servers: set[int] = set()

    async def watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_S)

    def judge(self, findings: EnduranceFindings) -> None:
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
        findings.note(f"{len(self.fork_servers)} fork servers in all")

    def _look(self) -> None:
        self.samples["parent"].append(memory_mb(self._parent))
        for pid in children_of(self._parent):
            with suppress(OSError):
                command = command_of(pid)
                if "outlast.fleet.fork_server" in command:
                    self.fork_servers.add(pid)
                    self.samples[f"fork server of {command[-1]}"].append(memory_mb(pid))


async def bear_storm(kills: int, findings: EnduranceFindings) -> None:
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


async def _under_load(on: EnduranceSetup, storm: Coroutine[Any, Any, None]) -> None:
    over = asyncio.Event()
    load = [asyncio.create_task(_keep_busy(on, n, over)) for n in range(IN_FLIGHT)]
    await storm
    over.set()
    _, lost = await asyncio.wait(load, timeout=ENDURANCE_END_S)
    for each in lost:
        each.cancel()


async def _keep_busy(on: EnduranceSetup, number: int, over: asyncio.Event) -> None:
    script = {
        "steps": STORM_STEPS,
        "step_seconds": STORM_STEP_S,
        "effect_seconds": STORM_EFFECT_S,
    }
    count = 0
    while not over.is_set():
        count += 1
        tasks = {f"t{at}": script for at in range(STORM_TASKS)}
        course = await on.begin(f"storm{number}-{count}", tasks)
        await course.end(None)


async def _storm(on: EnduranceSetup, fleet: FleetProcess, kills: int) -> None:
    killed: dict[int, float] = {}  # pid: when last; the kernel gives each out again
    began, count = time.monotonic(), 0
    while count < kills:
        await asyncio.sleep(on.dice.uniform(*STORM_PACE_S))
        # The parent may not have seen the last deaths yet.
        lately = {
            pid for pid, at in killed.items() if time.monotonic() - at < STORM_SEEN_S
        }
        polling = {*await asyncio.to_thread(fleet.pids, "agents")} - lately
        if len(polling) >= LEAST_POLLING:
            victim = on.dice.choice(sorted(polling))
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed[victim] = time.monotonic()
                count += 1
    lasted = time.monotonic() - began
    on.findings.note(f"{kills} kills in {lasted:.0f} s, {kills / lasted:.1f} a second")


def _tell_suspects(on: EnduranceSetup, fleet: FleetProcess) -> None:
    """
    Say how many tasks died twice at one step, all by chance here, and so ran alone.
    """
    alone = set(fleet.pids("quarantine"))
    suspects = {
        (course.name, each["task"])
        for course in on.courses
        for each in course.attempts()
        if each["pid"] in alone
    }
    on.findings.note(f"{len(suspects)} tasks were suspects for a while")


def _judge_health(
    health: dict[str, Any], kills: int, findings: EnduranceFindings
) -> None:
    """
    Nothing but what was killed may have died: a restart more is a fault of its own.
    """
    restarts, hung = health["restarts"], health["watchdog_kills"]
    told = f"{restarts} restarts, {hung} by the watchdog, for {kills} kills"
    findings.bound(restarts <= kills, told)
    findings.note(f"{health['reported']} attempts ended by an exit report")


async def _judge_remains(on: EnduranceSetup, fleet: FleetProcess) -> None:
    code = await asyncio.to_thread(fleet.stop)
    on.findings.bound(code == 0, f"stopped with exit code {code}")
    await asyncio.sleep(LEFT_AFTER_S)
    left = [f"{pid}: {command_of(pid)}" for pid in orphans(on.home)]
    on.findings.none("processes left", left)
    run = on.home.path / "run"
    on.findings.none("recorders left", [str(each) for each in recorder_files(run)])
