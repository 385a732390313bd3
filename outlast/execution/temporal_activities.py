"""
An agent as two Temporal activities: one attempt at a task, and one at a lease.

Checkpoint and sign of life both travel in Temporal's heartbeat: its details are a
`Heartbeat`, and its arrival is the proof of life.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pydantic import ValidationError
from temporalio import activity

from outlast.agents.agent import Agent
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.batches import Lease, LeaseResult
from outlast.contracts.ids import LeaseActivityId
from outlast.contracts.results import ResultRef
from outlast.execution.attempt import Attempt
from outlast.execution.ends import with_failures_translated
from outlast.execution.in_flight import InFlightSlot
from outlast.execution.lease import LeaseExecution
from outlast.execution.run_order import order_of
from outlast.execution.worker_context import WorkerContext
from outlast.telemetry.process import HEARTBEATS, telemetry

SetWaiting = Callable[[object, bool], None]


def task_activity(
    agent: Agent, worker: WorkerContext
) -> Callable[[AttemptInput], Coroutine[Any, Any, ResultRef]]:
    """
    Make the activity in which *agent* attempts tasks at *worker*.
    """

    @activity.defn(name=agent.role)
    async def attempt_task(given: AttemptInput) -> ResultRef:
        attempt = Attempt(agent, given, order_of(given.dispatch), worker, heartbeat)
        attempt.retried = activity.info().attempt > 1
        # Before anything else: a death from here on is reported by the parent.
        attempt.in_flight = _in_flight(worker, given.mission, given.task.id, agent.role)
        return await with_failures_translated(
            attempt, attempt.run(_carried_checkpoints(given))
        )

    return attempt_task


def lease_activity(
    agent: Agent, worker: WorkerContext, set_waiting: SetWaiting = lambda *_: None
) -> Callable[[Lease], Coroutine[Any, Any, LeaseResult]]:
    """
    Make the activity in which *agent* works through leases at *worker*; *set_waiting*
    hears of each whether it only waits.
    """

    @activity.defn(name=str(LeaseActivityId(agent.role)))
    async def work(lease: Lease) -> LeaseResult:
        order = order_of(lease.dispatch)
        execution = LeaseExecution(agent, lease, order, worker, heartbeat)
        execution.in_flight = _in_flight(worker, lease.batch.id, lease.id, agent.role)
        execution.retried = activity.info().attempt > 1
        execution.set_waiting = partial(set_waiting, execution)
        try:
            return await with_failures_translated(execution, execution.run())
        finally:
            set_waiting(execution, False)

    return work


def heartbeat(progress: Heartbeat) -> None:
    activity.heartbeat(progress.model_dump(mode="json"))
    telemetry.counters.count(HEARTBEATS)


def _in_flight(
    worker: WorkerContext, mission: str, task: str, role: str
) -> InFlightSlot:
    info = activity.info()
    return worker.in_flight.start(info.task_token, mission, task, role, info.attempt)


def _carried_checkpoints(assignment: AttemptInput) -> list[Checkpoint]:
    """
    Collect the checkpoints that came with the task: the workflow's and the server's.
    """
    carried = [assignment.checkpoint] if assignment.checkpoint else []
    for details in activity.info().heartbeat_details:
        try:
            carried.append(Heartbeat.model_validate(details).checkpoint)
        except ValidationError as error:
            activity.logger.warning("heartbeat.unreadable", extra={"error": str(error)})
    return carried
