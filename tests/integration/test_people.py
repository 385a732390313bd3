"""
Tasks that wait for a person: approved, rejected, or decided by the deadline.
"""

import asyncio

import pytest
from small_crew import Crew, task
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from test_supervisor import Input, outcome, well

from outlast import Context
from outlast.contracts.errors import ApprovalNeededError
from outlast.contracts.models import Answer, Approval, Assignment, Budget
from outlast.contracts.orders import Decision
from outlast.contracts.reports import Status
from outlast.store.books import Books

START = Approval(before="start")
EFFECT = Approval(before="effect")


class Till:
    """
    An agent that saves a step and pays out.
    """

    def __init__(self, crew: Crew) -> None:
        self.paid: list[str] = []
        self.steps = 0
        crew.plays("pay", self.pay)

    async def pay(self, given: Input, ctx: Context) -> str:
        if not await ctx.resume(int, 0):
            self.steps += 1
            await ctx.save(1)
        await ctx.once("pay:7", self.act, content={"euros": 7})
        return "paid"

    def act(self, key: str, content: object) -> None:
        self.paid.append(key)


async def asked(crew: Crew, handle):
    found = await crew.until(handle, lambda progress: progress.asked)
    return found.asked[0]


async def test_a_task_may_wait_for_leave_to_start(small_crew: Crew) -> None:
    """
    Until a person approves it nothing runs, and the progress says what waits.
    """
    till = Till(small_crew)
    async with small_crew.at_work():
        handle = await small_crew.start(
            small_crew.mission(task("t", "pay", approval=START))
        )
        waiting = await asked(small_crew, handle)
        assert (waiting.id, waiting.before) == ("t", "start")
        running = (await small_crew.progress(handle)).running[0]
        assert running.waits == "approval before its start"
        assert till.steps == 0
        await handle.execute_update("approve", Decision(task="t", reason="fine"))
        report = await handle.result()

    assert report.status is Status.COMPLETED
    assert outcome(report, "t").approval == "approved: fine"


async def test_a_rejected_task_is_skipped(small_crew: Crew) -> None:
    """
    With the person's reason, and nothing of it has happened.
    """
    till = Till(small_crew)
    async with small_crew.at_work():
        tasks = [task("t", "pay", approval=START), task("u", "pay", required=False)]
        handle = await small_crew.start(small_crew.mission(tasks[0]))
        await asked(small_crew, handle)
        await handle.execute_update("reject", Decision(task="t", reason="too much"))
        report = await handle.result()

    assert outcome(report, "t").status is Status.SKIPPED
    assert report.degraded == ["t: rejected: too much"]
    assert till.paid == []


async def test_an_effect_waits_for_leave_and_goes_on_from_there(
    small_crew: Crew,
) -> None:
    """
    The person sees its content; what came before it is not done again.
    """
    till = Till(small_crew)
    async with small_crew.at_work():
        handle = await small_crew.start(
            small_crew.mission(task("t", "pay", approval=EFFECT))
        )
        waiting = await asked(small_crew, handle)
        assert waiting.about == "effect 'pay:7': {\"euros\":7}"
        assert till.paid == []
        await handle.execute_update("approve", Decision(task="t"))
        report = await handle.result()

    assert report.status is Status.COMPLETED
    assert till.paid == ["default:m:pay:7"]
    assert till.steps == 1


async def test_a_rejected_effect_does_not_happen(small_crew: Crew) -> None:
    """
    The task is skipped with the reason, also where it has a fallback.
    """
    till = Till(small_crew)
    small_crew.plays("well", well)
    small_crew.plays("pay", till.pay, fallbacks=("well",))
    async with small_crew.at_work():
        handle = await small_crew.start(
            small_crew.mission(task("t", "pay", approval=EFFECT))
        )
        await asked(small_crew, handle)
        await handle.execute_update("reject", Decision(task="t", reason="no"))
        report = await handle.result()

    assert outcome(report, "t").status is Status.SKIPPED
    assert report.degraded == ["t: pay: rejected: no"]
    assert till.paid == []


@pytest.mark.parametrize(
    ("otherwise", "status"), [("approve", Status.COMPLETED), ("reject", Status.FAILED)]
)
@pytest.mark.parametrize("before", ["start", "effect"])
async def test_a_deadline_decides_as_declared(
    small_crew: Crew, before: str, otherwise: str, status: Status
) -> None:
    """
    Where nobody answers in time, and the outcome says that it was so.
    """
    Till(small_crew)
    approval = Approval(before=before, within_s=3600, otherwise=otherwise)
    report = await small_crew.run(task("t", "pay", approval=approval))

    assert report.status is status
    assert "by default: nobody answered within 3600 s" in outcome(report, "t").approval


async def test_only_what_waits_can_be_approved(small_crew: Crew) -> None:
    """
    The validator names those that do.
    """
    Till(small_crew)
    async with small_crew.at_work():
        handle = await small_crew.start(
            small_crew.mission(task("t", "pay", approval=START))
        )
        await asked(small_crew, handle)
        with pytest.raises(WorkflowUpdateFailedError) as refusal:
            await handle.execute_update("approve", Decision(task="x"))
        assert "those that do: t" in str(refusal.value.cause)
        await handle.execute_update("cancel", "enough")
        report = await handle.result()

    assert outcome(report, "t").status is Status.SKIPPED
    assert Books(small_crew.store).find("m").report == report


async def test_the_time_of_a_task_runs_out_while_it_waits(small_crew: Crew) -> None:
    """
    The mission goes on without it.
    """
    Till(small_crew)
    small_crew.plays("well", well)
    report = await small_crew.run(
        task("t", "pay", approval=START, budget=Budget(time_s=60)),
        task("u", "well", needs=["t"]),
    )

    assert report.status is Status.DEGRADED
    assert report.degraded == ["t: its 60 s are spent"]
    assert outcome(report, "u").status is Status.DONE


async def test_a_mission_that_is_cancelled_asks_nobody(small_crew: Crew) -> None:
    """
    Also where an attempt asks for leave before it hears of its end.
    """
    playing, told = asyncio.Event(), asyncio.Event()

    async def end(assignment: Assignment) -> Answer:
        playing.set()
        await told.wait()
        raise ApplicationError(
            "effect", type=ApprovalNeededError.kind, non_retryable=True
        )

    small_crew.ends("pay", end)
    async with small_crew.at_work(), asyncio.timeout(30):
        mission = small_crew.mission(task("t", "pay", approval=EFFECT))
        handle = await small_crew.start(mission)
        await playing.wait()
        await handle.execute_update("cancel", "enough")
        told.set()
        report = await handle.result()

    assert report.status is Status.CANCELLED
    assert outcome(report, "t").reasons == ["enough"]
