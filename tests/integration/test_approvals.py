"""
Tasks that wait for a person: approved, rejected, or decided by the deadline.
"""

import asyncio
from typing import Any

import pytest
from small_crew import Crew, ended, task
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from test_supervisor import Input, outcome, well

from outlast import Context, GiveUp, Redo
from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import ApprovalNeededError
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.contracts.results import ResultRef
from outlast.contracts.tasks import Budget
from outlast.contracts.updates import DecisionInput, Redrive
from outlast.ledger.audit import audit_ledger
from outlast.ledger.missions import MissionRecords

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
    found = await crew.until(handle, lambda progress: progress.approval_requests)
    return found.approval_requests[0]


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
        assert running.waiting_for == "approval before its start"
        assert till.steps == 0
        await handle.execute_update("approve", DecisionInput(task="t", reason="fine"))
        report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED
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
        await handle.execute_update(
            "reject", DecisionInput(task="t", reason="too much")
        )
        report = await ended(handle)

    assert outcome(report, "t").status is TaskStatus.SKIPPED
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
        assert waiting.description == "effect 'pay:7': {\"euros\":7}"
        assert till.paid == []
        await handle.execute_update("approve", DecisionInput(task="t"))
        report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED
    assert till.paid == ["default~effect~m~key~pay:7"]
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
        await handle.execute_update("reject", DecisionInput(task="t", reason="no"))
        report = await ended(handle)

    assert outcome(report, "t").status is TaskStatus.SKIPPED
    assert report.degraded == ["t: pay: rejected: no"]
    assert till.paid == []


@pytest.mark.parametrize(
    ("otherwise", "status"),
    [("approve", MissionStatus.COMPLETED), ("reject", MissionStatus.FAILED)],
)
@pytest.mark.parametrize("before", ["start", "effect"])
async def test_a_deadline_decides_as_declared(
    small_crew: Crew, before: str, otherwise: str, status: MissionStatus
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
            await handle.execute_update("approve", DecisionInput(task="x"))
        assert "those that do: t" in str(refusal.value.cause)
        await handle.execute_update("cancel", "enough")
        report = await ended(handle)

    assert outcome(report, "t").status is TaskStatus.SKIPPED
    assert MissionRecords(small_crew.store).find("m").report == report


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

    assert report.status is MissionStatus.DEGRADED
    assert report.degraded == ["t: its 60 s are spent"]
    assert outcome(report, "u").status is TaskStatus.DONE


async def test_a_mission_that_is_cancelled_asks_nobody(small_crew: Crew) -> None:
    """
    Also where an attempt asks for leave before it hears of its end.
    """
    playing, told = asyncio.Event(), asyncio.Event()

    async def end(assignment: AttemptInput) -> ResultRef:
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
        report = await ended(handle)

    assert report.status is MissionStatus.CANCELLED
    assert outcome(report, "t").reasons == ["enough"]


class Cashier:
    """
    An agent that pays several bills at once, each worded anew in every attempt.
    """

    def __init__(self, crew: Crew, cents: dict[str, list[int]]) -> None:
        self.cents = cents  # of each bill, by attempt
        self.paid: list[tuple[str, object]] = []
        self.attempts = 0
        crew.plays("pay", self.pay)

    async def pay(self, given: Input, ctx: Context) -> str:
        self.attempts += 1

        async def pay(bill: str) -> None:
            by_attempt = self.cents[bill]
            cents = by_attempt[min(self.attempts, len(by_attempt)) - 1]
            words = f"{bill} of attempt {self.attempts}"
            await ctx.once(bill, self.act, content={"cents": cents}, payload=words)

        await asyncio.gather(*map(pay, self.cents))
        if ctx.round == 1 and given.get("dies"):
            raise GiveUp("no more")
        return "paid"

    def act(self, key: str, words: object) -> str:
        self.paid.append((key, words))
        return f"receipt for {words}"


async def test_what_is_approved_is_what_happens(small_crew: Crew) -> None:
    """
    All effects of a gather are asked at once, words may change, content may not: that
    is asked again, with what it was, and an answer to the old question is refused.
    """
    till = Cashier(small_crew, {"a": [10], "b": [20, 9_000_000]})
    async with small_crew.at_work():
        handle = await small_crew.start(
            small_crew.mission(task("t", "pay", approval=EFFECT))
        )
        first = await asked(small_crew, handle)
        assert {each.key for each in first.effects} == {"a", "b"}
        yes = DecisionInput(task="t", request=first.request)
        await handle.execute_update("approve", yes)
        found = await small_crew.until(
            handle,
            lambda p: (
                p.approval_requests and p.approval_requests[0].request != first.request
            ),
        )
        (changed,) = found.approval_requests[0].effects
        assert (changed.content, changed.before) == (
            '{"cents":9000000}',
            '{"cents":20}',
        )
        with pytest.raises(WorkflowUpdateFailedError) as refusal:
            await handle.execute_update("approve", yes)
        assert "than you have seen" in str(refusal.value.cause)
        with pytest.raises(WorkflowUpdateFailedError) as refusal:
            await handle.execute_update("approve", DecisionInput(task="t", skip=True))
        assert "no effect that has an earlier one" in str(refusal.value.cause)
        await handle.execute_update("approve", DecisionInput(task="t"))
        report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED
    assert till.paid == [
        ("default~effect~m~key~a", "a of attempt 1"),
        ("default~effect~m~key~b", "b of attempt 2"),
    ]


@pytest.mark.parametrize("skip", [True, False])
async def test_a_changed_effect_of_a_redriven_task_is_asked_about(
    small_crew: Crew, skip: bool
) -> None:
    """
    Also where no approval was declared: it is done as well, or the earlier one stands.
    """
    till = Cashier(small_crew, {"a": [10, 11]})

    async def wait(given: Input, ctx: Context) -> None:
        await asyncio.Event().wait()

    small_crew.plays("wait", wait)
    async with small_crew.at_work():
        dies = task("t", "pay", input={"dies": True})
        handle = await small_crew.start(small_crew.mission(dies, task("u", "wait")))
        await small_crew.until(handle, lambda p: p.settled)
        await handle.execute_update("redrive", Redrive(tasks=["t"]))
        (changed,) = (await asked(small_crew, handle)).effects
        assert (changed.before, changed.recorded) == ('{"cents":10}', True)
        await handle.execute_update("approve", DecisionInput(task="t", skip=skip))
        await small_crew.until(handle, lambda p: p.settled)
        await handle.execute_update("cancel", "enough")
        report = await ended(handle)

    assert outcome(report, "t").status is TaskStatus.DONE
    paid = (
        ["default~effect~m~key~a"]
        if skip
        else ["default~effect~m~key~a", "default~effect~m~again~2~a"]
    )
    assert [key for key, _ in till.paid] == paid
    assert audit_ledger(small_crew.store).violations == []


async def test_a_child_mission_done_again_does_not_repeat_its_effects(
    small_crew: Crew,
) -> None:
    """
    Its second round is another mission, and logically the same one.
    """
    till = Cashier(small_crew, {"a": [10]})
    small_crew.plays("well", well)

    async def judge(given: Input, ctx: Context) -> Any:
        if ctx.round == 1:
            return Redo(task="t", reason="once more")
        return "fine"

    small_crew.plays("judge", judge)
    inner = {"goal": "pay", "tasks": [{"id": "x", "role": "pay"}]}
    report = await small_crew.run(
        task("t", "mission", input=inner), task("j", "judge", needs=["t"])
    )

    assert report.status is MissionStatus.COMPLETED
    assert till.attempts == 2
    assert till.paid == [("default~effect~m~task~t~key~a", "a of attempt 1")]
