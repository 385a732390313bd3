"""
How worker processes ended: in words, and what of it tells which attempt is to blame.

Kills from outside come in storms, and are no evidence against what a process ran. A
suspect's own earlier deaths are no storm to it: each kill is kept with the names of
what was in flight.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from outlast.contracts.failures import Detector
from outlast.contracts.ids import LeaseId, parse
from outlast.contracts.quarantine import SAME_STORM_S, UNSEEN_DEATH, Death
from outlast.fleet.oom import OomKills
from outlast.fleet.process_kinds import Attribution, ProcessKind, ProcessState
from outlast.fleet.process_slot import ProcessSlot
from outlast.fleet.recorder_reader import InFlightAttempt, read_header

# What a process causes by itself; any other process may send it the others.
OWN_SIGNALS = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE),
    *(signal.SIGSYS, signal.SIGTRAP, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGPIPE),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
}

# The kills of a fleet that are kept: those of a storm while a task waits.
MAX_KILLS = 200

AttemptKey = tuple[str, str | int]  # of a mission or batch, and a task or item of it


@dataclass
class Kill:
    """
    The end of a process that does not explain itself.
    """

    at: float
    lone: bool  # in the process for quarantine
    suspect: bool = False  # a suspect was at work there, and may have caused it
    in_flight: frozenset[AttemptKey] = frozenset()


@dataclass(frozen=True)
class Exit:
    """
    How a worker process ended, as it is reported of what it had in flight.

    :param handed_back: it was asked to drain, and an agent's handler of that signal
        ended it: no crash of its attempts.
    :param kills: of its fleet before it, the latest first.
    :param watched_s: for how long the fleet had been there.
    """

    cause: str
    detector: Detector = Detector.EXIT
    drained: bool = False
    handed_back: bool = False
    attribution: Attribution = Attribution.NONE
    at: float = 0.0
    kill: Kill | None = None
    kills: tuple[Kill, ...] = ()
    watched_s: float = 0.0

    def set_in_flight(self, attempts: Iterable[InFlightAttempt], idle: bool) -> None:
        """
        Keep what the process had in flight, for the deaths that come after it.

        :param idle: all of it had returned.
        """
        if self.kill is not None:
            self.kill.in_flight = frozenset().union(*map(_names, attempts))
            self.kill.suspect = self.kill.lone and not idle

    def death(self, attempt: InFlightAttempt | None = None) -> Death:
        """
        Describe the death for *attempt*, which was in flight.
        """
        if self.attribution is Attribution.NONE:
            return UNSEEN_DEATH
        names = _names(attempt) if attempt else frozenset()
        others = [each for each in self.kills if not each.in_flight & names]
        return Death(
            own=self.attribution is Attribution.OWN,
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
        return (
            self.kill is not None and latest_s is not None and latest_s <= SAME_STORM_S
        )

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
        self._kills: deque[Kill] = deque(maxlen=MAX_KILLS)  # the latest first

    def read(self, slot: ProcessSlot, code: int | None, recorder: Path) -> Exit:
        """
        Read the end of the process of *slot* by its exit *code* and its *recorder*.
        """
        cause, attribution = self._judge(slot, code, recorder)
        now, before, kill = self._clock(), tuple(self._kills), None
        if attribution is Attribution.OPEN:
            kill = Kill(now, lone=slot.kind is ProcessKind.QUARANTINE)
            self._kills.appendleft(kill)
        return Exit(
            cause,
            Detector.WATCHDOG if slot.killed_for else Detector.EXIT,
            drained=slot.state is ProcessState.DRAINED,
            handed_back=slot.draining.is_set() and code == -signal.SIGTERM,
            attribution=attribution,
            at=now,
            kill=kill,
            kills=before,
            watched_s=now - self._began,
        )

    def _judge(
        self, slot: ProcessSlot, code: int | None, recorder: Path
    ) -> tuple[str, Attribution]:
        """
        Say why the process of *slot* ended, and who is to blame.
        """
        if slot.killed_for:
            return slot.killed_for, slot.attribution
        cause, attribution = cause_of(code), attribution_of(code)
        drains = slot.draining.is_set() and attribution is Attribution.OPEN
        if drains or slot.exit_reason or slot.state is ProcessState.DRAINED:
            # We have killed it since it did not drain, or it has said why it ends.
            return cause, Attribution.NONE
        if code == -signal.SIGKILL:
            header = read_header(recorder)
            if header is not None and header.kills_itself:
                return f"{cause}, which its own code has sent", Attribution.OWN
            if self._oom_kills.is_recent():
                return f"{cause}, out of memory", Attribution.OWN
        return cause, attribution


def _names(attempt: InFlightAttempt) -> frozenset[AttemptKey]:
    value = attempt.checkpoint.value if attempt.checkpoint else None
    is_lease = parse(LeaseId, attempt.task) is not None
    items = value if is_lease and isinstance(value, list) else []
    names: list[str | int] = [attempt.task]
    names += [each for each in items if isinstance(each, int)]
    return frozenset((attempt.mission, each) for each in names)


def attribution_of(code: int | None) -> Attribution:
    """
    Say who is to blame for an end with this exit *code*, as far as it tells.
    """
    if code is None:
        return Attribution.NONE
    own = code >= 0 or -code in OWN_SIGNALS
    return Attribution.OWN if own else Attribution.OPEN


def cause_of(code: int | None) -> str:
    if code is None:
        return "it died"
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"exited with code {code}"
