"""
The attempts: one row each, from its claim until it says how it has ended, or until
somebody who knows that its process died says so.
"""

import os
import socket
from typing import Any

import sqlalchemy as sa

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.failures import FailureType
from outlast.ledger.statements import (
    OF_MISSION,
    OF_TASK,
    of_attempt,
    of_round,
)
from outlast.store.schema import attempts, batches, checkpoints, fences, missions
from outlast.store.upsert import insert_if_absent

# The end of an attempt whose process died, or was cut off, before it wrote one.
NO_END = "no end recorded"

LAST_SAVED = sa.select(sa.func.max(checkpoints.c.saved_at)).where(of_round(checkpoints))
LAST_ATTEMPT = sa.select(
    sa.func.max(sa.func.coalesce(attempts.c.ended_at, attempts.c.started_at))
).where(of_round(attempts))
_CLOSE = (
    sa.update(attempts)
    .where(attempts.c.ended_at.is_(None))
    .values(
        ended_at=sa.bindparam("now"),
        end_reason=sa.bindparam("how"),
        failure_type=sa.bindparam("kind"),
    )
)
CLOSE_ATTEMPT = _CLOSE.where(of_attempt(attempts)).values(
    traceback=sa.bindparam("trace")
)
RESUMED = (
    sa.update(attempts)
    .where(of_attempt(attempts))
    .values(resumed_seq=sa.bindparam("seq"))
)
CLOSE_MISSION = _CLOSE.where(attempts.c.mission == OF_MISSION)
CLOSE_TASK = CLOSE_MISSION.where(attempts.c.task == OF_TASK)
# Whether an attempt is its task's last one, has no end on record, and may act still.
IS_LIVE = (
    sa.select(sa.literal(1))
    .select_from(fences)
    .join(
        attempts,
        sa.and_(
            attempts.c.mission == fences.c.mission,
            attempts.c.task == fences.c.task,
            attempts.c.fence == fences.c.fence,
        ),
    )
    .outerjoin(missions, missions.c.id == fences.c.mission)
    .outerjoin(batches, batches.c.id == fences.c.mission)
    .where(
        of_attempt(fences),
        attempts.c.ended_at.is_(None),
        missions.c.finished_at.is_(None),
        batches.c.finished_at.is_(None),
    )
)


def open_attempt(
    connection: sa.Connection,
    row: dict[str, Any],
    assignment: AttemptInput,
    params: dict[str, Any],
    now: float,
) -> float | None:
    """
    Open the row of an attempt; returns how long ago an earlier one of this round last
    started, saved or ended, in seconds.

    :param row: what the claim says of it.
    :param params: of the claim.
    """
    signs = [connection.scalar(look, params) for look in (LAST_SAVED, LAST_ATTEMPT)]
    last_sign = max((sign for sign in signs if sign is not None), default=None)
    recovery_s = max(0.0, now - last_sign) if last_sign else None
    opened = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started_at": now,
        "resumed_seq": 0,
        "previous_failure": assignment.previous_failure,
        "detected_by": assignment.detected_by,
        "recovery_s": recovery_s,
    }
    insert_if_absent(connection, attempts, {**row, **opened})
    return recovery_s


def close_attempt(
    connection: sa.Connection,
    params: dict[str, Any],
    ending: str,
    now: float,
    trace: str = "",
    kind: FailureType | None = None,
) -> bool:
    """
    Say how the attempt of the claim with *params* has ended, once; False where that is
    said already.
    """
    how = {"now": now, "how": ending, "trace": trace or None, "kind": kind}
    return connection.execute(CLOSE_ATTEMPT, {**params, **how}).rowcount == 1


def close_attempts(
    connection: sa.Connection, mission: str, now: float, task: str = ""
) -> None:
    """
    Note that no attempt of *mission*, or of its one *task*, which has died, is at work
    any more: a process that died has not written down its end.
    """
    which = {"of_mission": mission, "now": now}
    if task:
        died = {"how": "died", "kind": FailureType.CRASHED, "of_task": task}
        connection.execute(CLOSE_TASK, {**which, **died})
    else:
        unknown = {"how": NO_END, "kind": FailureType.NOT_RECORDED}
        connection.execute(CLOSE_MISSION, {**which, **unknown})


def is_attempt_live(connection: sa.Connection, effect: Any, now: float) -> bool:
    """
    Say whether the attempt that began *effect*, a row, may be at work still: it has
    no end on record, and the limit that it began with is not over.
    """
    if now > effect.deadline:
        return False
    owner = {
        "of_mission": effect.mission,
        "of_task": effect.task,
        "of_fence": effect.fence,
    }
    return connection.scalar(IS_LIVE, owner) is not None
