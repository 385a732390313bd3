"""
What a lease reads and writes in the ledger, each write under its claim.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from outlast.contracts.batches import Lease
from outlast.contracts.ids import ItemId, parse
from outlast.ledger.attempts import close_attempt
from outlast.ledger.claim import Claim
from outlast.ledger.fence import Fence
from outlast.ledger.item_sql import WrittenResult, write_results
from outlast.ledger.items import UPSERT_FAILURE, ItemRecords
from outlast.store.schema import fences


@dataclass(frozen=True)
class LeaseHistory:
    """
    What earlier leases have left: failures by item, and the items that had begun to
    write.
    """

    failures: dict[int, int]
    started: set[int]


@dataclass(frozen=True)
class ItemFailure:
    """
    How an item has failed, with the failures and process deaths that it has had.

    :param trace: the traceback of what its agent raised.
    """

    item: int
    failures: int
    deaths: int
    cause: str
    dead: bool
    trace: str = ""


class LeaseLedger(Fence):
    """
    The items of a lease, written under its claim.
    """

    @property
    def items(self) -> ItemRecords:
        return ItemRecords(self.store, self._clock)

    def load_history(self, lease: Lease) -> LeaseHistory:
        span = lease.span
        failures = self.items.failures(lease.batch.id, span)
        query = sa.select(fences.c.task).where(
            fences.c.mission == lease.batch.id,
            fences.c.task >= str(ItemId(span.start)),
            fences.c.task < str(ItemId(span.stop)),
        )
        found = [parse(ItemId, row.task) for row in self.store.rows(query)]
        return LeaseHistory(failures, {each.number for each in found if each})

    def write_results(
        self,
        claim: Claim,
        rows: list[WrittenResult],
        closing: list[Claim],
        durable: bool,
    ) -> None:
        def put(connection: sa.Connection) -> None:
            write_results(connection, claim.mission, rows)
            for each in closing:
                close_attempt(connection, each.params, "ended", self._clock())

        self.write(claim, "items", put, durable)

    def record_item_failure(self, claim: Claim, failure: ItemFailure) -> None:
        """
        Note that an item has failed, for good when it is dead.

        :raises StaleAttemptError: when a later attempt has the lease.
        """
        row = {
            "batch": claim.mission,
            "item": failure.item,
            "failures": failure.failures,
            "deaths": failure.deaths,
            "cause": failure.cause,
            "traceback": failure.trace or None,
            "dead_at": self._clock() if failure.dead else None,
        }
        self.write(
            claim, "items", lambda connection: connection.execute(UPSERT_FAILURE, row)
        )
