"""
The results of a lease on their way into the store, many at a time.

They are written while the items go on, one write at a time; the last write is durable,
and with it all that came before.
"""

import asyncio
import time

from outlast.contracts.sizes import MIB
from outlast.ledger.claim import Claim
from outlast.ledger.item_sql import WrittenResult
from outlast.ledger.lease_ledger import LeaseLedger

# Results that are not in the store yet: what one kill makes to be done again.
MAX_BUFFERED = 1_000
FLUSH_ITEMS = 500
FLUSH_CHARS = 8 * MIB
FLUSH_AFTER_S = 0.1


class ResultWriter:
    """
    What the lease under *claim* has settled and not written yet.
    """

    def __init__(self, ledger: LeaseLedger, claim: Claim) -> None:
        self._ledger = ledger
        self._claim = claim
        self._rows: list[WrittenResult] = []
        self._chars = 0  # of these
        self._closing: list[Claim] = []
        self._writing: asyncio.Future[None] | None = None
        self._flushed_at = time.monotonic()

    def add(self, row: WrittenResult) -> None:
        self._rows.append(row)
        self._chars += len(row[1])

    def close(self, claim: Claim) -> None:
        self._closing.append(claim)

    @property
    def is_due(self) -> bool:
        """
        True if there is enough to write, or something has waited for long.
        """
        enough = len(self._rows) >= FLUSH_ITEMS or self._chars >= FLUSH_CHARS
        return enough or self._is_late

    def flush_in_background(self) -> None:
        """
        Begin to write what has waited for long while no item ends. A write that has
        failed is left to the next end, which raises.
        """
        free = self._writing is None or _succeeded(self._writing)
        if free and self._is_late:
            self._start_write(durable=False)

    @property
    def _is_late(self) -> bool:
        return bool(self._rows) and time.monotonic() - self._flushed_at > FLUSH_AFTER_S

    async def flush(self, last: bool = False) -> None:
        """
        Begin to write, unless another write is under way that need not be waited for;
        the *last* one is waited for itself.

        :raises StaleAttemptError: when a later attempt has the lease.
        """
        full = len(self._rows) + FLUSH_ITEMS > MAX_BUFFERED
        full = full or self._chars >= FLUSH_CHARS
        while (writing := self._writing) and (last or full or writing.done()):
            await asyncio.shield(writing)
            if self._writing is writing:
                self._writing = None
        if self._writing is not None:
            return
        writing = self._start_write(durable=last)
        if last:
            await writing

    def _start_write(self, durable: bool) -> "asyncio.Future[None]":
        rows, self._rows, self._chars = self._rows, [], 0
        closing, self._closing = self._closing, []
        self._flushed_at = time.monotonic()
        self._writing = asyncio.ensure_future(
            self._ledger.store.run(
                self._ledger.write_results, self._claim, rows, closing, durable
            )
        )
        return self._writing


def _succeeded(writing: "asyncio.Future[None]") -> bool:
    return writing.done() and not writing.cancelled() and writing.exception() is None
