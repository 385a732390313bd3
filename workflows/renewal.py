"""
When a mission's history is full: it starts nothing more, hands back what is under way,
and goes on in a new run, which carries its plan.

Attempts have GRACE_S to end by themselves. Those that last longer are taken back and
go on from their checkpoint in the new run; that is neither a failure nor a death.
Children live on: see `children`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import workflow

# The server warns at 10,240 events and 10 MB. What is under way when nothing starts
# any more adds to it: a hundred attempts that end or are handed back are some 600
# events, with an answer, a failure or an assignment of 32 KiB each at most.
RENEW_EVENTS = 6_000
RENEW_BYTES = 4 * 1024 * 1024
# Longer lets more attempts end in peace, and holds the mission up for as long.
GRACE_S = 30.0


class Renewal:
    """
    Whether a run of a mission is to end, and what of it is still at work.
    """

    def __init__(self) -> None:
        self.due = False
        self.handed_back = False
        self._grace: asyncio.Task[None] | None = None
        self._busy = 0

    @property
    def is_full(self) -> bool:
        """
        Say whether the history of this run has become too long or too large.
        """
        info = workflow.info()
        return (
            info.get_current_history_length() > RENEW_EVENTS
            or info.get_current_history_size() > RENEW_BYTES
        )

    @property
    def at_rest(self) -> bool:
        """
        Say whether nothing is at work that would be lost with this run.
        """
        return self._busy == 0 and workflow.all_handlers_finished()

    @property
    def grace_is_over(self) -> bool:
        return self._grace is not None and self._grace.done()

    def begin(self) -> None:
        """
        Let nothing more begin.
        """
        self.due = True
        wait = workflow.sleep(timedelta(seconds=GRACE_S), summary="history is full")
        self._grace = asyncio.create_task(wait)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """
        Keep the run from ending: the server does for us what it would forget with it.
        """
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def wait_for_next_run(self) -> None:
        """
        Wait until this run is over, if it is to end: then nothing may be dispatched.
        """
        while self.due:
            await asyncio.Event().wait()  # until we are cancelled, or left behind
