"""
Which run of a mission's workflow may claim: the one that the server calls current.

The server is asked once for a run, when the ledger sees it first, and again by what
comes late from an old one. What has claimed before is never asked about.
"""

from collections.abc import Callable
from typing import TypeVar

from outlast.contracts.errors import StaleAttemptError, UnknownRunError
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.fence import Fence

T = TypeVar("T")


async def in_run_order(
    ledger: Fence, order: int | AttemptOrder, mission: str, claim: Callable[[], T]
) -> T:
    """
    Do *claim*, which blocks; where the ledger does not know the attempt's run as the
    last one, admit it first.

    :raises StaleAttemptError: when the server has a later run, or none.
    """
    while True:
        try:
            return await ledger.store.run(claim)
        except UnknownRunError as unknown:
            assert isinstance(order, AttemptOrder)
            current = await order.current_run()
            if current != order.run:
                raise StaleAttemptError(_superseded_text(mission, current)) from None
            await ledger.store.run(ledger.admit_run, mission, order.run, unknown.last)


def _superseded_text(mission: str, current: str | None) -> str:
    if current is None:
        return f"{mission}: no run of it is under way, so nobody waits for this attempt"
    return f"{mission}: a later run of it is under way, so this attempt is over"
