"""
Closes a mission's books: the one write that the supervisor workflow asks for.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import activity

from outlast.attempt.counts import DEAD_TASKS, PARKED, count
from outlast.contracts.models import Report, Status
from outlast.store.books import Books
from outlast.store.database import Store

COUNTED = {Status.PARKED: PARKED, Status.DEAD: DEAD_TASKS}


def close_mission(store: Store) -> Callable[[Report], Coroutine[Any, Any, None]]:
    """
    Make the activity that closes missions in *store*.
    """

    @activity.defn(name="close_mission")
    async def close(report: Report) -> None:
        await store.run(Books(store).close, report)
        for task in report.tasks:
            if task.status in COUNTED:
                count(COUNTED[task.status])

    return close
