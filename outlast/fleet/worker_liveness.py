"""
Which roles are served, judged by the heartbeats of their workers. Pure.

A role that is taken for lost though it is not costs its mission a degradation that
nobody needed. So what is not sure is not said: while everything starts, after a time
without listings, and of roles whose workers are neither heard nor gone.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat

from outlast.contracts.ids import MISSIONS_QUEUE, QueueId, parse, task_queue
from outlast.contracts.timing import (
    ROLE_UNSERVED_S,
    STARTUP_GRACE_S,
    WORKER_HEARTBEAT_S,
    WORKER_LOST_S,
)

# Cap on the time one listing accounts for; gaps do not count as absence.
LISTING_FRESH_S = 0.8
# A listing is of use for so long.
HEARTBEAT_STALE_S = ROLE_UNSERVED_S
# After so long without a listing everything is forgotten: the server may have been
# away, and lists at first only the workers whose heartbeats came first.
LISTING_LOST_S = WORKER_LOST_S
# A worker whose heartbeat is older may be lost: no task is sent on to it.
PROCESS_ALIVE_S = 2 * WORKER_HEARTBEAT_S

Clock = Callable[[], float]


@dataclass(frozen=True)
class WorkerState:
    """
    One worker at the last listing.

    :param sent: the time of its last heartbeat, by its own clock.
    :param at: when that heartbeat was new, in seen seconds.
    :param moved: whether it has sent a heartbeat since we saw it first.
    """

    last: WorkerHeartbeat
    sent: int
    at: float
    moved: bool = False

    @property
    def queue(self) -> str:
        return self.last.task_queue

    @property
    def age_s(self) -> float:
        """
        How old the worker was at its last heartbeat, by its own clock alone.
        """
        return (self.sent - self.last.start_time.ToNanoseconds()) / 1e9


class WorkerLiveness:
    """
    What the listings of workers show.

    Whether a heartbeat is new is seen from the heartbeats themselves, so that the
    clocks of the workers' hosts may be wrong.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._updated_at = clock()
        self._reset()
        self.monitors: list[str] = []  # those that look themselves, by identity

    def _reset(self) -> None:
        self._seen_s = 0.0  # of the time since then; all that follows is in it
        self._workers: dict[str, WorkerState] = {}
        self._served: dict[str, float] = {}  # queue: when a worker of it was last live
        self._listed: dict[str, float] = {}  # queue: when its newest heartbeat was new
        self._silent: set[str] = set()  # queues whose last worker sends no heartbeat
        self._alive: set[str] = set()
        self._steady = False

    def update(self, found: Iterable[WorkerHeartbeat]) -> None:
        running = {
            each.worker_instance_key: each
            for each in found
            if each.status == WorkerStatus.WORKER_STATUS_RUNNING
        }
        since_s = self._clock() - self._updated_at
        self._updated_at += since_s
        strangers = bool(self._workers) and not self._workers.keys() & running.keys()
        if since_s > LISTING_LOST_S or strangers:
            self._reset()
        self._seen_s += min(since_s, LISTING_FRESH_S)
        self._workers = {
            key: self._state_of(self._workers.get(key), each)
            for key, each in running.items()
        }
        self._judge([*self._workers.values()])

    def _judge(self, workers: list[WorkerState]) -> None:
        for each in workers:
            newest = self._listed.get(each.queue, 0.0)
            self._listed[each.queue] = max(newest, each.at)
        live = self._heard(workers, WORKER_LOST_S)
        self._served |= {each.queue: self._seen_s for each in live}
        # Whose newest heartbeat is old, and of a worker that has not signed off. A lost
        # host's workers stay on the list for minutes; others may have served since and
        # have just signed off while their successors have not sent a heartbeat yet.
        self._silent = {
            each.queue
            for each in workers
            if self._seen_s - each.at > WORKER_LOST_S
            and each.at >= self._listed[each.queue]
        }
        moved = [each for each in live if each.moved]
        self._steady = any(each.age_s > STARTUP_GRACE_S for each in moved)
        self._alive = {each.queue for each in self._heard(moved, PROCESS_ALIVE_S)}
        self.monitors = [
            each.last.worker_identity for each in live if each.queue == MISSIONS_QUEUE
        ]

    def _heard(self, workers: list[WorkerState], within_s: float) -> list[WorkerState]:
        return [each for each in workers if self._seen_s - each.at <= within_s]

    def _state_of(
        self, before: WorkerState | None, heartbeat: WorkerHeartbeat
    ) -> WorkerState:
        sent = heartbeat.heartbeat_time.ToNanoseconds()
        if before and before.sent == sent:
            return before
        return WorkerState(heartbeat, sent, self._seen_s, moved=before is not None)

    @property
    def is_conclusive(self) -> bool:
        """
        Whether the listings allow a judgement: somebody is there, and has been for long
        enough; so have we.
        """
        fresh = self._clock() - self._updated_at <= HEARTBEAT_STALE_S
        return fresh and self._steady and self._seen_s > STARTUP_GRACE_S

    def is_unserved(self, role: str) -> bool:
        return self.is_conclusive and self._queue_unserved(task_queue(role))

    def _queue_unserved(self, queue: str) -> bool:
        since_s = self._seen_s - self._served.get(queue, 0.0)
        return queue in self._silent or since_s > ROLE_UNSERVED_S

    @property
    def served_roles(self) -> list[str]:
        return sorted(role for each in self._alive if (role := _role_of(each)))

    @property
    def unknown_roles(self) -> list[str]:
        """
        List the roles that may be served or not: a judgement without them may be wrong
        in a moment.
        """
        known = self._served.keys() - self._alive
        unsure = (each for each in known if not self._queue_unserved(each))
        return sorted(role for each in unsure if (role := _role_of(each)))


def shard(missions: list[str], mine: str, live: list[str]) -> list[str]:
    """
    Choose which missions the monitor *mine* checks: every n-th, by its place among the
    *live* ones; all of them where it is not listed yet.
    """
    if mine not in live:
        return missions
    return missions[sorted(live).index(mine) :: len(live)]


def _role_of(queue: str) -> str | None:
    found = parse(QueueId, queue)
    return found.role if found and found.kind == "role" else None
