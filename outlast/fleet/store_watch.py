"""
A worker's eyes on its store: opened as soon as it answers, looked at all the time.

What is waited for is noted in the flight recorder, where the fleet's parent and the
starter read it, whatever disk is full. That the store is lost is for the parent to
hear: it stops the fleet.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from outlast.contracts.errors import StoreAwayError, StoreError, StoreLostError
from outlast.fleet.flight_recorder import Recorder
from outlast.fleet.process_kinds import RECORDER
from outlast.fleet.recorder_reader import trouble_of
from outlast.process.opening import open_store
from outlast.settings import Settings
from outlast.store.calls import Trouble, pause_s
from outlast.store.database import Store
from outlast.store.outages import DOUBT_S

logger = logging.getLogger("outlast.fleet")

# How often the store is looked at, though nobody uses it, and how often what is waited
# for is noted, and read.
LOOK_S = 1.0
NOTE_S = 0.25


async def open_patiently(
    stop: asyncio.Event, chosen: Settings, recorder: Recorder
) -> Store | None:
    """
    Open the store as soon as it can be: its absence is no reason to die. None when
    *stop* was set before.

    :raises StoreLostError: when it is another one, or what is there is none.
    """
    since, tries, doubted_at = time.time(), 0, math.inf
    while not stop.is_set():
        try:
            # In a thread, since the watchdog looks at us.
            store = await asyncio.to_thread(open_store, chosen)
        except StoreAwayError as error:
            now = time.monotonic()
            doubted_at = min(doubted_at, now) if error.doubtful else math.inf
            if now - doubted_at > DOUBT_S:
                raise StoreLostError(str(error)) from None
            recorder.wait_for(Trouble(str(error), since))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s(tries))
            tries += 1
        else:
            recorder.wait_for(None)
            return store
    return None


async def watch(store: Store, recorder: Recorder) -> None:
    """
    Look at the store, and note what it is waited for, until cancelled.
    """
    looking = asyncio.ensure_future(_look(store))
    try:
        while True:
            recorder.wait_for(store.calls.trouble)
            await asyncio.sleep(NOTE_S)
    finally:
        looking.cancel()


async def _look(store: Store) -> None:
    while True:
        with contextlib.suppress(StoreError):  # who has to hear of it has heard it
            await store.run(store.look)
        await asyncio.sleep(LOOK_S)


def waited_for(home: Path) -> Trouble | None:
    """
    Read what the workers of *home* wait for at the store, and since when.
    """
    found = map(trouble_of, (home / "run").glob(f"*{RECORDER}"))
    return min(filter(None, found), key=lambda each: each.since, default=None)


def waited_words(home: Path) -> str:
    """
    Put in words what the workers of *home* wait for; "" for nothing.
    """
    trouble = waited_for(home)
    if trouble is None:
        return ""
    return f"{trouble.told} (for {time.time() - trouble.since:.0f} s)"


class Waiting:
    """
    What the fleet waits for, for its parent: read from time to time, and told once.
    """

    def __init__(self, home: Path, read: Callable[[Path], Trouble | None] = waited_for):
        self._home = home
        self._read = read
        self.now: Trouble | None = None

    async def look(self) -> None:
        """
        Look until cancelled.
        """
        while True:
            self.look_once()
            await asyncio.sleep(NOTE_S)

    def look_once(self) -> None:
        """
        Say when it begins, and when it is over.
        """
        before, self.now = self.now, self._read(self._home)
        if self.now is not None and before is None:
            logger.warning("store.away: %s", self.now.told)
        elif self.now is None and before is not None:
            logger.warning("store.back after %.1f s", time.time() - before.since)

    def shown(self) -> list[dict[str, object]]:
        """
        Tell it as `GET /health` does.
        """
        if self.now is None:
            return []
        since_s = round(time.time() - self.now.since, 1)
        return [{"what": "store", "why": self.now.told, "since_s": since_s}]
