"""
What is told of a worker whose event loop was blocked: once, when, and in which words.
"""

import asyncio
from pathlib import Path

import pytest

from outlast.fleet import blockage
from outlast.fleet.blockage import Blockage
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.stack_dumps import Blocker
from outlast.fleet.watchdog import (
    WATCHDOG_CHECK_S,
    KillDecision,
    KillReason,
    ProcessStats,
    Watchdog,
)

BLOCKER = Blocker("refund", "requests.get", "agents.py:14", in_loop=True)


class Course:
    """
    A worker that is looked at: silent or not, by a clock of its own.
    """

    def __init__(self, recorder: Path) -> None:
        self.watchdog, self.blockage = Watchdog(), Blockage()
        self.recorder = recorder
        self.now = self.tick = 100.0

    async def passes(self, seconds: float, *, silent: bool) -> str | None:
        """
        Look again and again for *seconds*; returns why it must be killed, if it must.
        """
        for _ in range(round(seconds / WATCHDOG_CHECK_S)):
            self.now += WATCHDOG_CHECK_S
            self.tick = self.tick if silent else self.now
            reason = self.watchdog.kill_reason(
                self.now, ProcessStats(self.tick, 0.0, False, 0)
            )
            self.blockage.check(1, Path("1.stack"), self.watchdog, self.recorder)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if reason:
                return self.blockage.explain(reason)
        return None


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    async def sample(pid: int, path: Path) -> Blocker:
        return BLOCKER

    monkeypatch.setattr(blockage, "sample", sample)
    recorder = FlightRecorder(tmp_path / "1.rec")
    recorder.start(b"token", "m", "a", "refunds", 1)
    made = Course(recorder.path)
    made.kept = recorder  # type: ignore[attr-defined]
    return made


async def test_a_loop_that_comes_back_is_told_with_its_whole_silence(
    course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Meanwhile in /health, afterwards in the log, with the task that it has in hand.
    """
    await course.passes(1.0, silent=False)
    assert await course.passes(1.5, silent=True) is None
    assert "blocked its event loop" in course.blockage.description
    assert caplog.text == ""
    await course.passes(0.2, silent=False)
    assert "`refund` blocked its event loop for 1.5 s in `requests.get`" in caplog.text
    assert "attempts in that process: m/a" in caplog.text


async def test_a_short_silence_is_not_told(
    course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A busy machine makes every loop late now and then.
    """
    await course.passes(1.0, silent=False)
    await course.passes(0.8, silent=True)
    await course.passes(0.2, silent=False)
    assert course.blockage.description == caplog.text == ""


async def test_an_attempt_that_blocks_again_is_not_logged_again(
    course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Once is enough to act on.
    """
    for _ in range(3):
        await course.passes(1.0, silent=False)
        await course.passes(1.5, silent=True)
    await course.passes(0.2, silent=False)
    assert caplog.text.count("agent.blocked") == 1


async def test_a_kill_says_what_blocked(course: Course) -> None:
    """
    In the exit report, behind what the watchdog saw.
    """
    await course.passes(1.0, silent=False)
    cause = await course.passes(9.0, silent=True)
    assert cause is not None
    assert cause.startswith("silent and idle for 5.")
    assert "in `requests.get` (agents.py:14): make the agent a plain `def`" in cause
    large = KillDecision(KillReason.MEMORY, "silent memory over the cap")
    assert course.blockage.explain(large) == large.sentence
