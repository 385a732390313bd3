"""
A mission or batch whose history is full starts nothing more, hands back its in-flight
attempts, and continues in a new run, which carries its plan.

Attempts have GRACE_S to end by themselves. Longer ones are handed back and continue
from their checkpoint in the new run; that counts neither as a failure nor as a crash.
Children keep running: see `children`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import workflow

# The server warns at 10,240 events and 10 MB. In-flight attempts still add to it when
# nothing more starts: a hundred attempts that end or are handed back are some 600
# events, with an answer, a failure or an input of 32 KiB each at most.
RENEW_EVENTS = 6_000
RENEW_BYTES = 4 * 1024 * 1024
# Longer lets more attempts end by themselves, and delays the mission for as long.
GRACE_S = 30.0


class Renewal:
    """
    Whether a run is to end, and what in it has not ended yet.

    :param max_events: RENEW_EVENTS unless given.
    """

    def __init__(self, max_events: int | None = None) -> None:
        self._max_events = max_events
        self.due = False
        self.handed_back = False
        self._grace: asyncio.Task[None] | None = None
        self._busy = 0

    @property
    def is_full(self) -> bool:
        info = workflow.info()
        return (
            info.get_current_history_length() > (self._max_events or RENEW_EVENTS)
            or info.get_current_history_size() > RENEW_BYTES
        )

    @property
    def at_rest(self) -> bool:
        """
        Say whether nothing is in flight that would be lost with this run.
        """
        return self._busy == 0 and workflow.all_handlers_finished()

    @property
    def is_needed(self) -> bool:
        return self.due or self.is_full

    @property
    def must_hand_back(self) -> bool:
        """
        Say whether attempts have had their time to end by themselves.
        """
        grace_is_over = self._grace is not None and self._grace.done()
        return grace_is_over and not self.handed_back

    def begin(self) -> None:
        self.due = True
        wait = workflow.sleep(timedelta(seconds=GRACE_S), summary="history is full")
        self._grace = asyncio.create_task(wait)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """
        Keep the run open during the context: its end would lose the call to the server.
        """
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def wait_for_next_run(self) -> None:
        """
        Wait for the next run, if this one is to end: nothing may be dispatched until
        then.
        """
        while self.due:
            await asyncio.Event().wait()  # until cancelled, or until the run has ended
