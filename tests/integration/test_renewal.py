"""
Missions whose history would grow without end: they go on in new runs, and nothing is
lost, repeated or charged by that.
"""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from small_crew import BOUND_S, Crew, task
from temporalio.client import WorkflowHandle
from test_child_missions import part
from test_supervisor import Input, outcome, well

from outlast import Context, FanOut, Policy, Redo
from outlast.contracts.approvals import Approval
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.contracts.tasks import Budget, Limits
from outlast.contracts.updates import DecisionInput
from outlast.execution.worker_context import WorkerContext
from outlast.fleet.workers import AgentWorkers
from outlast.ledger.audit import audit_ledger
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.settings import Settings
from outlast.workflows import renewal

EVENTS = 40
ROUNDS = 14
LONG = Limits(redos=10_000)


@pytest.fixture(autouse=True)
def small_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "RENEW_EVENTS", EVENTS)
    monkeypatch.setattr(renewal, "GRACE_S", 0.3)


class Draft(BaseModel):
    needs: dict[str, int] = {}


class Rounds:
    """
    Work that is done again *rounds* times, one history after the other.
    """

    def __init__(self, crew: Crew, rounds: int) -> None:
        self.rounds = rounds
        self.written: list[int] = []
        self.over = asyncio.Event()
        crew.plays("write", self.write)
        crew.plays("review", self.review)
        self.tasks = [
            task("write", "write"),
            task("review", "review", needs=["write"]),
        ]

    async def write(self, given: Draft, ctx: Context) -> int:
        self.written.append(ctx.round)
        if ctx.round == self.rounds:
            self.over.set()
        return ctx.round

    async def review(self, given: Draft, ctx: Context) -> int | Redo:
        if given.needs["write"] >= self.rounds:
            return given.needs["write"]
        return Redo(task="write", reason="again")


async def lengths(crew: Crew, handle: WorkflowHandle[Any, Report]) -> list[int]:
    """
    Count the events of each of a mission's runs.
    """
    run, counts = handle.first_execution_run_id, []
    while run:
        of_run = crew.client.get_workflow_handle(handle.id, run_id=run)
        events = (await of_run.fetch_history()).events
        counts.append(len(events))
        last = events[-1].workflow_execution_continued_as_new_event_attributes
        run = last.new_execution_run_id
    return counts


async def test_rounds_without_end_need_no_history_without_end(
    small_crew: Crew,
) -> None:
    """
    Each round is done once, however many runs its mission takes.
    """
    work = Rounds(small_crew, 60)
    async with asyncio.timeout(BOUND_S), small_crew.at_work():
        handle = await small_crew.start(small_crew.mission(*work.tasks, limits=LONG))
        report = await handle.result()
        runs = await lengths(small_crew, handle)

    assert report.status is MissionStatus.COMPLETED
    assert work.written == list(range(1, 61))
    assert outcome(report, "review").round == 60
    assert len(runs) > 10
    assert max(runs) < EVENTS + 60
    assert audit_ledger(small_crew.store).violations == []


async def test_the_limit_of_rounds_counts_over_all_runs(small_crew: Crew) -> None:
    """
    Past it a person must look, in whichever run that is.
    """
    work = Rounds(small_crew, 10**6)
    async with asyncio.timeout(BOUND_S):
        report = await small_crew.run(*work.tasks, limits=Limits(redos=30))

    assert report.status is MissionStatus.PARKED
    assert len(work.written) == 31


async def test_an_attempt_without_end_is_handed_back_uncounted(
    lasting_crew: Crew,
) -> None:
    """
    It goes on from its last step in each new run. That is no failure and no death: it
    could afford neither.
    """
    work = Rounds(lasting_crew, ROUNDS)
    resumed: list[int] = []

    async def slow(given: Input, ctx: Context) -> str:
        done = await ctx.resume(int, 0)
        resumed.append(done)
        await ctx.save(done + 1)
        await work.over.wait()
        return "done"

    lasting_crew.plays("slow", slow, policy=Policy(failures=1, crashes=1))
    async with asyncio.timeout(BOUND_S), lasting_crew.at_work():
        mission = lasting_crew.mission(*work.tasks, task("slow", "slow"), limits=LONG)
        handle = await lasting_crew.start(mission)
        report = await handle.result()
        runs = await lengths(lasting_crew, handle)

    assert report.status is MissionStatus.COMPLETED
    assert len(runs) > 2
    assert resumed == list(range(len(resumed))), "no step is lost or done twice"
    assert len(resumed) >= len(runs) - 1
    assert work.written == list(range(1, ROUNDS + 1))
    assert audit_ledger(lasting_crew.store).violations == []


async def test_a_child_outlives_the_runs_of_its_mission(lasting_crew: Crew) -> None:
    """
    It waits for a person all the while, and its end reaches the run of that time.
    """
    work = Rounds(lasting_crew, ROUNDS)
    lasting_crew.plays("well", well)
    inner = task("a", "well", approval=Approval(before="start"))
    async with asyncio.timeout(BOUND_S), lasting_crew.at_work():
        mission = lasting_crew.mission(*work.tasks, part("p", inner), limits=LONG)
        handle = await lasting_crew.start(mission)
        await lasting_crew.until(handle, lambda _: len(work.written) == ROUNDS)
        child = lasting_crew.client.get_workflow_handle(f"{handle.id}~child~p")
        await lasting_crew.until(child, lambda progress: progress.approval_requests)
        await child.execute_update("approve", DecisionInput(task="a"))
        report = await handle.result()
        runs = await lengths(lasting_crew, handle)
        first = (await child.describe()).raw_description.workflow_execution_info

    assert report.status is MissionStatus.COMPLETED
    assert len(runs) > 2
    assert first.first_run_id == first.execution.run_id, "it was started once"
    assert outcome(report, "p").round == 1
    states = {
        each.id: each.state for each in MissionRecords(lasting_crew.store).records()
    }
    assert states == {handle.id: "completed", f"{handle.id}~child~p": "completed"}


async def test_a_cancelled_mission_ends_the_children_of_earlier_runs(
    lasting_crew: Crew,
) -> None:
    """
    They are cancelled and waited for, as those of this run are.
    """
    work = Rounds(lasting_crew, ROUNDS)
    lasting_crew.plays("well", well)
    inner = task("a", "well", approval=Approval(before="start"))
    async with asyncio.timeout(BOUND_S), lasting_crew.at_work():
        mission = lasting_crew.mission(*work.tasks, part("p", inner), limits=LONG)
        handle = await lasting_crew.start(mission)
        await lasting_crew.until(handle, lambda progress: len(progress.settled) == 2)
        await handle.execute_update("cancel", "enough")
        report = await handle.result()

    assert report.status is MissionStatus.CANCELLED
    assert outcome(report, "p").status is TaskStatus.SKIPPED
    assert outcome(report, "review").status is TaskStatus.DONE
    entry = MissionRecords(lasting_crew.store).find(f"{handle.id}~child~p")
    assert entry is not None
    assert entry.state == "cancelled"


async def test_a_batch_outlives_the_runs_of_its_mission(lasting_crew: Crew) -> None:
    """
    What an agent has fanned out is worked through once, and what needs it goes on.
    """
    work = Rounds(lasting_crew, ROUNDS)

    async def spread(given: Input, ctx: Context) -> FanOut:
        return FanOut(role="item", items=[{"n": n} for n in range(3)])

    async def item(given: Input, ctx: Context) -> int:
        await work.over.wait()
        return given["n"]

    async def read(given: dict[str, Any], ctx: Context) -> list[int]:
        return [each.result async for each in ctx.batch_results("spread")]

    lasting_crew.plays("spread", spread)
    lasting_crew.plays("item", item)
    place = WorkerContext(Ledger(lasting_crew.store))
    workers = AgentWorkers(lasting_crew.client, place, Settings())
    leases = workers.leases(lasting_crew.agents["item"])
    async with asyncio.timeout(BOUND_S), lasting_crew.at_work(), leases:
        mission = lasting_crew.mission(
            *work.tasks, task("spread", "spread"), limits=LONG
        )
        handle = await lasting_crew.start(mission)
        report = await handle.result()
        runs = await lengths(lasting_crew, handle)

    assert report.status is MissionStatus.COMPLETED
    assert len(runs) > 2
    assert outcome(report, "spread").attempts == 1


async def test_what_a_person_is_asked_stays_asked(lasting_crew: Crew) -> None:
    """
    Over all runs: the question, the decision that was made, and the time for it.
    """
    work = Rounds(lasting_crew, ROUNDS)
    paid: list[str] = []

    async def pay(given: Input, ctx: Context) -> str:
        await ctx.once("pay:7", lambda key, content: paid.append(key), content={"e": 7})
        return "paid"

    lasting_crew.plays("pay", pay)
    soon = Approval(before="start", within_s=1.0, otherwise="reject")
    async with asyncio.timeout(BOUND_S), lasting_crew.at_work():
        mission = lasting_crew.mission(
            *work.tasks,
            task("pay", "pay", approval=Approval(before="effect")),
            task("late", "pay", approval=soon, required=False),
            task(
                "never",
                "pay",
                budget=Budget(time_s=1.0),
                required=False,
                approval=Approval(before="start"),
            ),
            limits=LONG,
        )
        handle = await lasting_crew.start(mission)
        began = asyncio.get_running_loop().time()
        asked = await lasting_crew.until(
            handle,
            lambda progress: any(each.effects for each in progress.approval_requests),
        )
        request = next(each.request for each in asked.approval_requests if each.effects)
        await lasting_crew.until(handle, lambda _: len(work.written) == ROUNDS)
        assert asyncio.get_running_loop().time() - began > 1.0, "it must last longer"
        await handle.execute_update(
            "approve", DecisionInput(task="pay", request=request)
        )
        report = await handle.result()
        runs = await lengths(lasting_crew, handle)

    assert len(runs) > 2
    assert outcome(report, "pay").status is TaskStatus.DONE
    assert len(paid) == 1
    assert "nobody answered within 1 s" in outcome(report, "late").reasons[0]
    assert "its 1 s are spent" in outcome(report, "never").reasons[0]


async def test_a_paused_mission_stays_paused_in_its_next_run(
    lasting_crew: Crew,
) -> None:
    """
    And starts nothing more until somebody says so.
    """
    work = Rounds(lasting_crew, ROUNDS)
    async with asyncio.timeout(BOUND_S), lasting_crew.at_work():
        handle = await lasting_crew.start(
            lasting_crew.mission(*work.tasks, limits=LONG)
        )
        first = handle.first_execution_run_id
        while (
            await lasting_crew.client.get_workflow_handle(handle.id).describe()
        ).run_id == first:
            await handle.execute_update("pause")
            await handle.execute_update("unpause")
        await handle.execute_update("pause")
        assert (await lasting_crew.progress(handle)).paused
        written = len(work.written)
        await asyncio.sleep(0.5)
        assert len(work.written) <= written + 1
        await handle.execute_update("unpause")
        report = await handle.result()

    assert report.status is MissionStatus.COMPLETED
    assert work.written == list(range(1, ROUNDS + 1))
