"""
Which roles are played, judged by signs of life that go on coming. Pure.

A role that is taken for lost though it is not costs its mission a degradation that
nobody needed. So nothing is judged of a time in which nobody looked, while everything
starts, or by workers of which nothing was heard but that they are on the list.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat

from outlast.contracts.names import MISSIONS_QUEUE, queue_of
from outlast.contracts.policies import BOOT_S, GONE_S, SIGN_S, SILENCE_S

# What was seen is of use for so long; one who looks again after that begins anew.
BLIND_S = GONE_S
# A worker whose sign is older may be lost: no task is sent on to it.
LIVELY_S = 2 * SIGN_S

Clock = Callable[[], float]


@dataclass
class Seen:
    """
    One worker as it was seen last.

    :param sign: the time of its last sign, by its own clock.
    :param at: when that sign was new, by ours.
    :param moved: whether it has given a sign since we saw it first.
    """

    sign: int
    at: float
    moved: bool = False


class Horizon:
    """
    What can be seen of all workers, from look to look.

    Whether a sign is new is seen from the signs themselves, so that the clocks of the
    workers' hosts may be wrong.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._begin(clock())
        self.lookouts: list[str] = []  # those that look themselves, by identity

    def _begin(self, now: float) -> None:
        self._began = self._looked_at = now
        self._workers: dict[str, Seen] = {}
        self._played: dict[str, float] = {}  # queue: when a worker of it was last live
        self._heard: dict[str, float] = {}  # queue: when its newest sign was new
        self._silent: set[str] = set()  # queues whose last worker gives no sign
        self._lively: set[str] = set()
        self._steady = False

    def look(self, found: Iterable[WorkerHeartbeat]) -> None:
        """
        Take in what the server lists now.
        """
        now = self._clock()
        if now - self._looked_at > BLIND_S:
            self._begin(now)  # its server may have been away, and lists few for a while
        self._looked_at = now
        running = {
            each.worker_instance_key: each
            for each in found
            if each.status == WorkerStatus.WORKER_STATUS_RUNNING
        }
        self._workers = {key: self._seen(key, running[key], now) for key in running}
        live = {
            key: each
            for key, each in running.items()
            if now - self._workers[key].at <= SILENCE_S
        }
        self._played |= {each.task_queue: now for each in live.values()}
        self._silent = self._where_the_last_is_silent(running, now)
        moved = [each for key, each in live.items() if self._workers[key].moved]
        self._steady = any(_age_s(each) > BOOT_S for each in moved)
        self._lively = {
            each.task_queue
            for each in moved
            if now - self._workers[each.worker_instance_key].at <= LIVELY_S
        }
        self.lookouts = [
            each.worker_identity
            for each in live.values()
            if each.task_queue == MISSIONS_QUEUE
        ]

    def gone(self, role: str) -> bool:
        """
        Say whether nobody plays *role*, while somebody is there and has been for long
        enough to say so.
        """
        if not self._steady or self._clock() - self._looked_at > BLIND_S:
            return False
        queue = queue_of(role)
        if queue in self._silent:
            return True
        if queue not in self._played:  # it may be starting, as we have just done
            return self._looked_at - self._began > BOOT_S
        return self._looked_at - self._played[queue] > GONE_S

    @property
    def live(self) -> list[str]:
        """
        List the roles that are played, without doubt.
        """
        start = queue_of("")
        return sorted(
            queue.removeprefix(start)
            for queue in self._lively
            if queue.startswith(start)
        )

    def _where_the_last_is_silent(
        self, running: dict[str, WorkerHeartbeat], now: float
    ) -> set[str]:
        """
        Find the queues whose newest sign is old, and of one who has not signed off.

        A lost host's workers stay on the list for minutes. Others may have played since
        and have just signed off for whoever is about to give a first sign.
        """
        for key, each in running.items():
            heard = self._heard.get(each.task_queue, -math.inf)
            self._heard[each.task_queue] = max(heard, self._workers[key].at)
        return {
            each.task_queue
            for key, each in running.items()
            if now - self._workers[key].at > SILENCE_S
            and self._workers[key].at >= self._heard[each.task_queue]
        }

    def _seen(self, key: str, sign: WorkerHeartbeat, now: float) -> Seen:
        at = sign.heartbeat_time.ToNanoseconds()
        before = self._workers.get(key)
        if before is None:
            return Seen(at, now)
        return before if before.sign == at else Seen(at, now, moved=True)


def share(missions: list[str], mine: str, live: list[str]) -> list[str]:
    """
    Choose whose missions one lookout looks at: every so many-th, by its place among
    the *live* ones; all of them where it is not listed yet.
    """
    if mine not in live:
        return missions
    return missions[sorted(live).index(mine) :: len(live)]


def _age_s(sign: WorkerHeartbeat) -> float:
    """
    Say how old the worker was when it gave the sign, by its own clock alone.
    """
    lived = sign.heartbeat_time.ToNanoseconds() - sign.start_time.ToNanoseconds()
    return lived / 1e9
