"""
A back-off is told from a wait for a worker, with what it is after.
"""

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from unit_fakes import Clock

from outlast.cli.follow import PlainScreen
from outlast.cli.snapshot import (
    MissionSnapshot,
    PendingTasks,
    task_line,
    unstarted_task,
    unstarted_tasks,
)
from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.progress import MissionProgress, RunningTask

CAUSE = "ConnectionError: refused (agents.py:14 in refund: requests.get(url))"
SCHEDULED = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED


async def pending(
    details: list[object] | None = None, due_in_s: float = 0.0
) -> PendingActivityInfo:
    """
    Make what the server tells of an attempt that it will start; with *details* the one
    before has failed. When it is due its time is not told any more.
    """
    made = PendingActivityInfo(activity_id="pay/x", state=SCHEDULED, attempt=2)
    made.activity_type.name = "payer"
    if due_in_s:
        made.next_attempt_schedule_time.FromMicroseconds(1)  # by any clock
    made.current_retry_interval.FromMicroseconds(int(due_in_s * 1e6))
    if details is not None:
        error = ApplicationError(CAUSE, *details, type="AgentFailed")
        await pydantic_data_converter.encode_failure(error, made.last_failure)
    return made


async def test_a_back_off_says_when_and_after_what() -> None:
    """
    With the ledger's number: the server's begins again with every dispatch.
    """
    told = await unstarted_tasks(await pending([{}, 6], 12), 0)
    assert told is not None
    assert told.backs_off
    assert told.text == f"attempt 7 in 12 s, after {CAUSE}"


async def test_one_that_is_due_waits_for_a_worker() -> None:
    """
    And still says what it is after, and what to do.
    """
    told = await unstarted_tasks(await pending([{}, 1]), 3)
    assert told is not None
    assert not told.backs_off
    assert told.text.startswith(f"for a free worker of role payer, after {CAUSE}; ")
    assert "outlast-worker starts one" in told.text


@pytest.mark.parametrize("state", ["PAUSED", "PAUSE_REQUESTED"])
async def test_one_that_others_have_paused_says_so(state: str) -> None:
    """
    It waits for no worker, and nobody here can have it go on.
    """
    found = await pending()
    found.state = PendingActivityState.Value(f"PENDING_ACTIVITY_STATE_{state}")
    told = await unstarted_tasks(found, 0)
    assert told is not None
    assert told.text == "paused in Temporal, by others: unpause pay/x there"


@pytest.mark.parametrize("details", [[], ["odd"], [{}, 0]])
async def test_without_our_number_the_servers_will_do(details: list[object]) -> None:
    """
    As of a failure that the SDK has reported.
    """
    told = await unstarted_tasks(await pending(details, 1), 0)
    assert told is not None
    assert told.attempt == 2


async def test_a_first_attempt_waits_for_a_worker() -> None:
    """
    It is after nothing.
    """
    told = await unstarted_tasks(await pending(), 0)
    assert told is not None
    assert told.text.startswith("for a free worker of role payer; ")


async def test_what_is_at_work_waits_for_nothing() -> None:
    """
    Whatever came before it.
    """
    at_work = await pending([{}, 1])
    at_work.state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    assert await unstarted_tasks(at_work, 0) is None


async def test_the_time_left_is_counted_by_our_own_clock() -> None:
    """
    From when the attempt was seen first, and for each attempt anew.
    """
    clock = Clock()
    watched, waits = PendingTasks(clock), await pending([{}, 6], 12)
    assert watched.waited_s(waits) == 0
    clock.turn(4)
    told = await unstarted_tasks(waits, watched.waited_s(waits))
    assert told is not None
    assert told.text == f"attempt 7 in 8 s, after {CAUSE}"
    waits.attempt += 1
    assert watched.waited_s(waits) == 0


def test_plain_lines_tell_each_attempt_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Not four times a second.
    """
    lines = PlainScreen()
    for attempt, left_s in ((2, 0.9), (2, 0.6), (3, 4.2), (3, 3.9)):
        lines.show(view(unstarted_task("payer", attempt, "ValueError: x", left_s)))
    told = [each for each in capsys.readouterr().err.splitlines() if "retries" in each]
    assert [each.split(maxsplit=2)[2] for each in told] == [
        "attempt 2 at once, after ValueError: x",
        "attempt 3 in 4 s, after ValueError: x",
    ]


def test_the_word_for_how_a_task_is() -> None:
    """
    What a person has to do comes first.
    """
    waits = unstarted_task("payer", 1, "", 0)
    assert task_line(RUNNING, view(waits))[0] == "waits"
    assert task_line(RUNNING, view(unstarted_task("payer", 2, "x", 9)))[0] == "retries"
    assert task_line(RUNNING, MissionSnapshot(PROGRESS, {"pay": "step 3"})) == (
        "running",
        "step 3",
    )
    parked = RUNNING.model_copy(update={"waiting_for": "approval"})
    assert task_line(parked, view(waits)) == ("parked", "approval")


def test_what_is_asked_comes_with_its_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Once for each question, to be pasted.
    """
    lines = PlainScreen()
    for request in ("r1", "r1", "r2"):
        parked = RUNNING.model_copy(update={"waiting_for": f"approval {request}"})
        asked = ApprovalRequest(id="pay", before="effect", request=request)
        more = {"running": [parked], "approval_requests": [asked]}
        lines.show(MissionSnapshot(PROGRESS.model_copy(update=more)))
    told = capsys.readouterr().err.splitlines()
    assert [each.split(maxsplit=2)[2] for each in told if "running" not in each] == [
        "approval r1",
        "outlast approve m pay --request r1",
        "outlast reject m pay --request r1",
        "approval r2",
        "outlast approve m pay --request r2",
        "outlast reject m pay --request r2",
    ]


RUNNING = RunningTask(id="pay", role="payer", route="payer")
PROGRESS = MissionProgress(
    mission="m", paused=False, waiting=[], running=[RUNNING], settled=[]
)


def view(waits: object) -> MissionSnapshot:
    return MissionSnapshot(PROGRESS, {}, {"pay": waits})  # type: ignore[dict-item]
