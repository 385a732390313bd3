"""
How worker processes ended: in words, and what of it tells who is to blame.

The kills of a fleet are its weather. A suspect's own earlier deaths are no weather to
it: each kill is kept with the names of what was in hand.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from outlast.contracts.failures import Detector
from outlast.contracts.ids import LeaseId, parse
from outlast.contracts.quarantine import SAME_S, UNSEEN, Death
from outlast.fleet.monitor import Child
from outlast.fleet.oom import OomKills
from outlast.fleet.process_kinds import Blame, Kind
from outlast.fleet.recorder_reader import InHand, killed_itself

# Of what a process does itself; anybody may send it the others.
OWN_SIGNALS = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE),
    *(signal.SIGSYS, signal.SIGTRAP, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGPIPE),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
}

# The kills of a fleet that are kept: those of a storm while a task waits.
KEPT = 200

Name = tuple[str, str | int]  # of a mission or batch, and a task or item of it


@dataclass
class Kill:
    """
    The end of a process that does not explain itself.
    """

    at: float
    alone: bool  # in the process for quarantine
    suspect: bool = False  # a suspect was at work there, and may have caused it
    in_hand: frozenset[Name] = frozenset()


@dataclass(frozen=True)
class Exit:
    """
    How a worker process ended, as it is reported of what it had in hand.

    :param handed_on: it was asked to leave, and an agent's handler of that signal
        ended it: no crash of its attempts.
    :param kills: of its fleet before it, the latest first.
    :param watched_s: for how long the fleet had been there.
    """

    cause: str
    detector: Detector = Detector.EXIT
    drained: bool = False
    handed_on: bool = False
    blame: Blame = Blame.NOBODY
    at: float = 0.0
    kill: Kill | None = None
    kills: tuple[Kill, ...] = ()
    watched_s: float = 0.0

    def had_in_hand(self, hands: Iterable[InHand], idle: bool) -> None:
        """
        Keep what the process had in hand, for the deaths that come after it.

        :param idle: all of it had returned.
        """
        if self.kill is not None:
            self.kill.in_hand = frozenset().union(*map(_names, hands))
            self.kill.suspect = self.kill.alone and not idle

    def death(self, hand: InHand | None = None) -> Death:
        """
        Say what is known of the death for what was in hand.
        """
        if self.blame is Blame.NOBODY:
            return UNSEEN
        names = _names(hand) if hand else frozenset()
        others = [each for each in self.kills if not each.in_hand & names]
        return Death(
            own=self.blame is Blame.OWN,
            other_s=self._since(others),
            outside_s=self._since(each for each in others if not each.suspect),
            watched_s=self.watched_s,
        )

    @property
    def in_storm(self) -> bool:
        """
        Whether it was killed like others right before it.
        """
        latest_s = self._since(self.kills)
        return self.kill is not None and latest_s is not None and latest_s <= SAME_S

    def _since(self, kills: Iterable[Kill]) -> float | None:
        return next((round(self.at - each.at, 3) for each in kills), None)


class Exits:
    """
    Reads the end of each process of a fleet, and keeps the kills among them.

    :param oom_kills: of the cgroup that the fleet is in.
    """

    def __init__(
        self, oom_kills: OomKills, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._oom_kills = oom_kills
        self._clock = clock
        self._began = clock()
        self._kills: deque[Kill] = deque(maxlen=KEPT)  # the latest first

    def read(self, child: Child, code: int | None, recorder: Path) -> Exit:
        """
        Read the end of *child*, which left *recorder*, by its exit *code*.
        """
        cause, blame = child.killed_for or cause_of(code), _blame(child, code)
        if blame is Blame.OPEN and code == -signal.SIGKILL and not child.killed_for:
            if killed_itself(recorder):
                cause, blame = f"{cause}, which its own code has sent", Blame.OWN
            elif self._oom_kills.lately():
                cause, blame = f"{cause}, out of memory", Blame.OWN
        now, before = self._clock(), tuple(self._kills)
        alone = child.kind is Kind.ALONE
        kill = Kill(now, alone) if blame is Blame.OPEN else None
        if kill is not None:
            self._kills.appendleft(kill)
        return Exit(
            cause,
            Detector.WATCHDOG if child.killed_for else Detector.EXIT,
            drained=child.state == "drained",
            handed_on=child.leave.is_set() and code == -signal.SIGTERM,
            blame=blame,
            at=now,
            kill=kill,
            kills=before,
            watched_s=now - self._began,
        )


def _blame(child: Child, code: int | None) -> Blame:
    if child.killed_for:
        return child.blame
    blame = blame_of(code)
    # It has said why it cannot go on, or we have killed it since it did not drain.
    said = child.ending is not None or child.state == "drained"
    if said or (child.leave.is_set() and blame is Blame.OPEN):
        return Blame.NOBODY
    return blame


def _names(hand: InHand) -> frozenset[Name]:
    value = hand.checkpoint.value if hand.checkpoint else None
    is_lease = parse(LeaseId, hand.task) is not None
    items = value if is_lease and isinstance(value, list) else []
    names: list[str | int] = [hand.task]
    names += [each for each in items if isinstance(each, int)]
    return frozenset((hand.mission, each) for each in names)


def blame_of(code: int | None) -> Blame:
    """
    Say who is to blame for an end with this exit *code*, as far as it tells.
    """
    if code is None:
        return Blame.NOBODY
    own = code >= 0 or -code in OWN_SIGNALS
    return Blame.OWN if own else Blame.OPEN


def cause_of(code: int | None) -> str:
    """
    Say in words how a process ended.
    """
    if code is None:
        return "it died"
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"exited with code {code}"
