"""
The results of a mission's tasks, read one at a time.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from outlast.store.database import Store
from outlast.store.schema import results


class TaskResults(Mapping[str, Any]):
    """
    The results of *mission* in *store*, of their last rounds, by task: each is read
    when it is asked for, since together they may be more than memory holds.
    """

    def __init__(self, store: Store, mission: str) -> None:
        self._store = store
        self._of = results.c.mission == mission

    def __getitem__(self, task: str) -> Any:
        return json.loads(self.text(task))

    def text(self, task: str) -> str:
        """
        Read the result of *task* as JSON.

        :raises KeyError: when it has none.
        """
        query = sa.select(results.c.result).where(self._of, results.c.task == task)
        query = query.order_by(results.c.round.desc()).limit(1)
        with self._store.read() as connection:
            found = connection.scalar(query)
        if found is None:
            raise KeyError(task)
        return str(found)

    def __iter__(self) -> Iterator[str]:
        query = sa.select(results.c.task).where(self._of).group_by(results.c.task)
        query = query.order_by(sa.func.min(results.c.recorded_at), results.c.task)
        with self._store.read() as connection:
            return iter(connection.scalars(query).all())

    def __len__(self) -> int:
        return len(list(iter(self)))
