"""
Which roles are played, judged by signs of life that go on coming. Pure.

A role that is taken for lost though it is not costs its mission a degradation that
nobody needed. So what is not sure is not told: while everything starts, after a time in
which nobody looked, and of roles whose workers are neither heard nor gone.
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

# A look stands for so long at most: what nobody sees does not count as absence.
LISTING_FRESH_S = 0.8
# What was seen is of use for so long.
HEARTBEAT_STALE_S = ROLE_UNSERVED_S
# One who could not look for so long begins anew: the server may have been away, and
# lists at first only those whose signs came first.
LISTING_LOST_S = WORKER_LOST_S
# A worker whose sign is older may be lost: no task is sent on to it.
PROCESS_ALIVE_S = 2 * WORKER_HEARTBEAT_S

Clock = Callable[[], float]


@dataclass
class WorkerState:
    """
    One worker at the last listing.

    :param heartbeat: the time of its last heartbeat, by its own clock.
    :param at: when that heartbeat was new, in seen seconds.
    :param moved: whether it has sent a heartbeat since we saw it first.
    """

    heartbeat: int
    at: float
    moved: bool = False


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
        self._listed: dict[str, float] = {}  # queue: when its newest sign was new
        self._silent: set[str] = set()  # queues whose last worker gives no sign
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
        self._workers = {key: self._state_of(key, running[key]) for key in running}
        live = {
            key: each
            for key, each in running.items()
            if self._silence_s(key) <= WORKER_LOST_S
        }
        self._served |= {each.task_queue: self._seen_s for each in live.values()}
        self._silent = self._queues_with_silent_workers(running)
        moved = {key: each for key, each in live.items() if self._workers[key].moved}
        self._steady = any(_age_s(each) > STARTUP_GRACE_S for each in moved.values())
        self._alive = {
            each.task_queue
            for key, each in moved.items()
            if self._silence_s(key) <= PROCESS_ALIVE_S
        }
        self.monitors = [
            each.worker_identity
            for each in live.values()
            if each.task_queue == MISSIONS_QUEUE
        ]

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

    def _queues_with_silent_workers(
        self, running: dict[str, WorkerHeartbeat]
    ) -> set[str]:
        """
        Find the queues whose newest heartbeat is old, and of a worker that has not
        signed off.

        A lost host's workers stay on the list for minutes. Others may have served since
        and have just signed off while their successors have not sent a heartbeat yet.
        """
        for key, each in running.items():
            heard = self._listed.get(each.task_queue, 0.0)
            self._listed[each.task_queue] = max(heard, self._workers[key].at)
        return {
            each.task_queue
            for key, each in running.items()
            if self._silence_s(key) > WORKER_LOST_S
            and self._workers[key].at >= self._listed[each.task_queue]
        }

    def _silence_s(self, key: str) -> float:
        return self._seen_s - self._workers[key].at

    def _state_of(self, key: str, heartbeat: WorkerHeartbeat) -> WorkerState:
        at = heartbeat.heartbeat_time.ToNanoseconds()
        before = self._workers.get(key)
        if before is None:
            return WorkerState(at, self._seen_s)
        return (
            before
            if before.heartbeat == at
            else WorkerState(at, self._seen_s, moved=True)
        )


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


def _age_s(heartbeat: WorkerHeartbeat) -> float:
    lived = (
        heartbeat.heartbeat_time.ToNanoseconds() - heartbeat.start_time.ToNanoseconds()
    )
    return lived / 1e9
