"""
Faults of our own: a mission whose bookkeeping is broken ends, and says so.
"""

import asyncio
from typing import Any

import pytest
from small_crew import BOUND_S, Crew, ended, task
from temporalio.client import WorkflowUpdateFailedError
from test_supervisor import for_ever, outcome, well

from outlast import Context, FanOut
from outlast.contracts.approvals import Approval
from outlast.contracts.plan import Plan
from outlast.contracts.reports import MissionStatus, Outcome, TaskStatus
from outlast.contracts.updates import DecisionInput
from outlast.ledger.audit import audit_ledger
from outlast.ledger.missions import MissionRecords
from outlast.workflows.approvals import Approvals
from outlast.workflows.lease_dispatch import LeaseDispatch


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("of ours")


@pytest.mark.parametrize("what", ["record", "next_ready", "start", "stop"])
async def test_a_mission_whose_bookkeeping_is_broken_fails(
    small_crew: Crew, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """
    With the cause, its books closed, and nothing of it left at work: no workflow task
    that fails for ever.
    """
    small_crew.plays("well", well)
    small_crew.plays("for_ever", for_ever)
    record = Plan.record

    def breaks_later(plan: Plan, ended: Outcome) -> None:
        record(plan, ended)
        monkeypatch.setattr(Plan, what, broken)

    monkeypatch.setattr(Plan, "record", breaks_later)
    async with asyncio.timeout(BOUND_S), small_crew.at_work():
        tasks = [
            task("a", "well"),
            task("b", "for_ever"),
            task("c", "well", needs=["b"]),
        ]
        handle = await small_crew.start(
            small_crew.mission(*tasks, task("d", "well", needs=["a"]))
        )
        if what == "stop":
            await small_crew.until(handle, lambda progress: len(progress.settled) == 2)
            await handle.execute_update("cancel", "enough")
        report = await ended(handle)

    assert report.status is MissionStatus.FAILED
    assert (
        "Outlast's own bookkeeping failed (KeyError: 'of ours')" in report.degraded[0]
    )
    assert outcome(report, "a").status is TaskStatus.DONE, "what was done is kept"
    assert {each.id for each in report.tasks} == {"a", "b", "c", "d"}
    books = MissionRecords(small_crew.store)
    assert [each.state for each in books.records()] == ["failed"]
    assert audit_ledger(books.store).violations == []


async def test_a_fault_in_what_a_person_asks_for_fails_that_alone(
    small_crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The update is refused, and the mission goes on.
    """
    small_crew.plays("well", well)
    async with asyncio.timeout(BOUND_S), small_crew.at_work():
        wanted = task("a", "well", approval=Approval(before="start"))
        handle = await small_crew.start(small_crew.mission(wanted))
        await small_crew.until(handle, lambda progress: progress.approval_requests)
        with monkeypatch.context() as patch:
            patch.setattr(Approvals, "decide", broken)
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("approve", DecisionInput(task="a"))
        await handle.execute_update("approve", DecisionInput(task="a"))
        report = await ended(handle)

    assert report.status is MissionStatus.COMPLETED


async def test_a_batch_whose_bookkeeping_is_broken_gives_up(
    small_crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its task says why: a lease that is not dispatched any more is not waited for.
    """

    async def spread(given: dict[str, Any], ctx: Context) -> FanOut:
        return FanOut(role="spread", items=[{"n": 1}])

    monkeypatch.setattr(LeaseDispatch, "run", broken)
    small_crew.plays("spread", spread)
    async with asyncio.timeout(BOUND_S):
        report = await small_crew.run(task("t", "spread"))

    assert outcome(report, "t").status is TaskStatus.DEGRADED
    assert "the pool gave up: Outlast's own bookkeeping" in report.degraded[0]
