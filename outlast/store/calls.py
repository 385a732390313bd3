"""
The calls of a store that are under way, and what they wait for.

Kept on the event loop: the store's threads run a call, and here it is decided what
becomes of it. One that the store could not do is made again, ever more slowly, until it
is done or nobody waits for it any more.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outlast.contracts.errors import StoreLostError, StoreUnavailableError
from outlast.store.outages import UNKNOWN_OUTAGE_S

# Between two tries of a call: x1.6 each time, a fifth of it by chance. What is back is
# used within the longest of them; shorter ones ask a store that fails more often.
STORE_RETRY_S = 0.1
STORE_RETRY_FACTOR = 1.6
MAX_STORE_RETRY_S = 3.0

# A call under way for so long excuses attempts from making progress, and for so long
# is shown as an outage, though no error says so: a lock, a frozen disk or server.
SLOW_CALL_S = 1.0
SILENT_CALL_S = 5.0

Submit = Callable[[Callable[[], Any]], Future[Any]]
Clock = Callable[[], float]


class StoreTrouble(NamedTuple):
    """
    What is waited for, and since when, in seconds since 1970.
    """

    text: str
    since: float


@dataclass
class StoreCalls:
    """
    The calls under way in the store at *place*.

    :param submit: has a thread of the store's run something.
    :param lost: hears, once for each call, that the store is lost.
    """

    place: str
    submit: Submit
    lost: Callable[[StoreLostError], None] = lambda _: None
    clock: Clock = time.monotonic
    running: "dict[StoreCall, None]" = field(default_factory=dict)
    _failing: dict["StoreCall", None] = field(default_factory=dict)
    _trouble: StoreTrouble | None = None

    @property
    def trouble(self) -> StoreTrouble | None:
        age_s = self._oldest_s
        if self._trouble is not None or age_s < SILENT_CALL_S:
            return self._trouble
        text = f"the store at {self.place} does not answer: it is locked, or very slow"
        return StoreTrouble(text, time.time() - age_s)

    @property
    def is_waiting(self) -> bool:
        """
        Whether attempts that use the store cannot make progress.
        """
        return self._trouble is not None or self._oldest_s > SLOW_CALL_S

    @property
    def _oldest_s(self) -> float:
        oldest = next(iter(self.running), None)
        return 0.0 if oldest is None else self.clock() - oldest.began

    def record_failure(self, call: "StoreCall", error: StoreUnavailableError) -> None:
        """
        Note that *call* waits, for what *error* says.
        """
        self._failing[call] = None
        since = time.time() if self._trouble is None else self._trouble.since
        self._trouble = StoreTrouble(str(error), since)

    def record_end(self, call: "StoreCall", answered: bool) -> None:
        """
        Note that *call* is over; the first one that was *answered* when none waits any
        more is the end of the trouble.
        """
        self.running.pop(call, None)
        if self._trouble is not None:
            self._failing.pop(call, None)
            if answered and not self._failing:
                self._trouble = None


class StoreCall:
    """
    One call of *act* on the store's threads; *future* is its end.

    :param kept: it goes on though its future is cancelled.
    """

    def __init__(
        self, act: Callable[[], Any], calls: StoreCalls, *, kept: bool = False
    ) -> None:
        self._act = act
        self._calls = calls
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.began = calls.clock()
        self._over = False
        self._then: Callable[[], None] = lambda: None
        self._unknown_since: float | None = None
        self._tries = 0
        calls.running[self] = None
        self._submit()

    def _submit(self) -> None:
        if self._is_abandoned:
            self._calls.record_end(self, answered=False)
            return
        try:
            thread = self._calls.submit(self._work)
        except RuntimeError as closed:
            self._end(closed)
        else:
            thread.add_done_callback(self._on_thread_done)

    @property
    def _is_abandoned(self) -> bool:
        """
        Whether its future was cancelled, and it is not to be done all the same.
        """
        return self.future.done() and not self._kept

    def _work(self) -> Any:
        return None if self._is_abandoned else self._act()

    def _on_thread_done(self, thread: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: its process ends
            self._loop.call_soon_threadsafe(self._finish, thread)

    def _finish(self, thread: Future[Any]) -> None:
        """
        End with what the thread has brought, or wait and try again.
        """
        error = thread.exception()
        if isinstance(error, StoreUnavailableError) and not self._is_abandoned:
            error = self._wait(error)
            if error is None:
                return
        self._end(error, None if error is not None else thread.result())

    def _wait(self, error: StoreUnavailableError) -> StoreLostError | None:
        """
        Try again later; after UNKNOWN_OUTAGE_S of doubt the store is lost.
        """
        now = self._calls.clock()
        if not error.maybe_written:
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = now
        elif now - self._unknown_since > UNKNOWN_OUTAGE_S:
            return StoreLostError(str(error))
        self._calls.record_failure(self, error)
        self._loop.call_later(retry_after_s(self._tries), self._submit)
        self._tries += 1
        return None

    def _end(self, error: BaseException | None, result: Any = None) -> None:
        lost = isinstance(error, StoreLostError)
        self._calls.record_end(self, answered=not lost and not self._is_abandoned)
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


def retry_after_s(tries: int) -> float:
    full = min(MAX_STORE_RETRY_S, STORE_RETRY_S * STORE_RETRY_FACTOR ** min(tries, 20))
    return full * (1 - 0.2 * random.random())
