"""
The watchdog: when a live process is as good as dead. Pure, but for reading /proc.

Its limits on silence are those of `Timing`: a stopped process is killed after a second;
one whose event loop is blocked is reported after a second and killed after five, of the
clock when it does nothing, of the processor when it computes, later where the machine
has none to give.
Above its memory cap it is killed; above the soft limit it is replaced when it has
nothing in flight, or at the latest after half a minute.

A process with leaked attempts is replaced, too. A thread cannot be killed, and a
coroutine may swallow its cancellation: their attempts are over for their missions, but
they keep a thread, memory and whatever they hold until their process ends.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from outlast.contracts.timing import DEFAULT_TIMING, Timing

# Share of the memory cap from which on a process is replaced, unless it has grown less
# than that since its start; and how long its attempts have to finish.
RECYCLE_SHARE = 0.75
RECYCLE_GROWTH = 1.25
RECYCLE_LIMIT_S = 30.0
# A leak may end by itself, as a plain agent that asks ctx.cancelled does.
LEAK_GRACE_S = 1.0
# So many leaked calls are not waited for: each holds a thread of the plain agents.
MAX_LEAKED = 8
# From this share of a core on, a silent process is busy.
BUSY_CPU_SHARE = 0.2
# How often the parent checks.
WATCHDOG_CHECK_S = DEFAULT_TIMING.check_s
# How late the parent may check and trust what it sees.
LATE_CHECK_S = 0.5

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
MEMORY_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessStats:
    """
    What can be seen of a process from outside, now.
    """

    tick: float  # of its event loop, in monotonic seconds
    cpu_s: float
    stopped: bool
    memory_bytes: int


class KillReason(Enum):
    """
    Why the watchdog kills a process.
    """

    MEMORY = auto()  # over the cap; never forgiven
    STOPPED = auto()  # by a signal, from anywhere
    BUSY = auto()  # its event loop does not turn, and it computes
    IDLE = auto()  # its event loop does not turn, and it does nothing


@dataclass(frozen=True)
class KillDecision:
    """
    A reason to kill, and the sentence for people.
    """

    reason: KillReason
    sentence: str


@dataclass
class Watchdog:
    """
    Judges one process from check to check.

    :param memory_cap: bytes above which it is killed, 0 for none.
    :param timing: how long it may be silent.
    """

    memory_cap: int = 0
    timing: Timing = DEFAULT_TIMING
    _recycle_since: float | None = None
    _first_bytes: int | None = None
    _tick: float = 0.0
    _since: float = 0.0  # when the silence began, as far as we could have noticed
    _cpu_s: float = 0.0  # used up to then
    _checked_at: float = field(default=0.0)

    def kill_reason(
        self, now: float, stats: ProcessStats, waits: Callable[[], bool] = lambda: False
    ) -> KillDecision | None:
        """
        Decide why the process must be killed; None when it may live.

        :param waits: whether it would run if it had a processor; asked only when it
            seems to do nothing.
        """
        late = now - self._checked_at > LATE_CHECK_S
        self._checked_at = now
        if stats.tick != self._tick or late:
            # It ticks, or we were away and know nothing of the meantime.
            self._tick, self._since, self._cpu_s = stats.tick, now, stats.cpu_s
        if self.memory_cap and stats.memory_bytes > self.memory_cap:
            cap = f"memory over the cap of {self.memory_cap // 2**20} MB"
            return KillDecision(KillReason.MEMORY, cap)
        return self._unresponsive_reason(stats, self.silence_s, waits)

    @property
    def silence_s(self) -> float:
        """
        How long it had been silent at the last check.
        """
        return self._checked_at - self._since

    def _unresponsive_reason(
        self, stats: ProcessStats, silence: float, waits: Callable[[], bool]
    ) -> KillDecision | None:
        timing = self.timing
        if stats.stopped:
            if silence <= timing.stopped_limit_s:
                return None
            return KillDecision(KillReason.STOPPED, f"stopped for {silence:.1f} s")
        if silence <= timing.blocked_limit_s:
            return None
        used_s = stats.cpu_s - self._cpu_s
        if used_s >= timing.blocked_limit_s or silence > timing.starved_limit_s:
            return KillDecision(KillReason.BUSY, f"silent and busy for {silence:.1f} s")
        if used_s < BUSY_CPU_SHARE * silence and not waits():
            return KillDecision(KillReason.IDLE, f"silent and idle for {silence:.1f} s")
        return None

    def should_recycle(
        self, now: float, stats: ProcessStats, idle: Callable[[], bool]
    ) -> bool:
        """
        Decide whether the process should drain and make room for a fresh one.
        """
        if self._first_bytes is None:
            self._first_bytes = stats.memory_bytes
        # One that starts large would be replaced for ever by others as large.
        soft = max(RECYCLE_SHARE * self.memory_cap, RECYCLE_GROWTH * self._first_bytes)
        if not self.memory_cap or stats.memory_bytes <= soft:
            self._recycle_since = None
            return False
        if self._recycle_since is None:
            self._recycle_since = now
        return idle() or now - self._recycle_since > RECYCLE_LIMIT_S


@dataclass
class Leaks:
    """
    Judges the leaks of one process from check to check.

    :param quarantined: it takes one attempt at a time, and no other may wait for it.
    """

    quarantined: bool = False
    _since: float | None = None

    def should_recycle(self, now: float, leaked: int, idle: Callable[[], bool]) -> bool:
        """
        Decide whether the process should drain and make room for a fresh one.

        :param leaked: calls that still run in it though their attempts are over.
        :param idle: whether it has nothing else in flight.
        """
        if not leaked:
            self._since = None  # they have ended by themselves
            return False
        if self._since is None:
            self._since = now
        if self.quarantined or leaked >= MAX_LEAKED:
            return True
        age_s = now - self._since
        return age_s > RECYCLE_LIMIT_S or (age_s > LEAK_GRACE_S and idle())


def read_stats(pid: int, tick: float) -> ProcessStats | None:
    """
    Read the stats of the process *pid*; None where there is no /proc or it is gone.
    """
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        # The name in parentheses may hold spaces: what follows it does not.
        stat = os.read(file, 4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return None
    finally:
        os.close(file)
    state = stat[0].decode()
    if state in "ZX":
        return None  # dead already, for a cause of its own
    cpu_s = (int(stat[11]) + int(stat[12])) / TICKS_A_SECOND
    return ProcessStats(tick, cpu_s, state in "Tt", int(stat[21]) * MEMORY_PAGE_BYTES)


def has_runnable_thread(pid: int) -> bool:
    """
    Whether a thread of the process *pid* could run now: then it is not frozen but
    starved by other processes.
    """
    tasks = f"/proc/{pid}/task"
    try:
        return any(_state(f"{tasks}/{each}/stat") == "R" for each in os.listdir(tasks))
    except OSError:
        return False


def _state(stat: str) -> str:
    with open(stat, "rb", buffering=0) as file:
        return file.read(4096).rpartition(b")")[2].split()[0].decode()
