"""
The storm: a mesh is given many tasks while one peer after the other dies and returns.

Deaths keep their own pace and go on until the last task is done, however long a peer
takes to return; where that is long, only two of them may be at work.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from testkit.peers import Peer, equal, whole
from testkit.processes import wait_for

EVERY_S = 5.0
FEWEST = 2  # so many work at any time
SUBMIT_PACE_S = 0.25  # between two submissions, so that deaths come in their midst
STORM_CHECK_S = 1.0
STORM_LIMIT_S = 3600.0

Submit = Callable[[Peer], str | None]


@dataclass
class StormResult:
    """
    What a storm has left behind.

    :param gaps: the seconds between two deaths.
    :param returns: the seconds from each start of a peer until it works again.
    :param left: the tasks without a completed result that all peers agree on, each
        with its state at every peer.
    """

    seconds: float
    deaths: int
    gaps: list[float]
    returns: list[float]
    tasks: list[str]
    left: dict[str, list[Any]] = field(default_factory=dict)


class PeerKills(threading.Thread):
    """
    Every 5 s one of *peers* is killed whole, and begins to return 5 s later, however
    long others take; later only where fewer than two would be left.
    """

    def __init__(self, peers: list[Peer], dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.at: list[float] = []  # when each was, in seconds of the monotonic clock
        self.returns: list[float] = []
        self.away: list[Peer] = []
        self._peers = peers
        self._dice = dice
        self._over = threading.Event()
        self._returning: list[threading.Thread] = []
        self._error: Exception | None = None

    @property
    def up(self) -> list[Peer]:
        away = list(self.away)
        return [each for each in self._peers if each not in away]

    def run(self) -> None:
        try:
            while not self._over.wait(self._pause_s()):
                if len(self.up) > FEWEST:
                    self._kill(self._dice.choice(self.up))
        except Exception as error:  # the edge of a thread: `end` raises it
            self._error = error

    def end(self) -> None:
        self._over.set()
        self.join()
        for each in self._returning:
            each.join()
        if self._error is not None:
            raise self._error

    def _pause_s(self) -> float:
        due = self.at[-1] + EVERY_S if self.at else 0.0
        return max(0.1, due - time.monotonic())

    def _kill(self, victim: Peer) -> None:
        self.away.append(victim)
        self.at.append(time.monotonic())
        victim.kill()
        returning = threading.Thread(target=self._return, args=[victim], daemon=True)
        self._returning.append(returning)
        returning.start()

    def _return(self, peer: Peer) -> None:
        self._over.wait(EVERY_S)
        began = time.monotonic()
        try:
            peer.start()
            peer.wait_until_ready()
        except Exception as error:  # the edge of a thread: `end` raises it
            self._error = error
            return
        self.returns.append(time.monotonic() - began)
        self.away.remove(peer)


def run_storm(
    peers: list[Peer], submit: Submit, count: int, dice: random.Random
) -> StormResult:
    """
    Hand in *count* tasks to random *peers* under deaths, and wait for all of them.
    """
    began = time.monotonic()
    deaths = PeerKills(peers, dice)
    deaths.start()
    tasks = _hand_in(deaths, submit, count, dice)
    _wait_until_done(deaths, began + STORM_LIMIT_S)
    seconds = time.monotonic() - began
    deaths.end()
    wait_for(lambda: whole(peers) and equal(peers), "a whole mesh", 300)
    gaps = [later - earlier for earlier, later in pairwise(deaths.at)]
    told = StormResult(seconds, len(deaths.at), gaps, deaths.returns, tasks)
    told.left = _left(peers, tasks)
    return told


def _hand_in(
    deaths: PeerKills, submit: Submit, count: int, dice: random.Random
) -> list[str]:
    accepted: list[str] = []
    while len(accepted) < count and deaths.is_alive():
        task = submit(dice.choice(deaths.up))
        accepted += [task] if task else []
        time.sleep(SUBMIT_PACE_S)
    return accepted


def _wait_until_done(deaths: PeerKills, deadline: float) -> None:
    """
    Wait until no peer that can be asked knows of anything to do. What some only think
    is done is found later, among what is left.
    """
    while deaths.is_alive() and time.monotonic() < deadline:
        time.sleep(STORM_CHECK_S)
        told = [each.ask("counts") for each in deaths.up]
        if all(each is not None and each["open"] == 0 for each in told):
            return


def _left(peers: list[Peer], tasks: list[str]) -> dict[str, list[Any]]:
    told = [{each["task"]: each for each in peer.ask("status") or []} for peer in peers]
    states = {task: [by.get(task) for by in told] for task in tasks}
    return {task: each for task, each in states.items() if not _is_settled(each)}


def _is_settled(told: list[dict[str, Any] | None]) -> bool:
    first = told[0]
    agreed = all(each == first for each in told)
    return agreed and first is not None and first["state"] == "completed"
