"""
What a record needs, of whose workflow others have made something.
"""

from dataclasses import replace

import pytest
from temporalio.client import WorkflowExecutionStatus
from unit_fakes import MISSION, Clock, mission, outcome, report, task

from outlast.contracts.batches import Batch as Given
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, TaskStatus
from outlast.ledger.audit import audit_ledger
from outlast.ledger.batches import COMPLETED, INTERRUPTED, OPEN, BatchRecords
from outlast.ledger.batches import BatchRecord as Batch
from outlast.ledger.missions import ACCEPTED, STARTING, MissionRecord, MissionRecords
from outlast.ledger.retention import forget_mission
from outlast.store.database import Store
from outlast.temporal.reconcile import RecordChangeKind, batch_change, mission_change
from outlast.temporal.resume import abandoned
from outlast.temporal.workflow_state import ENDED_TEXT, WorkflowState, interrupted

RUNS = WorkflowState(WorkflowExecutionStatus.RUNNING, "second")
GONE = WorkflowState(None)
AT_WORK = MissionRecord("m", "t", "goal", ACCEPTED, 1.0, None, None, "digest")
CLOSED = replace(AT_WORK, state="failed", finished_at=2.0, run="first")
AT_REST = replace(AT_WORK, state=INTERRUPTED, interruption="terminated")


@pytest.fixture
def books(store: Store) -> MissionRecords:
    return MissionRecords(store, Clock())


def accepted(books: MissionRecords, asked: Mission) -> None:
    books.open(asked)
    books.accept(asked.id)


@pytest.mark.parametrize(
    ("entry", "seen", "change"),
    [
        (AT_WORK, RUNS, RecordChangeKind.NONE),
        (AT_WORK, GONE, RecordChangeKind.INTERRUPT),
        (
            AT_WORK,
            WorkflowState(WorkflowExecutionStatus.TERMINATED),
            RecordChangeKind.INTERRUPT,
        ),
        (
            AT_WORK,
            WorkflowState(WorkflowExecutionStatus.TIMED_OUT),
            RecordChangeKind.INTERRUPT,
        ),
        (
            AT_WORK,
            WorkflowState(WorkflowExecutionStatus.FAILED),
            RecordChangeKind.CLOSE,
        ),
        (
            AT_WORK,
            WorkflowState(WorkflowExecutionStatus.COMPLETED),
            RecordChangeKind.CLOSE,
        ),
        (replace(AT_WORK, state=STARTING), GONE, RecordChangeKind.NONE),
        (replace(AT_WORK, state=STARTING), RUNS, RecordChangeKind.REOPEN),
        (AT_REST, RUNS, RecordChangeKind.REOPEN),
        (AT_REST, GONE, RecordChangeKind.NONE),
        (CLOSED, RUNS, RecordChangeKind.REOPEN),
        (CLOSED, replace(RUNS, run="first"), RecordChangeKind.NONE),
        (CLOSED, GONE, RecordChangeKind.NONE),
        (
            CLOSED,
            WorkflowState(WorkflowExecutionStatus.TERMINATED),
            RecordChangeKind.NONE,
        ),
    ],
)
def test_a_record_follows_the_server(
    entry: MissionRecord, seen: WorkflowState, change: RecordChangeKind
) -> None:
    """
    What runs is open, what was ended by others is interrupted, and a run that has
    written its report is about to end.
    """
    assert mission_change(entry, seen) is change


def batch(state: str, closed: bool = True, name: str = "b") -> Batch:
    return Batch(name, "t", "role", state, closed, 3, 1.0, None)


ENDED_BY_HAND = WorkflowState(WorkflowExecutionStatus.TERMINATED)


@pytest.mark.parametrize(
    ("entry", "seen", "mission", "change"),
    [
        (batch(OPEN), GONE, None, RecordChangeKind.INTERRUPT),
        (batch(OPEN, closed=False), GONE, None, RecordChangeKind.NONE),
        (batch(OPEN, closed=False), ENDED_BY_HAND, None, RecordChangeKind.INTERRUPT),
        (batch(OPEN), RUNS, None, RecordChangeKind.NONE),
        (batch(INTERRUPTED), RUNS, None, RecordChangeKind.REOPEN),
        (batch(COMPLETED), GONE, None, RecordChangeKind.NONE),
        (batch(OPEN, name="m~fanout~t"), GONE, ACCEPTED, RecordChangeKind.NONE),
        (
            batch(OPEN, name="m~fanout~t"),
            ENDED_BY_HAND,
            ACCEPTED,
            RecordChangeKind.CLOSE,
        ),
        (batch(OPEN, name="m~fanout~t"), GONE, INTERRUPTED, RecordChangeKind.INTERRUPT),
        (batch(OPEN, name="m~fanout~t"), GONE, "failed", RecordChangeKind.CLOSE),
        (batch(OPEN, name="m~fanout~t"), GONE, "", RecordChangeKind.CLOSE),
    ],
)
def test_so_does_that_of_a_batch(
    entry: Batch, seen: WorkflowState, mission: str | None, change: RecordChangeKind
) -> None:
    """
    One that is still fed may not have begun; what a task has fanned out rests with its
    mission.
    """
    assert batch_change(entry, seen, mission) is change


@pytest.mark.parametrize("why", ENDED_TEXT.values())
def test_what_was_interrupted_says_what_to_do(why: str) -> None:
    """
    What happened, and both commands, whole.
    """
    told = interrupted("m", why)
    assert why in told
    assert "outlast resume m" in told
    assert "outlast abandon m" in told


def test_an_interrupted_mission_holds_no_place(books: MissionRecords) -> None:
    """
    It is counted by nobody who limits open work, and by the audit apart.
    """
    accepted(books, mission())
    assert books.count_open() == 1
    books.interrupt(MISSION, "terminated")

    assert books.count_open() == 0
    assert books.open_missions() == []
    audit = audit_ledger(books.store)
    assert [each.id for each in audit.interrupted] == [MISSION]
    assert (audit.open, audit.violations) == ([], [])


def test_only_an_accepted_mission_is_interrupted(books: MissionRecords) -> None:
    """
    One that has ended, or that the server never had, is as it is.
    """
    books.open(mission())
    books.interrupt(MISSION, "gone")
    assert books.find(MISSION).state == STARTING  # type: ignore[union-attr]
    books.accept(MISSION)
    books.close(
        report(MISSION, MissionStatus.COMPLETED, outcome("only", TaskStatus.DONE))
    )
    books.interrupt(MISSION, "gone")
    assert books.find(MISSION).state == "completed"  # type: ignore[union-attr]


def test_what_was_asked_is_kept_whole(books: MissionRecords) -> None:
    """
    A mission whose workflow was deleted goes on from the record alone.
    """
    given = mission(task("a"), task("b", "a"))
    accepted(books, given)
    assert books.requested(MISSION) == given
    forget_mission(books.store, MISSION)
    assert books.requested(MISSION) is None


def test_a_later_run_closes_what_an_earlier_one_has_closed(
    books: MissionRecords,
) -> None:
    """
    After a reset the last report stands; the same run says it twice in vain.
    """
    accepted(books, mission())
    failed = report(MISSION, MissionStatus.FAILED, outcome("only", TaskStatus.DEAD))
    done = report(MISSION, MissionStatus.COMPLETED, outcome("only", TaskStatus.DONE))
    assert books.close(failed, "first")
    assert books.close(failed, "first")
    assert not books.close(done, "second")
    assert books.close(done, "second", again=True)
    entry = books.find(MISSION)
    assert entry is not None
    assert (entry.report, entry.run) == (done, "second")


def test_nobody_closes_what_was_forgotten(books: MissionRecords) -> None:
    """
    Not even a run that began by a reset.
    """
    accepted(books, mission())
    done = report(MISSION, MissionStatus.COMPLETED, outcome("only", TaskStatus.DONE))
    books.close(done, "first")
    forget_mission(books.store, MISSION)
    books.close(done, "second", again=True)
    assert books.find(MISSION) is None


def test_what_is_abandoned_keeps_what_is_done(books: MissionRecords) -> None:
    """
    Its report is that of a cancelled mission; nothing of it is undecided.
    """
    given = mission(task("a"), task("b", "a"))
    accepted(books, given)
    books.interrupt(MISSION, "terminated")
    found = abandoned(books, given)
    assert found.status is MissionStatus.CANCELLED
    assert {each.id: each.status for each in found.tasks} == {
        "a": TaskStatus.SKIPPED,
        "b": TaskStatus.SKIPPED,
    }
    assert found.degraded == ["a: abandoned", "b: abandoned"]


def test_an_interrupted_batch_holds_no_place(store: Store) -> None:
    """
    Until it is worked on again.
    """
    books, batches = MissionRecords(store), BatchRecords(store)
    batches.open_batch(Given(id="b", role="worker"))
    assert (books.count_open(), batches.open_batches()) == (1, ["b"])
    batches.interrupt("b")
    assert (books.count_open(), batches.open_batches()) == (0, [])
    batches.resume("b")
    assert books.count_open() == 1
