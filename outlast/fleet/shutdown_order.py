"""
How a process leaves its queues: first those whose work somebody must take over.

To leave a queue costs the server a few milliseconds, and a fleet reads dozens. That
time is better spent on the attempts that are handed on, so the queues of other roles
are left a moment later; what is taken from one of them meanwhile is drained in turn.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from outlast.contracts.ids import lease_queue, quarantine_queue, task_queue
from outlast.fleet.recorder_reader import recent_names, recorder_files

# How long a fleet of the reference machine takes to hand on 20 attempts.
IDLE_QUEUES_DELAY_S = 0.3


class Stoppable(Protocol):
    """
    What reads one task queue, as the SDK's worker does.
    """

    @property
    def task_queue(self) -> str:
        """
        Which.
        """

    async def shutdown(self) -> None:
        """
        Stop reading, and return when nothing is left in hand.
        """


def busy_queues(folder: Path) -> set[str]:
    """
    Name the queues of roles that processes of this home have in hand, by the
    recorders in *folder*: a role's workers leave together, or one of them would take
    what another has just handed on.
    """
    roles = {
        each.route for path in recorder_files(folder) for each in recent_names(path)
    }
    named = (task_queue, lease_queue, quarantine_queue)
    return {name(role) for role in roles for name in named}


async def shut_down_in_order(workers: Sequence[Stoppable], busy: set[str]) -> None:
    """
    Shut *workers* down, those of *busy* queues first.
    """
    first = [each for each in workers if each.task_queue in busy]
    later = [each for each in workers if each.task_queue not in busy]
    leaving = asyncio.gather(*(each.shutdown() for each in first))
    if busy:
        await asyncio.sleep(IDLE_QUEUES_DELAY_S)
    await asyncio.gather(leaving, *(each.shutdown() for each in later))
