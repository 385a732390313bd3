"""
What tasks have spent: tokens and cost, summed up over their attempts.
"""

from typing import NamedTuple

import sqlalchemy as sa

from outlast.ledger.claim import Claim
from outlast.ledger.statements import OF_MISSION, of_task
from outlast.store.schema import spending
from outlast.store.upsert import insert

_FRESH = insert(spending)
ADD_USAGE = _FRESH.on_conflict_do_update(
    index_elements=["mission", "task"],
    set_={
        "tokens": spending.c.tokens + _FRESH.excluded.tokens,
        "cost": spending.c.cost + _FRESH.excluded.cost,
    },
)
_USAGE = sa.select(sa.func.sum(spending.c.tokens), sa.func.sum(spending.c.cost))
MISSION_USAGE = _USAGE.where(spending.c.mission == OF_MISSION)
TASK_USAGE = _USAGE.where(of_task(spending))


class Usage(NamedTuple):
    """
    Tokens and cost.
    """

    tokens: int
    cost: float


NO_USAGE = Usage(0, 0.0)


class UsageTotals(NamedTuple):
    """
    What the mission has spent in all, and the task of it.
    """

    mission: Usage
    task: Usage


def add_usage(connection: sa.Connection, claim: Claim, used: Usage) -> UsageTotals:
    connection.execute(ADD_USAGE, {**claim.key, **used._asdict()})
    whole = connection.execute(MISSION_USAGE, claim.params).one()
    own = connection.execute(TASK_USAGE, claim.params).one()
    return UsageTotals(Usage(*whole), Usage(*own))
