"""
What a lease reads and writes in the ledger, each write under its claim.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from outlast.contracts.batches import Lease
from outlast.contracts.ids import ItemId, parse
from outlast.ledger.fence import Claim
from outlast.ledger.item_sql import Settled, settle
from outlast.ledger.items import Items, trouble
from outlast.ledger.ledger import Ledger
from outlast.store.schema import claims


@dataclass(frozen=True)
class Found:
    """
    What earlier leases have left: failures by item, and the items that had begun to
    write.
    """

    failures: dict[int, int]
    begun: set[int]


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


class LeaseLedger(Ledger):
    """
    The ledger with the items beside it.
    """

    @classmethod
    def of(cls, ledger: Ledger) -> "LeaseLedger":
        """
        Look at *ledger* as a lease does.
        """
        return cls(ledger.store, ledger.fencing, ledger._clock, ledger.permits)

    @property
    def items(self) -> Items:
        return Items(self.store, self._clock)

    def found(self, lease: Lease) -> Found:
        """
        Find what to take over.
        """
        span = lease.span
        failures = self.items.troubles(lease.batch.id, span)
        query = sa.select(claims.c.task).where(
            claims.c.mission == lease.batch.id,
            claims.c.task >= str(ItemId(span.start)),
            claims.c.task < str(ItemId(span.stop)),
        )
        with self.store.read() as connection:
            found = [parse(ItemId, each) for each in connection.scalars(query)]
        return Found(failures, {each.number for each in found if each})

    def settle(
        self, claim: Claim, rows: list[Settled], closing: list[Claim], durable: bool
    ) -> None:
        """
        Write results.

        :raises StaleAttemptError: when a later attempt has the lease.
        """

        def put(connection: sa.Connection) -> None:
            settle(connection, claim.mission, rows)
            for each in closing:
                self._close_line(connection, each, "ended", self._clock())

        self._write(claim, "items", put, durable)

    def trouble(self, claim: Claim, failure: ItemFailure) -> None:
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
        self._write(claim, "items", lambda connection: connection.execute(trouble(row)))
