"""
Checkpoints: the newest progress of a task, of each route that it was tried on.

`save_checkpoint` writes one, `newest_checkpoint` finds where an attempt goes on.
"""

import json
from typing import Any

import sqlalchemy as sa

from outlast.contracts.attempts import Checkpoint
from outlast.ledger.claim import Claim
from outlast.ledger.statements import of_round, of_task
from outlast.store.schema import checkpoints
from outlast.store.upsert import upsert

# What the attempt believes to be the next number is the lowest that a save gets: one
# at the same moment may have taken that. The statement's row lock is the claim's.
_TAKEN = sa.select(sa.func.max(checkpoints.c.seq) + 1).where(
    checkpoints.c.mission == sa.bindparam("mission"),
    checkpoints.c.task == sa.bindparam("task"),
    checkpoints.c.round == sa.bindparam("round"),
    checkpoints.c.seq >= sa.bindparam("seq"),
)
SAVE_CHECKPOINT = upsert(
    checkpoints,
    ["mission", "task", "route"],
    ["round", "fence", "version", "value", "digest", "body", "saved_at"],
    seq=sa.func.coalesce(_TAKEN.scalar_subquery(), sa.bindparam("seq")),
).returning(checkpoints.c.seq)
OF_ROUTE = checkpoints.c.route == sa.bindparam("of_route")
LAST_CHECKPOINT = sa.select(
    checkpoints.c.seq,
    checkpoints.c.route,
    checkpoints.c.version,
    checkpoints.c.value,
    checkpoints.c.digest,
).where(of_round(checkpoints), OF_ROUTE)
# Within one transaction the next body then takes the room of this one.
DROP_BODY = (
    sa.update(checkpoints).where(of_task(checkpoints), OF_ROUTE).values(body=None)
)
CHECKPOINT_BODY = sa.select(checkpoints.c.body).where(
    of_task(checkpoints), checkpoints.c.digest == sa.bindparam("of_digest")
)


def save_checkpoint(
    connection: sa.Connection,
    claim: Claim,
    checkpoint: Checkpoint,
    body: bytes | None,
    now: float,
) -> Checkpoint:
    """
    Replace the task's checkpoint, with its *body* where that is too large to travel;
    returns it with its number.
    """
    if body is not None:
        whose = {**claim.params, "of_route": checkpoint.route}
        connection.execute(DROP_BODY, whose)
    row = {**claim.key, "round": claim.round, "fence": claim.fence}
    row |= {**checkpoint_row(checkpoint), "body": body, "saved_at": now}
    seq = connection.scalar(SAVE_CHECKPOINT, row)
    return checkpoint.model_copy(update={"seq": seq})


def newest_checkpoint(
    connection: sa.Connection, claim: Claim, route: str, carried: list[Checkpoint]
) -> Checkpoint:
    """
    Choose where an attempt goes on: the store's checkpoint, unless one that travelled
    is newer and all of it is here.
    """
    saved = last_checkpoint(connection, claim, route)
    mine = [each for each in carried if each.route == route]
    newest = max(mine, key=lambda each: each.seq, default=Checkpoint())
    if saved is None:
        return newest
    # After a loss of power the body of a save that was not durable may be missing.
    lost = newest.blob is not None and not checkpoint_body(
        connection, claim.mission, claim.task, newest.blob
    )
    return saved if lost or newest.seq <= saved.seq else newest


def last_checkpoint(
    connection: sa.Connection, claim: Claim, route: str
) -> Checkpoint | None:
    whose = {**claim.params, "of_route": route}
    found = connection.execute(LAST_CHECKPOINT, whose).first()
    return None if found is None else checkpoint_of(found)


def checkpoint_body(
    connection: sa.Connection, mission: str, task: str, digest: str
) -> bytes | None:
    which = {"of_mission": mission, "of_task": task, "of_digest": digest}
    return connection.scalar(CHECKPOINT_BODY, which)


def checkpoint_row(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "seq": checkpoint.seq,
        "route": checkpoint.route,
        "version": checkpoint.version,
        "value": None if checkpoint.value is None else json.dumps(checkpoint.value),
        "digest": checkpoint.blob,
    }


def checkpoint_of(row: Any) -> Checkpoint:
    return Checkpoint(
        seq=row.seq,
        route=row.route,
        version=row.version,
        value=None if row.value is None else json.loads(row.value),
        blob=row.digest,
    )
