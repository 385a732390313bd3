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

from outlast.contracts.ids import MISSIONS_QUEUE, QueueId, parse, queue_of
from outlast.contracts.policies import BOOT_S, GONE_S, SIGN_S, SILENCE_S

# A look stands for so long at most: what nobody sees does not count as absence.
SEEN_S = 0.8
# What was seen is of use for so long.
STALE_S = GONE_S
# One who could not look for so long begins anew: the server may have been away, and
# lists at first only those whose signs came first.
BLIND_S = SILENCE_S
# A worker whose sign is older may be lost: no task is sent on to it.
LIVELY_S = 2 * SIGN_S

Clock = Callable[[], float]


@dataclass
class Seen:
    """
    One worker as it was seen last.

    :param sign: the time of its last sign, by its own clock.
    :param at: when that sign was new, in seen seconds.
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
        self._looked_at = clock()
        self._begin()
        self.lookouts: list[str] = []  # those that look themselves, by identity

    def _begin(self) -> None:
        self._seen_s = 0.0  # of the time since then; all that follows is in it
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
        running = {
            each.worker_instance_key: each
            for each in found
            if each.status == WorkerStatus.WORKER_STATUS_RUNNING
        }
        since_s = self._clock() - self._looked_at
        self._looked_at += since_s
        strangers = bool(self._workers) and not self._workers.keys() & running.keys()
        if since_s > BLIND_S or strangers:
            self._begin()
        self._seen_s += min(since_s, SEEN_S)
        self._workers = {key: self._seen(key, running[key]) for key in running}
        live = {
            key: each
            for key, each in running.items()
            if self._silence_s(key) <= SILENCE_S
        }
        self._played |= {each.task_queue: self._seen_s for each in live.values()}
        self._silent = self._where_the_last_is_silent(running)
        moved = {key: each for key, each in live.items() if self._workers[key].moved}
        self._steady = any(_age_s(each) > BOOT_S for each in moved.values())
        self._lively = {
            each.task_queue
            for key, each in moved.items()
            if self._silence_s(key) <= LIVELY_S
        }
        self.lookouts = [
            each.worker_identity
            for each in live.values()
            if each.task_queue == MISSIONS_QUEUE
        ]

    @property
    def sure(self) -> bool:
        """
        Say whether anything can be said: somebody is there, and has been for long
        enough; so have we.
        """
        fresh = self._clock() - self._looked_at <= STALE_S
        return fresh and self._steady and self._seen_s > BOOT_S

    def gone(self, role: str) -> bool:
        """
        Say whether nobody plays *role*, for sure.
        """
        return self.sure and self._is_gone(queue_of(role))

    def _is_gone(self, queue: str) -> bool:
        since_s = self._seen_s - self._played.get(queue, 0.0)
        return queue in self._silent or since_s > GONE_S

    @property
    def live(self) -> list[str]:
        """
        List the roles that are played, without doubt.
        """
        return sorted(role for each in self._lively if (role := _role_of(each)))

    @property
    def doubtful(self) -> list[str]:
        """
        List the roles that may be played or not: what is said without them may be
        wrong in a moment.
        """
        known = self._played.keys() - self._lively
        unsure = (each for each in known if not self._is_gone(each))
        return sorted(role for each in unsure if (role := _role_of(each)))

    def _where_the_last_is_silent(
        self, running: dict[str, WorkerHeartbeat]
    ) -> set[str]:
        """
        Find the queues whose newest sign is old, and of one who has not signed off.

        A lost host's workers stay on the list for minutes. Others may have played since
        and have just signed off for whoever is about to give a first sign.
        """
        for key, each in running.items():
            heard = self._heard.get(each.task_queue, 0.0)
            self._heard[each.task_queue] = max(heard, self._workers[key].at)
        return {
            each.task_queue
            for key, each in running.items()
            if self._silence_s(key) > SILENCE_S
            and self._workers[key].at >= self._heard[each.task_queue]
        }

    def _silence_s(self, key: str) -> float:
        return self._seen_s - self._workers[key].at

    def _seen(self, key: str, sign: WorkerHeartbeat) -> Seen:
        at = sign.heartbeat_time.ToNanoseconds()
        before = self._workers.get(key)
        if before is None:
            return Seen(at, self._seen_s)
        return before if before.sign == at else Seen(at, self._seen_s, moved=True)


def share(missions: list[str], mine: str, live: list[str]) -> list[str]:
    """
    Choose whose missions one lookout looks at: every so many-th, by its place among
    the *live* ones; all of them where it is not listed yet.
    """
    if mine not in live:
        return missions
    return missions[sorted(live).index(mine) :: len(live)]


def _role_of(queue: str) -> str | None:
    """
    Read the role whose tasks wait on *queue*; None where it is another queue.
    """
    found = parse(QueueId, queue)
    return found.role if found and found.kind == "role" else None


def _age_s(sign: WorkerHeartbeat) -> float:
    """
    Say how old the worker was when it gave the sign, by its own clock alone.
    """
    lived = sign.heartbeat_time.ToNanoseconds() - sign.start_time.ToNanoseconds()
    return lived / 1e9
