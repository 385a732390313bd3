"""
The watchdog: which silence is death, by a clock that the test turns.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import Clock

from outlast.contracts.timing import DEFAULT_TIMING, Timing
from outlast.fleet.watchdog import (
    BUSY_CPU_SHARE,
    LATE_CHECK_S,
    RECYCLE_LIMIT_S,
    RECYCLE_SHARE,
    WATCHDOG_CHECK_S,
    KillReason,
    ProcessStats,
    Watchdog,
    has_runnable_thread,
    read_stats,
)
from testkit.processes import wait_for

MB = 2**20

STOPPED_S = DEFAULT_TIMING.stopped_limit_s
BLOCKED_S = DEFAULT_TIMING.blocked_limit_s
STARVED_S = DEFAULT_TIMING.starved_limit_s


@dataclass
class Watched:
    """
    A process and the parent that looks at it.

    :param share: of a core, that it burns.
    """

    watchdog: Watchdog = field(default_factory=Watchdog)
    clock: Clock = field(default_factory=Clock)
    ticks: bool = True
    share: float = 0.0
    stopped: bool = False
    waits: bool = False  # for a processor
    memory_mb: int = 100
    tick: float = 0.0
    reason: KillReason | None = None  # of the last look
    cpu_s: float = 50.0  # used before anybody looked: no excuse for silence now

    def look(self, after_s: float = WATCHDOG_CHECK_S) -> str | None:
        """
        Let time pass, then look at it once.
        """
        sight = self._sight(after_s)
        found = self.watchdog.kill_reason(self.clock.now, sight, lambda: self.waits)
        self.reason = found.reason if found else None
        return found.sentence if found else None

    def worn(self, idle: bool, after_s: float = WATCHDOG_CHECK_S) -> bool:
        """
        Let time pass, then ask whether it should make room for a fresh one.
        """
        sight = self._sight(after_s)
        return self.watchdog.should_recycle(self.clock.now, sight, lambda: idle)

    def _sight(self, after_s: float) -> ProcessStats:
        self.clock.turn(after_s)
        self.cpu_s += self.share * after_s
        if self.ticks:
            self.tick = self.clock.now
        return ProcessStats(self.tick, self.cpu_s, self.stopped, self.memory_mb * MB)

    def lives(self, seconds: float) -> bool:
        """
        Look again and again for *seconds*; False once it has been condemned.
        """
        return all(
            self.look() is None for _ in range(round(seconds / WATCHDOG_CHECK_S))
        )

    def dies_after(self, limit_s: float = 60.0) -> float:
        """
        Look until it is condemned; returns for how long it lived.
        """
        began = self.clock.now
        while self.clock.now - began < limit_s:
            if self.look() is not None:
                return self.clock.now - began
        raise AssertionError(f"it lives after {limit_s:g} s")


@pytest.fixture
def watched() -> Watched:
    """
    A process that has been seen at work for a while.
    """
    made = Watched()
    assert made.lives(3.0)
    return made


def one_look_past(limit_s: float) -> object:
    return pytest.approx(limit_s + WATCHDOG_CHECK_S, abs=WATCHDOG_CHECK_S * 1.5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_ticks_lives(watched: Watched, share: float) -> None:
    """
    However idle or busy, an event loop that turns is alive.
    """
    watched.share = share
    assert watched.lives(60.0)


def test_what_is_stopped_dies_after_a_second(watched: Watched) -> None:
    """
    Its open polls would swallow the retries of its own tasks.
    """
    watched.ticks, watched.stopped = False, True
    assert watched.dies_after() == one_look_past(STOPPED_S)


def test_what_is_stopped_dies_however_busy_it_was(watched: Watched) -> None:
    """
    A stopped process gets no more time for the processor it burnt before.
    """
    watched.ticks = False
    watched.share = 1.0
    assert watched.lives(2.0)
    watched.share, watched.stopped = 0.0, True
    assert "stopped" in (watched.look() or "")


def test_what_is_silent_and_idle_gets_five_seconds(watched: Watched) -> None:
    """
    A blocking client in an async agent comes back; what hangs does not.
    """
    watched.ticks = False
    assert watched.dies_after() == one_look_past(BLOCKED_S)


def test_what_is_silent_and_busy_gets_five_seconds(watched: Watched) -> None:
    """
    A long call that burns its processor may come back.
    """
    watched.ticks, watched.share = False, 1.0
    assert watched.dies_after() == one_look_past(BLOCKED_S)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_what_is_starved_gets_ten_seconds(watched: Watched, share: float) -> None:
    """
    On a crowded machine a healthy process burns little for a while either: killing
    it makes the crowd worse.
    """
    watched.ticks, watched.waits, watched.share = False, True, share
    assert watched.dies_after() == one_look_past(STARVED_S)


def test_a_long_call_gets_its_five_seconds_of_a_crowded_processor(
    watched: Watched,
) -> None:
    """
    Three seconds of work take six where two others want the processor too.
    """
    watched.ticks, watched.share = False, 0.6
    assert watched.dies_after() == one_look_past(BLOCKED_S / 0.6)


def test_what_comes_back_in_time_starts_anew(watched: Watched) -> None:
    """
    A long call that has ended leaves nothing on the account of the next one.
    """
    for _ in range(5):
        watched.ticks, watched.share = False, 1.0
        assert watched.lives(BLOCKED_S - 0.2)
        watched.ticks, watched.share = True, 0.0
        assert watched.lives(0.2)
    watched.ticks = False
    assert watched.dies_after() == one_look_past(BLOCKED_S)


def test_what_falls_idle_within_its_silence_dies(watched: Watched) -> None:
    """
    A busy beginning does not excuse an idle silence for the whole ten seconds.
    """
    watched.ticks, watched.share = False, 1.0
    assert watched.lives(0.5)
    watched.share = 0.0
    assert watched.dies_after() < BLOCKED_S + 1.0


@pytest.mark.parametrize(
    ("share", "limit_s"),
    [(BUSY_CPU_SHARE - 0.05, BLOCKED_S), (BUSY_CPU_SHARE + 0.05, STARVED_S)],
)
def test_a_fifth_of_a_core_makes_it_busy(
    watched: Watched, share: float, limit_s: float
) -> None:
    """
    Below, what it burns is noise.
    """
    watched.ticks, watched.share = False, share
    assert watched.dies_after() == one_look_past(limit_s)


def test_processor_time_before_the_silence_is_no_excuse(watched: Watched) -> None:
    """
    Only what is burnt in the silence counts.
    """
    watched.share = 1.0
    assert watched.lives(30.0)
    watched.ticks, watched.share = False, 0.0
    assert watched.dies_after() == one_look_past(BLOCKED_S)


@pytest.mark.parametrize("away_s", [LATE_CHECK_S + 0.01, 2.0, 3600.0])
def test_a_parent_that_was_late_forgives(watched: Watched, away_s: float) -> None:
    """
    Who was away knows nothing of the meantime: the silence begins with its return.
    """
    watched.ticks, watched.stopped = False, True
    assert watched.look(away_s) is None
    assert watched.dies_after() == one_look_past(STOPPED_S)


def test_a_parent_that_is_late_again_and_again_forgives_each_time(
    watched: Watched,
) -> None:
    """
    A machine too busy for its parent is no reason to kill what it starves.
    """
    watched.ticks = False
    assert [watched.look(LATE_CHECK_S + 0.1) for _ in range(20)] == [None] * 20


def test_a_parent_that_is_hardly_late_does_not_forgive(watched: Watched) -> None:
    """
    Looks up to LATE_CHECK_S apart are trusted.
    """
    watched.ticks, watched.stopped = False, True
    looks = [watched.look(LATE_CHECK_S - 0.01) for _ in range(4)]
    assert [each is not None for each in looks] == [False, False, True, True]


def test_the_first_look_forgives(watched: Watched) -> None:
    """
    A process is not dead for what it did before anybody looked.
    """
    fresh = Watched(ticks=False, stopped=True)
    assert fresh.look(1_000.0) is None
    assert fresh.dies_after() == one_look_past(STOPPED_S)


def test_memory_over_the_cap_dies_at_once() -> None:
    """
    However lively it is: the next pages may be somebody else's.
    """
    watched = Watched(Watchdog(memory_cap=400 * MB))
    watched.memory_mb = 400
    assert watched.lives(2.0)
    watched.memory_mb = 401
    assert watched.look() == "memory over the cap of 400 MB"
    assert watched.reason is KillReason.MEMORY


def test_memory_over_the_cap_dies_even_if_the_parent_was_late() -> None:
    """
    What is too much now is too much whatever happened in the meantime.
    """
    watched = Watched(Watchdog(memory_cap=400 * MB), memory_mb=401)
    assert watched.look(100.0) is not None


def test_no_cap_means_no_cap() -> None:
    """
    0 lets a process take all there is.
    """
    watched = Watched(Watchdog(memory_cap=0), memory_mb=10**6)
    assert watched.lives(2.0)


@pytest.fixture
def capped() -> Watched:
    """
    A process that was born small, with a soft limit of 300 of 400 MB, and that has
    reached neither.
    """
    assert RECYCLE_SHARE == 0.75
    watched = Watched(Watchdog(memory_cap=400 * MB))
    assert not watched.worn(idle=True)
    watched.memory_mb = 300
    return watched


def test_what_is_born_large_is_not_replaced_by_others_as_large() -> None:
    """
    It is worn once it has grown, as anybody else.
    """
    watched = Watched(Watchdog(memory_cap=400 * MB), memory_mb=310)
    assert not watched.worn(idle=True)
    watched.memory_mb = 380
    assert not watched.worn(idle=True)
    watched.memory_mb = 390
    assert watched.worn(idle=True)


def test_below_the_soft_limit_nothing_is_worn(capped: Watched) -> None:
    """
    Neither at work nor idle, for however long.
    """
    for idle in (True, False):
        looks = [
            capped.worn(idle)
            for _ in range(round(2 * RECYCLE_LIMIT_S / WATCHDOG_CHECK_S))
        ]
        assert not any(looks)


def test_what_is_worn_and_idle_is_replaced_at_once(capped: Watched) -> None:
    """
    There is no better moment: nothing has to be handed on.
    """
    capped.memory_mb = 301
    assert capped.worn(idle=True)
    assert capped.look() is None, "it is killed where it should drain"


def test_what_is_worn_is_replaced_as_soon_as_it_is_idle(capped: Watched) -> None:
    """
    Until then it may finish what it has in hand.
    """
    capped.memory_mb = 399
    assert not any(capped.worn(idle=False) for _ in range(100))
    assert capped.worn(idle=True)


def test_what_is_worn_and_never_idle_is_replaced_after_half_a_minute(
    capped: Watched,
) -> None:
    """
    A process under steady load is never idle; it hands on while there is memory left.
    """
    capped.memory_mb = 301
    began = capped.clock.now + WATCHDOG_CHECK_S
    while not capped.worn(idle=False):
        assert capped.clock.now - began < 60.0
    assert capped.clock.now - began == one_look_past(RECYCLE_LIMIT_S)
    assert RECYCLE_LIMIT_S == 30.0


def test_what_gives_memory_back_is_no_longer_worn(capped: Watched) -> None:
    """
    One large task is no wear: the half minute begins anew with the next one.
    """
    capped.memory_mb = 301
    assert not capped.worn(idle=False)
    assert not capped.worn(idle=False, after_s=RECYCLE_LIMIT_S - 1.0)
    capped.memory_mb = 300
    assert not capped.worn(idle=False)
    capped.memory_mb = 301
    assert not capped.worn(idle=False)
    assert not capped.worn(idle=False, after_s=RECYCLE_LIMIT_S - 1.0)
    assert capped.worn(idle=False, after_s=2.0)


def test_without_a_cap_nothing_is_worn() -> None:
    """
    Where a process may take all there is, no share of it is too much.
    """
    watched = Watched(Watchdog(memory_cap=0), memory_mb=10**6)
    assert not watched.worn(idle=True)
    assert not watched.worn(idle=False, after_s=10 * RECYCLE_LIMIT_S)


@pytest.mark.parametrize("freeze_s", [0.5, 3.0, 10.0])
def test_how_long_it_may_be_stopped_can_be_chosen(freeze_s: float) -> None:
    """
    That is the user's to say; what blocks keeps its own limit.
    """
    watched = Watched(Watchdog(timing=Timing(stopped_limit_s=freeze_s)))
    assert watched.lives(3.0)
    watched.ticks, watched.stopped = False, True
    assert watched.dies_after() == one_look_past(freeze_s)


def test_how_long_it_was_silent_is_known(watched: Watched) -> None:
    """
    From look to look: it is told before it is killed.
    """
    assert watched.watchdog.silence_s == 0.0
    watched.ticks = False
    assert watched.lives(2.0)
    assert watched.watchdog.silence_s == pytest.approx(2.0, abs=WATCHDOG_CHECK_S * 1.5)
    watched.ticks = True
    assert watched.lives(WATCHDOG_CHECK_S)
    assert watched.watchdog.silence_s == 0.0


@pytest.mark.parametrize(
    ("stopped", "share", "words"),
    [
        (True, 0.0, "stopped for 1."),
        (False, 0.0, "silent and idle for 5."),
        (False, 1.0, "silent and busy for 5."),
    ],
)
def test_the_reason_says_what_was_seen(
    watched: Watched, stopped: bool, share: float, words: str
) -> None:
    """
    It becomes the cause that a person reads.
    """
    watched.ticks, watched.stopped, watched.share = False, stopped, share
    reasons = [reason for _ in range(60) if (reason := watched.look())]
    assert words in reasons[0]


looks = st.tuples(st.floats(0.01, 2.0), st.booleans(), st.floats(0, 1), st.booleans())


@given(st.lists(looks, max_size=80))
def test_nothing_dies_within_a_second_of_its_last_tick(
    course: list[tuple[float, bool, float, bool]],
) -> None:
    """
    Whatever else is seen, a process that ticked within the idle limit lives.
    """
    watched = Watched()
    for after_s, ticks, share, stopped in course:
        watched.ticks, watched.share, watched.stopped = ticks, share, stopped
        if watched.look(after_s) is not None:
            assert watched.clock.now - watched.tick > STOPPED_S


def test_a_process_is_seen_from_outside() -> None:
    """
    What /proc says of a process: its memory, its processor time, whether it stands
    still; nothing of one that is gone.
    """
    own = read_stats(os.getpid(), 5.0)
    assert own is not None
    assert own.tick == 5.0
    assert not own.stopped
    assert 10 * MB < own.memory_bytes < 10_000 * MB
    assert own.cpu_s > 0
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert read_stats(gone.pid, 5.0) is None


@pytest.mark.parametrize(
    ("code", "waits"),
    [("print(); input()", False), ("print()\nwhile True: pass", True)],
)
def test_a_process_that_wants_a_processor_is_seen(code: str, waits: bool) -> None:
    """
    A thread that could run shows, whether it gets its turn or not.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-uc", code], **pipes)
    assert child.stdout is not None
    try:
        child.stdout.read(1)
        wait_for(lambda: has_runnable_thread(child.pid) is waits, "it to settle")
        assert all(has_runnable_thread(child.pid) is waits for _ in range(50))
    finally:
        child.kill()
        child.communicate()
    assert not has_runnable_thread(child.pid)


def test_a_stopped_process_is_seen_to_be_stopped() -> None:
    """
    SIGSTOP shows at once, and its end too.
    """
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for number, how in (
            (signal.SIGSTOP, os.WSTOPPED),
            (signal.SIGCONT, os.WCONTINUED),
        ):
            child.send_signal(number)
            os.waitid(os.P_PID, child.pid, how)
            sight = read_stats(child.pid, 5.0)
            assert sight is not None
            assert sight.stopped is (number == signal.SIGSTOP)
    finally:
        child.kill()
        child.communicate()


def test_a_zombie_is_not_taken_for_a_silent_process() -> None:
    """
    What has died already is dead for its own cause, not for its silence.
    """
    dead = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert dead.stdout is not None
    dead.stdout.read()  # its end has closed it; nobody has waited for it
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert read_stats(dead.pid, 5.0) is None
    finally:
        dead.wait()
        dead.stdout.close()
