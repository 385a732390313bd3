"""
Workers that live but poll nothing: their event loop turns, so that the watchdog sees
no fault, and no task will ever reach them. The server's list of workers shows them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.client import Client

from outlast.temporal.worker_list import list_workers

# How often the list is read, and in how many readings in a row a worker must be silent:
# the list is some seconds old, and a worker that has just started is not on it yet.
POLL_CHECK_S = 10.0
MAX_MISSED_READINGS = 3


@dataclass
class MissedPolls:
    """
    Counts, from reading to reading, which workers do not poll.
    """

    _silent: dict[str, int] = field(default_factory=dict)

    def update(self, ours: set[str], polling: set[str]) -> set[str]:
        """
        Return which of *ours* have not polled for long enough.

        When none of ours polls, the server knows nothing: it lists no workers, or has
        just been started.
        """
        if not ours & polling:
            self._silent.clear()
            return set()
        self._silent = {each: self._silent.get(each, 0) + 1 for each in ours - polling}
        return {
            each for each, count in self._silent.items() if count >= MAX_MISSED_READINGS
        }


async def polling_identities(client: Client, ours: set[str]) -> set[str]:
    """
    List which of *ours* poll something or have all their slots in use.

    :raises UnavailableError: when the server lists no workers, or is away.
    """
    # One request for each: the list of all is long where many have died.
    listed = [await list_workers(client, f"WorkerIdentity = '{each}'") for each in ours]
    return is_polling(chain.from_iterable(listed))


def is_polling(heartbeats: Iterable[WorkerHeartbeat]) -> set[str]:
    return {
        each.worker_identity
        for each in heartbeats
        if each.activity_poller_info.current_pollers
        or each.workflow_poller_info.current_pollers
        or each.activity_task_slots_info.current_used_slots
        or each.workflow_task_slots_info.current_used_slots
    }
