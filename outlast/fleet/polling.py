"""
How a worker process polls its queues, and leaves them: first those whose work another
process must continue.

To leave a queue costs the server a few milliseconds, and a fleet reads dozens. That
time is better spent on the attempts that are handed back, so the queues of other roles
are left a moment later; what is taken from one of them meanwhile is drained in turn.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from outlast.contracts.ids import lease_queue, quarantine_queue, task_queue
from outlast.execution.end_records import flush_closing
from outlast.fleet.messages import StateChanged
from outlast.fleet.parent_channel import ParentChannel, WorkerStoppedError
from outlast.fleet.process_kinds import ProcessState
from outlast.fleet.recorder_reader import recent_names, recorder_files
from outlast.fleet.workers import WorkerSet

# How long a fleet of the reference machine takes to hand back 20 attempts.
IDLE_QUEUES_DELAY_S = 0.3


class Stoppable(Protocol):
    """
    What reads one task queue, as the SDK's worker does.
    """

    @property
    def task_queue(self) -> str: ...

    async def shutdown(self) -> None: ...


async def poll_until_stopped(
    hosting: WorkerSet,
    parent: ParentChannel,
    stop: asyncio.Event,
    limit_s: float,
    recorders: Path,
) -> None:
    """
    Poll until *stop* is set, then drain within *limit_s*.

    :param recorders: the folder of those of this process and its neighbours.
    :raises TimeoutError: when attempts do not end; they die with the process.
    :raises WorkerStoppedError: when a worker has ended before that.
    """
    running = [asyncio.ensure_future(worker.run()) for worker in hosting.workers]
    parent.send(StateChanged(state=ProcessState.POLLING))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    at_once = failed or (hosting.used is not None and hosting.used.is_set())
    try:
        async with asyncio.timeout(limit_s) as limit:
            busy = set() if at_once else busy_queues(recorders)
            await shut_down_in_order(hosting.workers, busy)
            await asyncio.gather(*running)
        with contextlib.suppress(TimeoutError):  # records of a store that is away
            async with asyncio.timeout_at(limit.when()):
                await flush_closing(hosting.closing)
    finally:
        if failed:
            raise WorkerStoppedError(
                f"a worker has ended by itself: {_first_cause(running)}"
            )


def _first_cause(running: list[asyncio.Task[None]]) -> str:
    ended = [each for each in running if each.done() and not each.cancelled()]
    causes = [str(each.exception()) for each in ended if each.exception()]
    return causes[0] if causes else "it does not say why"


def busy_queues(recorders: Path) -> set[str]:
    """
    Name the queues of roles that any process of this home has in flight: a role's
    workers leave together, or one would take what another has just handed back.
    """
    names = map(recent_names, recorder_files(recorders))
    roles = {each.route for each in itertools.chain.from_iterable(names)}
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
