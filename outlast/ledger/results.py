"""
The results of tasks, a row each round: what travels of one, its answer, beside the
result itself, which may be large.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from outlast.ledger.statements import OF_MISSION, OF_ROUND, of_task
from outlast.store.database import Store
from outlast.store.schema import attempts, results
from outlast.store.upsert import upsert

# A result's row has the highest fence that had claimed its task by then: from that the
# audit sees whether a stale attempt's result was recorded, whatever any clock has said.
_HIGHEST = sa.select(sa.func.max(attempts.c.fence)).where(
    attempts.c.mission == sa.bindparam("mission"),
    attempts.c.task == sa.bindparam("task"),
)
RECORD_RESULT = upsert(
    results,
    ["mission", "task", "round"],
    ["fence", "answer", "recorded_at", "result"],
    claimed=sa.func.coalesce(_HIGHEST.scalar_subquery(), sa.bindparam("fence")),
)
LAST_ANSWER = (
    sa.select(results.c.answer)
    .where(of_task(results))
    .order_by(results.c.round.desc())
    .limit(1)
)
ANSWER = LAST_ANSWER.where(results.c.round == OF_ROUND)
LAST_RESULT = LAST_ANSWER.add_columns(results.c.result)
RESULT_OF_ROUND = ANSWER.add_columns(results.c.result)
TASKS = (
    sa.select(results.c.task)
    .where(results.c.mission == OF_MISSION)
    .group_by(results.c.task)
    .order_by(sa.func.min(results.c.recorded_at), results.c.task)
)


class TaskResults(Mapping[str, Any]):
    """
    The results of *mission* in *store*, of their last rounds, by task: each is read
    when it is asked for, since together they may be more than memory holds.
    """

    def __init__(self, store: Store, mission: str) -> None:
        self._store = store
        self._mission = mission

    def __getitem__(self, task: str) -> Any:
        return json.loads(self.text(task))

    def text(self, task: str) -> str:
        """
        Read the result of *task* as JSON.

        :raises KeyError: when it has none.
        """
        params = {"of_mission": self._mission, "of_task": task}
        found = self._store.first(LAST_RESULT, params)
        if found is None:
            raise KeyError(task)
        return str(found.result)

    def __iter__(self) -> Iterator[str]:
        found = self._store.rows(TASKS, {"of_mission": self._mission})
        return iter([row.task for row in found])

    def __len__(self) -> int:
        return len(list(self))
