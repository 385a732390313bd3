"""
The statements that every attempt makes, built once.

Building an expression costs more than running it (0.8 against 0.1 ms a save), and an
attempt that takes over from a dead one is waited for. Parameters are named `of_*`
where they say which row.
"""

from typing import Any

import sqlalchemy as sa

from outlast.store.schema import attempts, checkpoints, fences, results, runs
from outlast.store.upsert import insert

MISSION_PARAM: sa.BindParameter[str] = sa.bindparam("of_mission")
TASK_PARAM: sa.BindParameter[str] = sa.bindparam("task_params")
ROUND_PARAM: sa.BindParameter[int] = sa.bindparam("round_params")
FENCE_PARAM: sa.BindParameter[int] = sa.bindparam("of_fence")


def _of(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.mission == MISSION_PARAM, table.c.task == TASK_PARAM)


# The run of the mission's workflow whose attempts may claim its tasks.
LAST_RUN = (
    sa.select(runs.c.run, runs.c.number)
    .where(runs.c.mission == MISSION_PARAM)
    .order_by(runs.c.number.desc())
    .limit(1)
)


def _claiming(fenced: bool) -> sa.Executable:
    columns = ["mission", "task", "round", "route", "fence"]
    fresh = insert(fences).values(
        {name: sa.bindparam(name) for name in columns} | {"attempt": 1, "failures": 0}
    )
    new = fresh.excluded
    same_round = fences.c.round == new.round
    same_route = sa.and_(same_round, fences.c.route == new.route)
    taken = fresh.on_conflict_do_update(
        index_elements=["mission", "task"],
        set_={
            "round": new.round,
            "route": new.route,
            "fence": new.fence,
            "attempt": sa.case((same_round, fences.c.attempt + 1), else_=1),
            "failures": sa.case((same_route, fences.c.failures), else_=0),
        },
        where=fences.c.fence < new.fence if fenced else sa.true(),
    )
    return taken.returning(fences.c.attempt)


# Takes a claim, or returns no row if a later one stands; by whether fencing is on.
CLAIM = {fenced: _claiming(fenced) for fenced in (True, False)}

_ASSERT_FENCE = sa.update(fences).where(_of(fences)).values(task=fences.c.task)
# Changes the one row that the highest fence may change; by whether fencing is on.
ASSERT_FENCE = {
    True: _ASSERT_FENCE.where(fences.c.fence == FENCE_PARAM),
    False: _ASSERT_FENCE,
}

_ATTEMPT = sa.and_(_of(attempts), attempts.c.fence == FENCE_PARAM)
OPEN_ATTEMPT = (
    insert(attempts)
    .values(
        {
            name: sa.bindparam(name)
            for name in [
                "mission",
                "task",
                "fence",
                "round",
                "attempt",
                "route",
                "host",
                "pid",
                "started_at",
                "resumed_seq",
                "previous_failure",
                "detected_by",
                "recovery_s",
            ]
        }
    )
    .on_conflict_do_nothing()
)
RESUMED = sa.update(attempts).where(_ATTEMPT).values(resumed_seq=sa.bindparam("seq"))
CLOSE_ATTEMPT = (
    sa.update(attempts)
    .where(_ATTEMPT, attempts.c.ended_at.is_(None))
    .values(
        ended_at=sa.bindparam("now"),
        end_reason=sa.bindparam("how"),
        traceback=sa.bindparam("trace"),
        failure_type=sa.bindparam("kind"),
    )
)

# When an attempt of a round last saved, and last started or ended.
LAST_SAVED = sa.select(sa.func.max(checkpoints.c.saved_at)).where(
    _of(checkpoints), checkpoints.c.round == ROUND_PARAM
)
LAST_ATTEMPT = sa.select(
    sa.func.max(sa.func.coalesce(attempts.c.ended_at, attempts.c.started_at))
).where(_of(attempts), attempts.c.round == ROUND_PARAM)


def _saving() -> sa.Executable:
    """
    Number a save within the statement that writes it: what the attempt believes to be
    the next number is the lowest it gets, for a save beside it may have taken that.
    """
    key = ["mission", "task", "route"]
    rest = ["round", "fence", "version", "value", "digest", "body", "saved_at"]
    earlier = sa.select(sa.func.max(checkpoints.c.seq) + 1).where(
        checkpoints.c.mission == sa.bindparam("mission"),
        checkpoints.c.task == sa.bindparam("task"),
        checkpoints.c.round == sa.bindparam("round"),
        checkpoints.c.seq >= sa.bindparam("seq"),
    )
    number = sa.func.coalesce(earlier.scalar_subquery(), sa.bindparam("seq"))
    row: dict[str, Any] = {name: sa.bindparam(name) for name in [*key, *rest]}
    fresh = insert(checkpoints).values({**row, "seq": number})
    saved = fresh.on_conflict_do_update(
        index_elements=key,
        set_={name: fresh.excluded[name] for name in [*rest, "seq"]},
    )
    return saved.returning(checkpoints.c.seq)


# Returns the number. Its row lock is the claim's: see HOLD.
SAVE_CHECKPOINT = _saving()
LAST_CHECKPOINT = sa.select(
    checkpoints.c.seq,
    checkpoints.c.route,
    checkpoints.c.version,
    checkpoints.c.value,
    checkpoints.c.digest,
).where(
    _of(checkpoints),
    checkpoints.c.round == ROUND_PARAM,
    checkpoints.c.route == sa.bindparam("of_route"),
)
# The room of the body before becomes that of the next one, within one transaction.
DROP_BODY = (
    sa.update(checkpoints)
    .where(_of(checkpoints), checkpoints.c.route == sa.bindparam("of_route"))
    .values(body=None)
)
CHECKPOINT_BODY = sa.select(checkpoints.c.body).where(
    _of(checkpoints), checkpoints.c.digest == sa.bindparam("of_digest")
)


def _recording_result() -> sa.Executable:
    """
    Note beside a result the highest fence that had claimed its task: the audit tells
    by it that no stale attempt's result was recorded, whatever any clock has said.
    """
    key = ["mission", "task", "round"]
    rest = ["fence", "answer", "recorded_at", "result"]
    highest = sa.select(sa.func.max(attempts.c.fence)).where(
        attempts.c.mission == sa.bindparam("mission"),
        attempts.c.task == sa.bindparam("task"),
    )
    claimed = sa.func.coalesce(highest.scalar_subquery(), sa.bindparam("fence"))
    row: dict[str, Any] = {name: sa.bindparam(name) for name in [*key, *rest]}
    fresh = insert(results).values({**row, "claimed": claimed})
    return fresh.on_conflict_do_update(
        index_elements=key,
        set_={name: fresh.excluded[name] for name in [*rest, "claimed"]},
    )


RECORD_RESULT = _recording_result()
LAST_ANSWER = (
    sa.select(results.c.answer)
    .where(_of(results))
    .order_by(results.c.round.desc())
    .limit(1)
)
ANSWER = LAST_ANSWER.where(results.c.round == ROUND_PARAM)
LAST_RESULT = LAST_ANSWER.add_columns(results.c.result)
RESULT_OF_ROUND = ANSWER.add_columns(results.c.result)
