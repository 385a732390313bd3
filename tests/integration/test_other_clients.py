"""
Missions that others start, and what others do to them: Temporal's CLI, its Web UI, its
Schedules, other SDKs.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel
from small_crew import BOUND_S, Crew, ended, task
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from test_supervisor import Input, for_ever, hopeless, outcome, well

from outlast import Context, FanOut, FollowUps, Redo
from outlast.contracts.approvals import Approval
from outlast.contracts.errors import RefusedError
from outlast.contracts.failures import FailureType
from outlast.contracts.ids import MISSIONS_QUEUE, ChildMissionId, FanOutId
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.updates import DecisionInput
from outlast.ledger.audit import audit_ledger
from outlast.ledger.batches import INTERRUPTED
from outlast.ledger.missions import MissionRecords
from outlast.temporal.client import Handle
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.resume import abandon, resume

NIGHTLY = "nightly-2026-11-29T23:17:00Z"
PLAIN = {"id": "nightly", "goal": "try", "tasks": [{"id": "t", "role": "well"}]}


async def begin(
    crew: Crew, workflow_id: str, *given: Any, kind: str = "Supervisor"
) -> Any:
    """
    Start a workflow as others do: with JSON, and nothing filled in.
    """
    return await crew.client.start_workflow(
        kind, args=given, id=workflow_id, task_queue=MISSIONS_QUEUE
    )


async def failed_tasks(handle: WorkflowHandle[Any, Any]) -> int:
    """
    Count the workflow tasks that have failed.
    """
    history = await handle.fetch_history()
    kind = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    return sum(each.event_type == kind for each in history.events)


async def test_a_mission_that_a_schedule_starts_is_one_like_others(
    small_crew: Crew,
) -> None:
    """
    It has the id of its workflow, not that of its input, the routes of the crew, and a
    record like any other.
    """
    small_crew.plays("well", well)
    async with small_crew.at_work():
        handle = await begin(small_crew, NIGHTLY, PLAIN)
        report = Report.model_validate(await handle.result())

    assert (report.mission, report.status) == (NIGHTLY, MissionStatus.COMPLETED)
    books = MissionRecords(small_crew.store)
    entry = books.find(NIGHTLY)
    assert entry is not None
    assert (entry.state, entry.report) == ("completed", report)
    assert books.results(NIGHTLY) == {"t": "well"}
    assert books.find("nightly") is None


async def test_a_copy_of_a_missions_input_is_a_mission_of_its_own(
    small_crew: Crew,
) -> None:
    """
    As the Web UI makes one: what the starter had filled in is found anew.
    """
    small_crew.plays("well", well)
    mission = small_crew.mission(task("t", "well"), parent="other", store="other")
    async with small_crew.at_work():
        copied = mission.model_dump(mode="json")
        report = Report.model_validate(
            await (await begin(small_crew, "copy", copied)).result()
        )
    assert (report.mission, report.status) == ("copy", MissionStatus.COMPLETED)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "JSON"),
        ([None], "JSON object"),
        (["text"], "JSON object"),
        ([[1, 2]], "JSON object"),
        ([b"\x00\xff"], "JSON object"),
        ([{}], "the mission's"),
        ([{"garbage": True}], "the mission's"),
        ([{"goal": "g", "tasks": []}], "tasks"),
        ([{"goal": "g", "tasks": [{"id": "t"}]}], "tasks.0.role"),
        ([{"goal": "g", "tasks": [{"id": "t", "role": "nobody"}]}], "'nobody'"),
        ([{**PLAIN, "limits": {"tasks": "many"}}], "limits.tasks"),
        ([{**PLAIN, "more": 1}], "more"),
        ([{**PLAIN, "tasks": [*PLAIN["tasks"], *PLAIN["tasks"]]}], "two tasks"),
        (
            [{"goal": "g", "tasks": [{"id": "t", "role": "well", "needs": ["t"]}]}],
            "circle",
        ),
        ([PLAIN, PLAIN], "argument"),
    ],
)
async def test_an_input_that_cannot_be_used_fails_the_workflow(
    small_crew: Crew, given: list[Any], told: str
) -> None:
    """
    In one sentence, at once: no workflow task fails, and no record is left.
    """
    small_crew.plays("well", well)
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await begin(small_crew, "bad", *given)
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()

    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert told in cause.message
    assert "\n" not in cause.message
    if len(given) < 2:
        assert cause.type == FailureType.BAD_INPUT
    assert await failed_tasks(handle) == 0
    assert MissionRecords(small_crew.store).find("bad") is None


async def test_a_workflow_id_that_is_no_name_is_refused(small_crew: Crew) -> None:
    """
    It would be the mission's.
    """
    small_crew.plays("well", well)
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await begin(small_crew, "My workflow / 1", PLAIN)
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    assert "the mission's id" in str(failure.value.cause)


async def test_a_batch_of_nonsense_fails_too(small_crew: Crew) -> None:
    """
    The pool's workflow takes any input, and refuses it.
    """
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        for number, given in enumerate([[], [{"garbage": 1}], ["x"]]):
            handle = await begin(small_crew, f"bad{number}", *given, kind="Pool")
            with pytest.raises(WorkflowFailureError) as failure:
                await handle.result()
            assert isinstance(failure.value.cause, ApplicationError)
            assert failure.value.cause.type == FailureType.BAD_INPUT
            assert await failed_tasks(handle) == 0


async def test_another_mission_under_a_used_id_is_refused(small_crew: Crew) -> None:
    """
    The record of the first one stays as it is.
    """
    small_crew.plays("well", well)
    books = MissionRecords(small_crew.store)
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        first = await begin(small_crew, "m", PLAIN)
        await first.result()
        before = books.find("m")
        handle = await begin(small_crew, "m", {**PLAIN, "goal": "another"})
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    assert "other content" in str(failure.value.cause)
    assert books.find("m") == before


async def test_a_failed_mission_is_failed_in_temporal(small_crew: Crew) -> None:
    """
    Its report is in the details of its failure, whose words have the command to paste.
    """
    small_crew.plays("hopeless", hopeless)
    async with small_crew.at_work():
        handle = await small_crew.start(small_crew.mission(task("t", "hopeless")))
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
        described = await handle.describe()

    assert described.status is WorkflowExecutionStatus.FAILED
    cause = failure.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == FailureType.MISSION_FAILED
    assert "outlast redrive m" in cause.message
    report = Report.model_validate(cause.details[0])
    assert outcome(report, "t").status is TaskStatus.DEAD
    started = Handle("m", small_crew.client, small_crew.store)
    assert await started.result() == report


async def test_nonsense_changes_nothing(small_crew: Crew) -> None:
    """
    Signals that nobody knows and updates of other types are refused one by one.
    """
    gate = asyncio.Event()

    async def waits(given: Input, ctx: Context) -> str:
        await gate.wait()
        return "well"

    small_crew.plays("waits", waits)
    nonsense: list[tuple[str, list[Any]]] = [
        ("cancel", [{"not": "a string"}]),
        ("cancel", []),
        ("cancel", ["a", "b"]),
        ("approve", ["garbage"]),
        ("approve", [{"task": 7}]),
        ("reject", [None]),
        ("redrive", [{"tasks": []}]),
        ("redrive", [{"tasks": ["t"]}]),
        ("reroute", [{"activity_ids": "x"}]),
        ("nothing", [1]),
    ]
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await begin(
            small_crew, "m", {**PLAIN, "tasks": [{"id": "t", "role": "waits"}]}
        )
        await small_crew.until(handle, lambda progress: progress.running)
        for name in ("nonsense", "wake", "pause"):
            await handle.signal(name, {"a": 1})
        for name, args in nonsense:
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update(name, args=args)
        gate.set()
        report = Report.model_validate(await handle.result())
    assert report.status is MissionStatus.COMPLETED
    assert await failed_tasks(handle) == 0


@pytest.mark.parametrize("result", ["garbage", None, {"a": 1}, 7])
async def test_an_attempt_that_others_complete_is_made_again(
    small_crew: Crew, result: Any
) -> None:
    """
    As `temporal activity complete` does it: what is no answer is not taken for one.
    """
    begun, played = asyncio.Event(), Counter[str]()

    async def once(given: Input, ctx: Context) -> str:
        played["t"] += 1
        if played["t"] == 1:
            begun.set()
            await asyncio.sleep(BOUND_S)
        return "well"

    small_crew.plays("once", once)
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await small_crew.start(small_crew.mission(task("t", "once")))
        await begun.wait()
        attempt = small_crew.client.get_async_activity_handle(
            workflow_id="m", run_id=None, activity_id="t~attempt~once~1"
        )
        await attempt.complete(result)
        report = await ended(handle)
    assert report.status is MissionStatus.COMPLETED
    assert played["t"] == 2


class Journey:
    """
    A mission with an effect, a follow-up and a task that needs it, and what was done.
    """

    def __init__(self, crew: Crew) -> None:
        self.done: Counter[str] = Counter()
        crew.plays("plan", self.plan)
        crew.plays("pays", self.pay)
        crew.plays("well", well)
        self.mission = crew.mission(
            task("p", "plan"), task("pay", "pays"), task("after", "well", needs=["pay"])
        )

    async def plan(self, given: Input, ctx: Context) -> FollowUps:
        return FollowUps(result="planned", tasks=[task("more", "well")])

    async def pay(self, given: Input, ctx: Context) -> str:
        async def act(key: str) -> str:
            self.done["paid"] += 1
            return "paid"

        return str(await ctx.once("pay", act, content=None))


async def reset(handle: WorkflowHandle[Any, Any], event: int) -> str:
    """
    Have the workflow's latest run begin again after *event*, as Temporal's CLI does.
    """
    described = await handle.describe()
    assert described.run_id is not None
    answer = await handle._client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=handle._client.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=handle.id, run_id=described.run_id
            ),
            reason="foreign",
            workflow_task_finish_event_id=event,
            request_id=f"reset-{event}",
        )
    )
    return answer.run_id


async def test_a_reset_to_any_point_goes_on_from_the_ledger(lasting_crew: Crew) -> None:
    """
    Wherever it begins again, it ends as before, pays once, and its record says so.
    """
    journey = Journey(lasting_crew)
    books = MissionRecords(lasting_crew.store)
    finished = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    async with lasting_crew.at_work(), asyncio.timeout(4 * BOUND_S):
        handle = await lasting_crew.start(journey.mission)
        before = await ended(handle)
        history = await handle.fetch_history()
        points = [e.event_id for e in history.events if e.event_type == finished]
        first = (await handle.describe()).run_id
        assert len(points) >= 4
        for point in points:
            whole = lasting_crew.client.get_workflow_handle(handle.id, run_id=first)
            run = await reset_run(whole, point)
            latest = lasting_crew.client.get_workflow_handle(
                handle.id, run_id=run, result_type=Report
            )
            report = await ended(latest)
            assert {each.id: each.status for each in report.tasks} == {
                each.id: each.status for each in before.tasks
            }
            entry = books.find(handle.id)
            assert entry is not None
            assert (entry.report, entry.state) == (report, "completed")
    assert journey.done == {"paid": 1}
    assert audit_ledger(books.store).violations == []


async def reset_run(whole: WorkflowHandle[Any, Any], event: int) -> str:
    answer = await whole._client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=whole._client.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=whole.id, run_id=whole.run_id or ""
            ),
            reason="foreign",
            workflow_task_finish_event_id=event,
            request_id=f"reset-{event}",
        )
    )
    return answer.run_id


class Halted:
    """
    A mission of which one task is done and the other one waits for its gate.
    """

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.played: Counter[str] = Counter()
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.books = MissionRecords(crew.store)
        crew.plays("first", self.first)
        crew.plays("second", self.second)

    @property
    def mission(self) -> Mission:
        return self.crew.mission(task("a", "first"), task("b", "second", needs=["a"]))

    async def first(self, given: Input, ctx: Context) -> str:
        self.played["a"] += 1
        return "well"

    async def second(self, given: Input, ctx: Context) -> str:
        self.played["b"] += 1
        self.begun.set()
        await self.gate.wait()
        return "well"

    async def begin(self) -> WorkflowHandle[Any, Report]:
        """
        Start it and wait until the second task is at work.
        """
        handle = await self.crew.start(self.mission)
        await self.begun.wait()
        return handle

    async def resumed(self) -> Report:
        """
        Open its gate, resume it and wait for its end.
        """
        self.gate.set()
        client, name = self.crew.client, self.crew.name
        await resume(client, self.crew.store, name)
        return await ended(client.get_workflow_handle(name, result_type=Report))

    async def state(self) -> str:
        """
        Look at it, and read its record.
        """
        await Reconciler(self.crew.client, self.crew.store).check([self.crew.name])
        entry = self.books.find(self.crew.name)
        assert entry is not None
        return entry.state


async def test_a_terminated_mission_is_resumed_from_the_ledger(
    lasting_crew: Crew,
) -> None:
    """
    Who follows it is told; it is not running any more, and goes on when it is told to,
    with what was done left alone.
    """
    halted = Halted(lasting_crew)
    name = lasting_crew.name
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await halted.begin()
        following = asyncio.ensure_future(
            Handle(name, lasting_crew.client, lasting_crew.store).result()
        )
        await handle.terminate(reason="by hand")
        with pytest.raises(RefusedError, match=f"by hand.*resume {name}"):
            await following
        assert await halted.state() == INTERRUPTED
        assert halted.books.count_open() == 0
        while not (ending := halted.books.attempts(name)[-1]["end_reason"]):
            await halted.state()  # until its next heartbeat is refused
        assert ending == "cancelled"
        report = await halted.resumed()
    assert report.status is MissionStatus.COMPLETED
    assert halted.played["a"] == 1
    assert await halted.state() == "completed"


async def test_a_deleted_mission_is_resumed_from_its_record(lasting_crew: Crew) -> None:
    """
    The server knows nothing of it any more; the store does.
    """
    halted = Halted(lasting_crew)
    name = lasting_crew.name
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        await halted.begin()
        await delete(lasting_crew, name)
        while await halted.state() != INTERRUPTED:
            pass  # the server deletes a moment later
        report = await halted.resumed()
    assert report.status is MissionStatus.COMPLETED
    assert halted.played["a"] == 1


async def delete(crew: Crew, name: str) -> None:
    await crew.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=crew.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=name),
        )
    )


async def test_a_mission_that_is_abandoned_has_ended(lasting_crew: Crew) -> None:
    """
    As a cancelled one, with what was done; a reset takes it up again all the same.
    """
    halted = Halted(lasting_crew)
    name = lasting_crew.name
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await halted.begin()
        await handle.terminate(reason="by hand")
        await abandon(lasting_crew.client, lasting_crew.store, name)
        entry = halted.books.find(name)
        assert entry is not None
        assert entry.report is not None
        assert entry.report.status is MissionStatus.CANCELLED
        assert outcome(entry.report, "a").status is TaskStatus.DONE
        assert outcome(entry.report, "b").status is TaskStatus.SKIPPED

        halted.gate.set()
        await reset(handle, 4)
        report = await ended(
            lasting_crew.client.get_workflow_handle(name, result_type=Report)
        )
        assert await halted.state() == "completed"
    assert report.status is MissionStatus.COMPLETED


async def test_who_follows_a_mission_follows_its_reset(lasting_crew: Crew) -> None:
    """
    The run that was followed is terminated by it; the next one has the report.
    """
    halted = Halted(lasting_crew)
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await halted.begin()
        started = Handle(lasting_crew.name, lasting_crew.client, lasting_crew.store)
        following = asyncio.ensure_future(started.result())
        await asyncio.sleep(0.3)  # until it waits for the first run
        await reset(handle, 4)
        halted.gate.set()
        report = await following
    assert report.status is MissionStatus.COMPLETED
    assert await halted.state() == "completed"


async def test_a_mission_cancelled_by_temporal_ends_as_cancelled(
    small_crew: Crew,
) -> None:
    """
    Also when that comes before its first step.
    """
    small_crew.plays("for_ever", for_ever)
    books = MissionRecords(small_crew.store)
    tasks = [{"id": "t", "role": "for_ever"}]
    handle = await begin(small_crew, "m", {**PLAIN, "tasks": tasks})
    await handle.cancel()
    async with small_crew.at_work(), asyncio.timeout(BOUND_S):
        report = Report.model_validate(await handle.result())
    assert report.status is MissionStatus.CANCELLED
    entry = books.find("m")
    assert entry is not None
    assert entry.state == "cancelled"


async def test_a_resumed_mission_does_not_ask_again(lasting_crew: Crew) -> None:
    """
    What was approved and done in the run before is taken from the ledger.
    """
    halted = Halted(lasting_crew)
    asks = Approval(before="start")
    tasks = [task("a", "first", approval=asks), task("b", "second", needs=["a"])]
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await lasting_crew.start(lasting_crew.mission(*tasks))
        await lasting_crew.until(handle, lambda progress: progress.approval_requests)
        await handle.execute_update("approve", DecisionInput(task="a"))
        await halted.begun.wait()
        await handle.terminate(reason="by hand")
        assert await halted.state() == INTERRUPTED
        report = await halted.resumed()
    assert report.status is MissionStatus.COMPLETED
    assert halted.played["a"] == 1


class Needing(BaseModel):
    needs: dict[str, Any] = {}


class Rounds(Journey):
    """
    One with a mission within and a task that is done again once.
    """

    def __init__(self, crew: Crew) -> None:
        super().__init__(crew)
        crew.plays("judge", self.judge)
        inner = {"goal": "a part", "tasks": [{"id": "a", "role": "well"}]}
        self.mission = crew.mission(
            task("pay", "pays"),
            task("part", "mission", input=inner, needs=["pay"]),
            task("judged", "judge", needs=["pay"]),
        )

    async def judge(self, given: Needing, ctx: Context) -> Redo | str:
        return Redo(task="pay", reason="poor") if ctx.round == 1 else "good"


async def test_so_does_one_with_rounds_and_missions_within(lasting_crew: Crew) -> None:
    """
    Also where the ledger is rounds ahead of the history.
    """
    journey = Rounds(lasting_crew)
    books = MissionRecords(lasting_crew.store)
    finished = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    async with lasting_crew.at_work(), asyncio.timeout(6 * BOUND_S):
        handle = await lasting_crew.start(journey.mission)
        before = await ended(handle)
        assert before.status is MissionStatus.COMPLETED
        history = await handle.fetch_history()
        points = [e.event_id for e in history.events if e.event_type == finished]
        first = (await handle.describe()).run_id
        for point in points[:: max(1, len(points) // 6)]:
            whole = lasting_crew.client.get_workflow_handle(handle.id, run_id=first)
            run = await reset_run(whole, point)
            report = await ended(
                lasting_crew.client.get_workflow_handle(
                    handle.id, run_id=run, result_type=Report
                )
            )
            assert report.status is MissionStatus.COMPLETED, (point, report)
    assert journey.done == {"paid": 1}
    assert audit_ledger(books.store).violations == []


@pytest.mark.parametrize("kind", ["mission", "batch"])
async def test_a_child_that_others_terminate_is_a_dead_letter(
    lasting_crew: Crew, kind: str
) -> None:
    """
    Its task says so; the mission ends, and nothing of it is open.
    """

    async def spread(given: Input, ctx: Context) -> FanOut:
        return FanOut(role="for_ever", items=[{"n": 1}])

    name = lasting_crew.name
    lasting_crew.plays("for_ever", for_ever)
    lasting_crew.plays("spread", spread)
    inner = {"goal": "a part", "tasks": [{"id": "a", "role": "for_ever"}]}
    made = {
        "mission": (task("t", "mission", input=inner), str(ChildMissionId(name, "t"))),
        "batch": (task("t", "spread"), str(FanOutId(name, "t"))),
    }
    given, child_id = made[kind]
    async with lasting_crew.at_work(), asyncio.timeout(BOUND_S):
        handle = await lasting_crew.start(lasting_crew.mission(given))
        child = lasting_crew.client.get_workflow_handle(child_id)
        await begun(child)
        await child.terminate(reason="by hand")
        report = await ended(handle)
        reconciler = Reconciler(lasting_crew.client, lasting_crew.store)
        await reconciler.check([name, child_id])
    assert outcome(report, "t").status is TaskStatus.DEAD
    assert "terminated" in outcome(report, "t").reasons[0]
    assert MissionRecords(lasting_crew.store).count_open() == 0


async def begun(child: WorkflowHandle[Any, Any]) -> None:
    """
    Wait until a workflow is there and has something under way.
    """
    while True:
        with suppress(RPCError):
            if (await child.describe()).raw_description.pending_activities:
                return
