"""
A worker's store: opened as soon as it answers, then checked again and again.

What a worker waits for is written to its flight recorder, where the fleet's parent and
the starter read it, whatever disk is full. A lost store is the parent's to decide on:
it stops the fleet.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from outlast.contracts.errors import StoreError, StoreLostError, StoreUnavailableError
from outlast.fleet.flight_recorder import FlightRecorder
from outlast.fleet.process_kinds import RECORDER_SUFFIX
from outlast.fleet.recorder_reader import read_store_trouble
from outlast.process.opening import open_store
from outlast.settings import Settings
from outlast.store.calls import StoreTrouble, retry_after_s
from outlast.store.database import Store
from outlast.store.outages import UNKNOWN_OUTAGE_S

logger = logging.getLogger("outlast.fleet")

# How often the store is checked, though nobody uses it, and how often its trouble is
# written to the recorder, and read.
STORE_CHECK_S = 1.0
STORE_TROUBLE_NOTE_S = 0.25


async def open_patiently(
    stop: asyncio.Event, chosen: Settings, recorder: FlightRecorder
) -> Store | None:
    """
    Open the store as soon as it can be: its absence is no reason to end. None when
    *stop* was set before.

    :raises StoreLostError: when it is another store, or none.
    """
    since, tries, doubted_at = time.time(), 0, math.inf
    while not stop.is_set():
        try:
            # In a thread, since the watchdog looks at us.
            store = await asyncio.to_thread(open_store, chosen)
        except StoreUnavailableError as error:
            now = time.monotonic()
            doubted_at = min(doubted_at, now) if error.maybe_written else math.inf
            if now - doubted_at > UNKNOWN_OUTAGE_S:
                raise StoreLostError(str(error)) from None
            recorder.note_store_trouble(StoreTrouble(str(error), since))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), retry_after_s(tries))
            tries += 1
        else:
            recorder.note_store_trouble(None)
            return store
    return None


async def watch(store: Store, recorder: FlightRecorder) -> None:
    """
    Check the store, and record what we wait for, until cancelled.
    """
    await asyncio.gather(_check_store(store), _note_trouble(store, recorder))


async def _check_store(store: Store) -> None:
    while True:
        with contextlib.suppress(StoreError):  # the store has noted its trouble
            await store.run(store.check)
        await asyncio.sleep(STORE_CHECK_S)


async def _note_trouble(store: Store, recorder: FlightRecorder) -> None:
    while True:
        recorder.note_store_trouble(store.calls.trouble)
        await asyncio.sleep(STORE_TROUBLE_NOTE_S)


def store_trouble(home: Path) -> StoreTrouble | None:
    """
    Read what the workers of *home* wait for at the store.
    """
    found = map(read_store_trouble, (home / "run").glob(f"*{RECORDER_SUFFIX}"))
    return min(filter(None, found), key=lambda each: each.since, default=None)


def store_trouble_text(home: Path) -> str:
    """
    Say what the workers of *home* wait for; "" for nothing.
    """
    trouble = store_trouble(home)
    if trouble is None:
        return ""
    return f"{trouble.text} (for {time.time() - trouble.since:.0f} s)"


class StoreTroubleWatch:
    """
    What the fleet waits for, logged once when it begins and when it is over.
    """

    def __init__(
        self, home: Path, read: Callable[[Path], StoreTrouble | None] = store_trouble
    ):
        self._home = home
        self._read = read
        self.now: StoreTrouble | None = None

    async def run(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(STORE_TROUBLE_NOTE_S)

    def check(self) -> None:
        before, self.now = self.now, self._read(self._home)
        if self.now is not None and before is None:
            logger.warning("store.unavailable: %s", self.now.text)
        elif self.now is None and before is not None:
            logger.warning("store.available after %.1f s", time.time() - before.since)

    def describe(self) -> list[dict[str, object]]:
        """
        Describe it as `GET /health` shows it.
        """
        if self.now is None:
            return []
        since_s = round(time.time() - self.now.since, 1)
        return [{"what": "store", "why": self.now.text, "since_s": since_s}]
