"""
What an attempt may still do, and the signal that ends it.

A signal of the context (an approval or answer is wanted, a budget is spent, a later
attempt has the task, the mesh suspends the run) is remembered here at the moment it is
raised. Whatever the agent catches, every later call is refused with it and the attempt
ends by it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from outlast.contracts.errors import StaleAttemptError

# A refused call waits for a moment: an agent that catches the refusal and asks again
# must not hold the event loop.
REFUSAL_PAUSE_S = 0.01


class Gate:
    """
    The one place that says whether an attempt may go on. For its event loop only, but
    for `check` and `end_by`, which any thread may call.
    """

    # Each item of a batch has a gate: what stays as it is here is not written.
    signal: BaseException | None = None
    ending = False  # the agent is to end; its context says so to it
    at_once = False  # no act under way is waited for any more
    _ended: str | None = None
    _acting = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _changed: Callable[[], object] = staticmethod(lambda: None)

    @property
    def idle(self) -> bool:
        return not self._acting

    @property
    def closed(self) -> bool:
        """
        True if the attempt has to end now: by a signal, with no act left to finish.
        """
        return self.signal is not None and (self.at_once or self.idle)

    def check(self) -> None:
        """
        Refuse once a signal was raised or the attempt is over.
        """
        if self._ended is not None:
            raise StaleAttemptError(self._ended)
        if self.signal is not None:
            # Without the traceback of the last time, which would grow with each.
            raise self.signal.with_traceback(None)

    async def enter(self) -> None:
        """
        Refuse as `check` does, after a moment in which other tasks have their turn.
        """
        if self._ended is not None or self.signal is not None:
            await asyncio.sleep(REFUSAL_PAUSE_S)
        self.check()

    def end_by(self, signal: BaseException, *, at_once: bool = False) -> BaseException:
        """
        Remember *signal*, unless another one came before; returns the one to raise.

        :param at_once: no act under way is waited for any more.
        """
        if self.signal is None:
            self.signal = signal
        self.at_once |= at_once
        self.ending = True
        self._notify()
        return self.signal

    def end(self, why: str) -> None:
        """
        Refuse every later call, since the attempt is over. Acts under way may still
        write what they did, as long as the ledger takes it.
        """
        self._ended = why
        self.ending = True

    def watch(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], object]
    ) -> None:
        """
        Call *changed*, on *loop*, at each signal and each time the last act ends.
        """
        self._loop, self._changed = loop, changed

    def unwatch(self) -> None:
        self._loop, self._changed = None, Gate._changed

    @contextmanager
    def acting(self) -> Iterator[None]:
        """
        Count an act under way: it is let finish, since cancelled it would be unsure.
        """
        self._acting += 1
        try:
            yield
        finally:
            self._acting -= 1
            if not self._acting:
                self._changed()

    def _notify(self) -> None:
        if self._loop is None:
            return
        if asyncio._get_running_loop() is self._loop:
            self._changed()
            return
        with suppress(RuntimeError):  # the loop is closed: its process ends
            self._loop.call_soon_threadsafe(self._changed)
