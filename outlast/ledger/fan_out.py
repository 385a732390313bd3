"""
The batch of a fan-out: whole from the start, within the transaction that records the
answer that asks for it.
"""

import sqlalchemy as sa

from outlast.contracts.batches import Batch
from outlast.contracts.errors import GiveUp
from outlast.ledger.batches import OPEN, batch_row
from outlast.ledger.items import ItemRow, append
from outlast.ledger.retention import delete_batch
from outlast.store.schema import batches


def write_fan_out(
    connection: sa.Connection,
    batch: Batch,
    rows: list[ItemRow],
    recorded: bool,
    now: float,
) -> None:
    """
    Enter *batch*, closed, with the items *rows*, instead of those that an attempt has
    left which never recorded them.

    :param recorded: whether an answer has asked for the batch that there may be.
    :raises GiveUp: when that one is or was worked through: it is not opened again.
    """
    own = batches.c.id == batch.id
    # No two write here: the task's claim is held, and no other attempt adds to it.
    state = connection.scalar(sa.select(batches.c.state).where(own))
    if state is not None:
        if recorded or state != OPEN:
            raise GiveUp(
                f"the items of {batch.id} were handed out before: a round of a task "
                f"fans out once; see `outlast status {batch.id}`"
            )
        delete_batch(connection, batch.id)
    connection.execute(sa.insert(batches), {**batch_row(batch, now), "closed": True})
    append(connection, batch.id, 0, set(), rows, now)
