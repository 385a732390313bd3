"""
What the server holds for a worker that is dead: found by asking, ended by id.
"""

import asyncio
import socket

from small_crew import Crew, task
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest,
)
from test_supervisor import well

from outlast.contracts.attempts import Checkpoint, Heartbeat
from outlast.contracts.ids import WorkerIdentity, task_queue
from outlast.contracts.reports import MissionStatus
from outlast.fleet.exits import Exit
from outlast.fleet.unstarted_attempts import end_unstarted

DEAD = 4_194_305  # no pid of any process here
BOUND_S = 30.0


async def swallowed(crew: Crew, role: str) -> PollActivityTaskQueueResponse:
    """
    Take a task as the open poll of a process that has just died does.
    """
    return await crew.client.workflow_service.poll_activity_task_queue(
        PollActivityTaskQueueRequest(
            namespace=crew.client.namespace,
            task_queue=TaskQueue(name=task_queue(role)),
            identity=str(WorkerIdentity(DEAD, socket.gethostname(), "agents")),
        )
    )


async def ended(crew: Crew, worker: int = DEAD) -> int:
    """
    Ask until the server has something for *worker*; it lists missions a while later.
    """
    async with asyncio.timeout(BOUND_S):
        while not (
            found := await end_unstarted(crew.client, worker, Exit("killed"), (0.05,))
        ):
            pass
    return found


async def test_a_swallowed_task_goes_on_uncounted(lasting_crew: Crew) -> None:
    """
    Long before its heartbeat timeout, and no death is charged to it; what a worker
    with another name holds is let alone.
    """
    crew = lasting_crew
    crew.plays("swallowed", well)
    crew.lost = {"swallowed"}
    async with crew.at_work():
        handle = await crew.start(crew.mission(task("t", "swallowed")))
        await swallowed(crew, "swallowed")
        assert await end_unstarted(crew.client, DEAD + 1, Exit("killed"), (0.5,)) == 0
        assert await ended(crew) == 1
        async with asyncio.timeout(BOUND_S), crew.playing("swallowed"):
            report = await handle.result()

    assert report.status is MissionStatus.COMPLETED
    assert await end_unstarted(crew.client, DEAD, Exit("killed"), (0.0,)) == 0
    history = [each async for each in handle.fetch_history_events()]
    failed = [
        each.activity_task_failed_event_attributes.failure.application_failure_info.type
        for each in history
        if each.HasField("activity_task_failed_event_attributes")
    ]
    assert failed == ["NeverStarted"]


async def test_what_had_begun_is_a_death_with_its_checkpoint(
    lasting_crew: Crew,
) -> None:
    """
    As past the recorder's last slot: its heartbeats tell that it was under way.
    """
    crew = lasting_crew
    crew.plays("begun", well)
    crew.lost = {"begun"}
    async with crew.at_work():
        handle = await crew.start(crew.mission(task("t", "begun")))
        held = await swallowed(crew, "begun")
        beat = Heartbeat(checkpoint=Checkpoint(seq=3, route="begun", value={"at": 3}))
        details = await crew.client.data_converter.encode([beat])
        request = RecordActivityTaskHeartbeatRequest(
            namespace=crew.client.namespace, task_token=held.task_token
        )
        request.details.payloads.extend(details)
        await crew.client.workflow_service.record_activity_task_heartbeat(request)
        assert await ended(crew) == 1
        async with asyncio.timeout(BOUND_S), crew.playing("begun"):
            await handle.result()

    history = [each async for each in handle.fetch_history_events()]
    failures = [
        each.activity_task_failed_event_attributes.failure.application_failure_info
        for each in history
        if each.HasField("activity_task_failed_event_attributes")
    ]
    assert [each.type for each in failures] == ["WorkerCrashed"]
    told = await crew.client.data_converter.decode(failures[0].details.payloads)
    assert told[0]["checkpoint"]["seq"] == 3  # type: ignore[index]
