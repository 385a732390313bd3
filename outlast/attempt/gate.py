"""
What an attempt may still do, and the signal that ends it.

A signal of the context (an approval or answer is wanted, a budget is spent, a later
attempt has the task, the mesh suspends the run) is remembered here at the moment it is
raised. Whatever the agent catches, every later call is refused with it and the attempt
ends by it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from outlast.contracts.errors import OutlastError


class Gate:
    """
    The one place that says whether an attempt may go on. For its event loop only, but
    for `check`, which any thread may call.
    """

    def __init__(self) -> None:
        self.signal: OutlastError | None = None
        self._signalled = asyncio.Event()
        self._acting = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self) -> None:
        """
        Refuse once a signal was raised.
        """
        if self.signal is not None:
            raise self.signal

    def end_by(self, signal: OutlastError) -> OutlastError:
        """
        Remember *signal*; the first one stands. Returns the one to raise.
        """
        if self.signal is None:
            self.signal = signal
            self._signalled.set()
        return self.signal

    @contextmanager
    def acting(self) -> Iterator[None]:
        """
        Count an act under way: it is let finish, since cancelled it would be unsure.
        """
        self._acting += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._acting -= 1
            if not self._acting:
                self._idle.set()

    async def closed(self) -> OutlastError:
        """
        Wait until a signal was raised and no act is under way; returns the signal.
        """
        await self._signalled.wait()
        await self._idle.wait()
        assert self.signal is not None
        return self.signal
