"""
The parent's eyes: looks at its workers and ends those that are as good as dead.

Whoever is killed here has died like any other; everything else follows from that.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError

from outlast.fleet.blockage import Blockage
from outlast.fleet.leaks import Leaks
from outlast.fleet.missed_polls import LISTEN_S, Ear, hear
from outlast.fleet.oom import OomKills
from outlast.fleet.parent_heartbeats import SilentBeats
from outlast.fleet.process_kinds import (
    Blame,
    Ending,
    Kind,
    identity_of,
    recorder_of,
    stack_of,
)
from outlast.fleet.recorder_reader import count_in_hand, count_leaked, last_tick, leaked
from outlast.fleet.restart_intensity import Budget
from outlast.fleet.watchdog import (
    LOOK_S,
    KillReason,
    Sight,
    Watchdog,
    see,
    waits_for_cpu,
)
from outlast.fleet.worker_process import Life

logger = logging.getLogger("outlast.fleet")

# How long a worker may take until its loop turns: where it was not forked it imports
# the agents first, which on a crowded machine has taken a minute.
FIRST_SIGN_S = 120.0


@dataclass
class Child:
    """
    One place in the fleet and the process that fills it now.
    """

    kind: Kind
    life: Life | None = None
    state: str = "starting"  # starting, polling, drained, dead
    born_at: float = 0.0  # monotonic seconds
    signed: bool = False  # whether it has given a sign since
    budget: Budget = field(default_factory=Budget)
    died_young: bool = False  # before its first poll
    over: bool = False  # it has played its one attempt, and ended as it should
    restarts: int = 0
    killed_for: str | None = None
    blame: Blame = Blame.NOBODY  # for that
    polls: bool = True  # False where all agents are isolated
    ending: Ending | None = None  # as it said itself
    last_words: str = ""
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watchdog: Watchdog = field(default_factory=Watchdog)
    blockage: Blockage = field(default_factory=Blockage)
    leaks: Leaks = field(default_factory=Leaks)
    sight: Sight | None = None
    breakers: dict[str, str] = field(default_factory=dict)  # states, by service

    @property
    def pid(self) -> int | None:
        return self.life.pid if self.life else None

    @property
    def polling(self) -> bool:
        return self.state == "polling"


class Watch:
    """
    Watches *children* from look to look.

    :param bites: whether to kill the silent; memory over the cap is never forgiven.
    """

    def __init__(self, children: list[Child], home: Path, bites: bool) -> None:
        self._children = children
        self._home = home
        self._bites_the_silent = bites
        self.bites = 0
        self.oom_kills = OomKills()

    async def look(self, beats: SilentBeats) -> None:
        """
        Kill what is silent or too large, replace what is worn; send *beats* for what
        is silent and may live.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            self.oom_kills.look()
            for child in self._children:
                if child.life is not None and child.state in ("starting", "polling"):
                    self._look(child, child.life)
                    recorder = recorder_of(self._home, child.life.pid)
                    silent_s = child.watchdog.silence_s
                    beats.look(time.monotonic(), silent_s, recorder)

    def _look(self, child: Child, life: Life) -> None:
        now = time.monotonic()
        recorder = recorder_of(self._home, life.pid)
        tick = last_tick(recorder)
        child.sight = see(life.pid, tick) if tick is not None else None
        child.signed = child.signed or tick is not None
        if child.killed_for:
            return
        if child.sight is None:
            late = not child.signed and now - child.born_at > FIRST_SIGN_S
            if late and self._bites_the_silent:
                self._bite(
                    child, life, f"no sign for {FIRST_SIGN_S:g} s since its birth"
                )
            return
        found = child.watchdog.judge(now, child.sight, lambda: waits_for_cpu(life.pid))
        if not child.sight.stopped:
            stack = stack_of(self._home, life.pid)
            child.blockage.look(life.pid, stack, child.watchdog, recorder)
        if found and (self._bites_the_silent or found.reason is KillReason.MEMORY):
            frozen = found.reason is KillReason.STOPPED
            blame = Blame.OPEN if frozen else Blame.OWN
            self._bite(child, life, child.blockage.explained(found), blame)
        elif self._worn(child, now, child.sight, recorder):
            logger.info("child.worn %s %s: replaced", child.kind, life.pid)
            child.leave.set()
        elif self._leaking(child, now, recorder):
            told = ", ".join(f"{each.mission}/{each.task}" for each in leaked(recorder))
            logger.warning(
                "child.leaked %s %s: replaced, since what was ended still runs in it: "
                "%s; await something that can be cancelled, or ask ctx.cancelled",
                *(child.kind, life.pid, told),
            )
            child.leave.set()

    def _worn(self, child: Child, now: float, sight: Sight, recorder: Path) -> bool:
        serving = child.polling and not child.leave.is_set()
        return serving and child.watchdog.worn(
            now, sight, lambda: not count_in_hand(recorder)
        )

    def _leaking(self, child: Child, now: float, recorder: Path) -> bool:
        serving = child.polling and not child.leave.is_set()
        return serving and child.leaks.recycle(
            now, count_leaked(recorder), lambda: not count_in_hand(recorder)
        )

    async def listen(self, client: Callable[[], Awaitable[Client]]) -> None:
        """
        Kill what lives but polls nothing.
        """
        ear = Ear()
        while self._bites_the_silent:
            await asyncio.sleep(LISTEN_S)
            lives = {
                identity_of(child.life.pid, child.kind): child
                for child in self._children
                if child.life is not None and child.polling and child.polls
            }
            try:
                heard = await hear(await client(), set(lives))
            except RPCError:
                continue  # the server is away, or lists no workers
            for each in ear.mute(set(lives), heard):
                child = lives[each]
                if child.life is not None and child.polling:
                    self._bite(child, child.life, "it lives but polls nothing")

    def _bite(
        self, child: Child, life: Life, reason: str, blame: Blame = Blame.NOBODY
    ) -> None:
        child.killed_for, child.blame = reason, blame
        self.bites += 1
        logger.warning("watchdog.bit %s %s: %s", child.kind, life.pid, reason)
        life.kill()


def shown(child: Child, home: Path) -> dict[str, Any]:
    """
    Say how *child* is, as `GET /health` shows it.
    """
    tick = child.sight.tick if child.sight else None
    recorder = recorder_of(home, child.pid or 0)
    return {
        "pid": child.pid,
        "kind": child.kind,
        "state": child.state,
        "restarts": child.restarts,
        "in_hand": count_in_hand(recorder),
        "leaked": [asdict(each) for each in leaked(recorder)],
        "last_sign_s": round(time.monotonic() - tick, 3) if tick else None,
        "blocked": child.blockage.told or None,
        "breakers": dict(child.breakers),
        "memory_mb": child.sight.memory_bytes >> 20 if child.sight else None,
    }
