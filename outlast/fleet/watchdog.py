"""
The watchdog: when a live process is as good as dead. Pure, but for reading /proc.

Its limits on silence are those of `Timing`: a stopped process is killed after a second;
one whose event loop is blocked is reported after a second and killed after five, of the
clock when it does nothing, of the processor when it computes, later where the machine
has none to give.
Two limits on memory: above the cap it is killed, above the soft limit it is worn and is
replaced when it has nothing in hand, or at the latest after half a minute.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from outlast.contracts.policies import SHIPPED, Timing

# Share of the memory cap from which on a process is worn, and how long it may stay so.
SOFT_SHARE = 0.75
BORN_SHARE = 1.25
WORN_LIMIT_S = 30.0
# From this share of a core on, a silent process is busy.
BUSY_SHARE = 0.2
# How often the parent looks.
LOOK_S = SHIPPED.look_s
# How late the parent may look and trust what it sees.
LATE_S = 0.5

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sight:
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
class Conviction:
    """
    A reason to kill, with the sentence for people.
    """

    reason: KillReason
    sentence: str


@dataclass
class Watchdog:
    """
    Judges one process from look to look.

    :param memory_cap: bytes above which it is killed, 0 for none.
    :param timing: how long it may be silent.
    """

    memory_cap: int = 0
    timing: Timing = SHIPPED
    _worn_at: float | None = None
    _born_bytes: int | None = None
    _tick: float = 0.0
    _since: float = 0.0  # when the silence began, as far as we could have noticed
    _cpu_s: float = 0.0  # used up to then
    _looked_at: float = field(default=0.0)

    def judge(
        self, now: float, sight: Sight, waits: Callable[[], bool] = lambda: False
    ) -> Conviction | None:
        """
        Say why the process must be killed, or None when it may live.

        :param waits: whether it would work, had it a processor; asked only when it
            seems to do nothing.
        """
        late = now - self._looked_at > LATE_S
        self._looked_at = now
        if sight.tick != self._tick or late:
            # It ticks, or it is us who were away and know nothing of the meantime.
            self._tick, self._since, self._cpu_s = sight.tick, now, sight.cpu_s
        if self.memory_cap and sight.memory_bytes > self.memory_cap:
            cap = f"memory over the cap of {self.memory_cap // 2**20} MB"
            return Conviction(KillReason.MEMORY, cap)
        return self._silent_for_too_long(sight, self.silence_s, waits)

    @property
    def silence_s(self) -> float:
        """
        How long it had been silent when it was looked at last.
        """
        return self._looked_at - self._since

    def _silent_for_too_long(
        self, sight: Sight, silence: float, waits: Callable[[], bool]
    ) -> Conviction | None:
        timing = self.timing
        if sight.stopped:
            if silence <= timing.stopped_limit_s:
                return None
            return Conviction(KillReason.STOPPED, f"stopped for {silence:.1f} s")
        if silence <= timing.blocked_limit_s:
            return None
        used_s = sight.cpu_s - self._cpu_s
        if used_s >= timing.blocked_limit_s or silence > timing.starved_limit_s:
            return Conviction(KillReason.BUSY, f"silent and busy for {silence:.1f} s")
        if used_s < BUSY_SHARE * silence and not waits():
            return Conviction(KillReason.IDLE, f"silent and idle for {silence:.1f} s")
        return None

    def worn(self, now: float, sight: Sight, idle: Callable[[], bool]) -> bool:
        """
        Say whether the process should drain and make room for a fresh one.
        """
        if self._born_bytes is None:
            self._born_bytes = sight.memory_bytes
        # One that is born large would be replaced for ever by others as large.
        soft = max(SOFT_SHARE * self.memory_cap, BORN_SHARE * self._born_bytes)
        if not self.memory_cap or sight.memory_bytes <= soft:
            self._worn_at = None
            return False
        if self._worn_at is None:
            self._worn_at = now
        return idle() or now - self._worn_at > WORN_LIMIT_S


def see(pid: int, tick: float) -> Sight | None:
    """
    Look at the process *pid*; None where there is no /proc or it is gone.
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
    return Sight(tick, cpu_s, state in "Tt", int(stat[21]) * PAGE_BYTES)


def waits_for_cpu(pid: int) -> bool:
    """
    Say whether a thread of the process *pid* could run now: then it is not frozen but
    starved, by whatever else the machine does.
    """
    tasks = f"/proc/{pid}/task"
    try:
        return any(_state(f"{tasks}/{each}/stat") == "R" for each in os.listdir(tasks))
    except OSError:
        return False


def _state(stat: str) -> str:
    with open(stat, "rb", buffering=0) as file:
        return file.read(4096).rpartition(b")")[2].split()[0].decode()
