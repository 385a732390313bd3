"""
What the starter says of batches that nobody works on.
"""

import pytest

from outlast.cli.parked import (
    CONTINUES_BY_ITSELF,
    ParkedItem,
    open_batches,
    unserved_batches,
    waiting_tasks,
    what_to_do,
)
from outlast.contracts.approvals import ApprovalRequest, wanted_effect
from outlast.contracts.batches import Batch
from outlast.contracts.progress import MissionProgress, RunningTask
from outlast.contracts.scopes import Scope
from outlast.ledger.batches import BatchRecords
from outlast.store.database import Store
from outlast.workflows.status_board import render_board


@pytest.fixture
def batches(store: Store) -> BatchRecords:
    made = BatchRecords(store)
    for name, role in (
        ("m~fanout~t", "count"),
        ("m~fanout~u", "read"),
        ("mm~fanout~t", "count"),
    ):
        made.open_batch(Batch(id=name, role=role, scope=Scope(path="m")))
    return made


def test_a_batch_whose_agent_nobody_plays_waits(batches: BatchRecords) -> None:
    """
    Its task stands on the board as running, so this is where it shows.
    """
    found = unserved_batches(open_batches(batches, None), {"read"})
    assert {each.mission for each in found} == {"m~fanout~t", "mm~fanout~t"}
    assert {each.waiting_for for each in found} == {
        "count: no live worker takes its items"
    }
    assert unserved_batches(open_batches(batches, None), {"read", "count"}) == []


def test_asked_for_one_mission_its_batches_are_told(batches: BatchRecords) -> None:
    """
    As long as they are open.
    """
    assert {each.id for each in open_batches(batches, "m")} == {
        "m~fanout~t",
        "m~fanout~u",
    }
    batches.close_input("m~fanout~t")
    batches.close("m~fanout~t", cancelled=True)
    assert {each.id for each in open_batches(batches, "m")} == {"m~fanout~u"}


def test_what_a_task_asks_is_told_with_its_answers() -> None:
    """
    Each effect, what it was before, and whole commands that answer what was seen.
    """
    new = wanted_effect("mail", '"ann"', "1")
    changed = wanted_effect("pay", "2", "2", before="1", recorded=True)
    asked = ApprovalRequest(
        id="t", before="effect", effects=[new, changed], request="abc"
    )
    running = RunningTask(
        id="t", role="r", route="r", waiting_for="approval before its effect"
    )
    progress = MissionProgress(
        mission="m",
        paused=False,
        waiting=[],
        running=[running],
        settled=[],
        approval_requests=[asked],
    )
    (parked,) = waiting_tasks(progress)
    assert parked.effects == [
        "effect 'mail': \"ann\"",
        "effect 'pay': 2 (it was done with 1)",
    ]
    approve = "outlast approve m t --request abc"
    reject = approve.replace("approve", "reject")
    skip = f"{approve} --skip  # the earlier effect stands"
    assert parked.commands == [approve, reject, skip]
    assert what_to_do(parked) == f"{approve}, or {reject}, or {skip}"
    shown = render_board(progress)
    assert f"`{approve}`" in shown
    assert "effect 'pay': 2 (it was done with 1)" in shown


def test_what_a_person_may_answer_can_be_typed() -> None:
    """
    Each choice is one whole command; where there is none it goes on by itself.
    """
    both = ["outlast approve cw b", "outlast reject cw b"]
    told = what_to_do(ParkedItem("cw", "b", "approval", both))
    assert told == "outlast approve cw b, or outlast reject cw b"
    assert what_to_do(ParkedItem("cw", "b", "no worker")) == CONTINUES_BY_ITSELF


def test_the_board_has_a_bound() -> None:
    """
    However many tasks ask for however much.
    """
    effects = [
        wanted_effect("k" * 999, "c" * 999, str(n), "b" * 999) for n in range(20)
    ]
    asked = [
        ApprovalRequest(id=f"t{n}", before="effect", effects=effects)
        for n in range(100)
    ]
    progress = MissionProgress(
        mission="m",
        paused=False,
        waiting=[],
        running=[],
        settled=[],
        approval_requests=asked,
    )
    assert len(render_board(progress)) < 32 * 1024
    assert "outlast parked m" in render_board(progress)
