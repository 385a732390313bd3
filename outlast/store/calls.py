"""
The calls of a store that are under way, and what they wait for.

Kept on the event loop: the store's threads run a call, and here it is decided what
becomes of it. One that the store could not carry out is made again, ever more slowly,
until it is carried out or nobody waits for it any more.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outlast.contracts.errors import StoreAwayError, StoreLostError
from outlast.store.outages import DOUBT_S

# Between two tries of a call: x1.6 each time, a fifth of it by chance. What is back is
# used within the longest of them; shorter ones ask a poor store more often.
PAUSE_FIRST_S = 0.1
PAUSE_FACTOR = 1.6
PAUSE_MOST_S = 3.0

# A call under way for so long excuses attempts from making progress, and for so long
# is shown as an outage, though no error says so: a lock, a frozen disk or server.
SLOW_S = 1.0
SILENT_S = 5.0

Submit = Callable[[Callable[[], Any]], Future[Any]]
Clock = Callable[[], float]


class Trouble(NamedTuple):
    """
    What is waited for, and since when, in seconds since 1970.
    """

    told: str
    since: float


@dataclass
class Calls:
    """
    The calls under way in the store at *place*.

    :param submit: has a thread of the store's run something.
    :param lost: hears, once for each call, that the store is lost.
    """

    place: str
    submit: Submit
    lost: Callable[[StoreLostError], None]
    clock: Clock = time.monotonic
    under_way: "dict[Call, None]" = field(default_factory=dict)
    _failing: dict["Call", None] = field(default_factory=dict)
    _trouble: Trouble | None = None

    @property
    def trouble(self) -> Trouble | None:
        """
        What is waited for now, if anything.
        """
        age_s = self._oldest_s
        if self._trouble is not None or age_s < SILENT_S:
            return self._trouble
        told = f"the store at {self.place} does not answer: it is locked, or very slow"
        return Trouble(told, time.time() - age_s)

    @property
    def waits(self) -> bool:
        """
        Whether no progress is to be expected of who uses the store.
        """
        return self._trouble is not None or self._oldest_s > SLOW_S

    @property
    def _oldest_s(self) -> float:
        oldest = next(iter(self.under_way), None)
        return 0.0 if oldest is None else self.clock() - oldest.began

    def failed(self, call: "Call", error: StoreAwayError) -> None:
        """
        Note that *call* waits, for what *error* says.
        """
        self._failing[call] = None
        since = time.time() if self._trouble is None else self._trouble.since
        self._trouble = Trouble(str(error), since)

    def ended(self, call: "Call", answered: bool) -> None:
        """
        Note that *call* is over; the first one that was *answered* when none waits any
        more is the end of the trouble.
        """
        self.under_way.pop(call, None)
        if self._trouble is not None:
            self._failing.pop(call, None)
            if answered and not self._failing:
                self._trouble = None


class Call:
    """
    *act* on its way through the store; *future* is its end.

    :param kept: it goes on though its future is cancelled.
    """

    def __init__(
        self, act: Callable[[], Any], calls: Calls, *, kept: bool = False
    ) -> None:
        self._act = act
        self._calls = calls
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.began = calls.clock()
        self._over = False
        self._then: Callable[[], None] = _nothing
        self._doubted_at: float | None = None
        self._tries = 0
        calls.under_way[self] = None
        self._submit()

    def _submit(self) -> None:
        if self._is_left:
            self._calls.ended(self, answered=False)
            return
        try:
            thread = self._calls.submit(self._work)
        except RuntimeError as closed:
            self._end(closed)
        else:
            thread.add_done_callback(self._back)

    @property
    def _is_left(self) -> bool:
        """
        Whether nobody waits for it any more, and nobody wants it done.
        """
        return self.future.done() and not self._kept

    def _work(self) -> Any:
        """
        Do it, in a thread of the store's.
        """
        return None if self._is_left else self._act()

    def _back(self, thread: Future[Any]) -> None:
        """
        Come back from the store's thread.
        """
        with suppress(RuntimeError):  # the loop is closed: its process ends
            self._loop.call_soon_threadsafe(self._land, thread)

    def _land(self, thread: Future[Any]) -> None:
        """
        Hand on what the thread has brought, or wait and try again.
        """
        error = thread.exception()
        if isinstance(error, StoreAwayError) and not self._is_left:
            error = self._wait(error)
            if error is None:
                return
        self._end(error, None if error is not None else thread.result())

    def _wait(self, error: StoreAwayError) -> StoreLostError | None:
        """
        Try again in a while; past the doubt the store is lost.
        """
        now = self._calls.clock()
        if not error.doubtful:
            self._doubted_at = None
        elif self._doubted_at is None:
            self._doubted_at = now
        elif now - self._doubted_at > DOUBT_S:
            return StoreLostError(str(error))
        self._calls.failed(self, error)
        self._loop.call_later(pause_s(self._tries), self._submit)
        self._tries += 1
        return None

    def _end(self, error: BaseException | None, result: Any = None) -> None:
        lost = isinstance(error, StoreLostError)
        self._calls.ended(self, answered=not lost and not self._is_left)
        if isinstance(error, StoreLostError):
            self._calls.lost(error)
        if not self.future.done():
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)
        self._over = True
        self._then()

    def then(self, act: Callable[[], None]) -> None:
        """
        Have *act* called at the end, which for a kept one may be after its future's.
        """
        self._then = act
        if self._over:
            act()


def _nothing() -> None:
    """
    Wait for no end.
    """


def pause_s(tries: int) -> float:
    """
    Seconds to wait after so many *tries* before.
    """
    full = min(PAUSE_MOST_S, PAUSE_FIRST_S * PAUSE_FACTOR ** min(tries, 20))
    return full * (1 - 0.2 * random.random())
