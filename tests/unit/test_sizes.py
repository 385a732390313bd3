"""
Whatever is built for Temporal fits: every payload has a bound in bytes, in any script.
"""

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import to_json
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from outlast.contracts.approvals import (
    MAX_APPROVED_EFFECTS,
    ApprovalRequest,
    wanted_effect,
)
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.batches import ItemRange, PendingItems
from outlast.contracts.errors import MAX_WANTED_EFFECTS
from outlast.contracts.failures import Detector
from outlast.contracts.inputs import InputStorage
from outlast.contracts.plan_validation import require_plan_size
from outlast.contracts.progress import MissionProgress, RunningTask, fitting
from outlast.contracts.reports import (
    MissionStatus,
    Outcome,
    Report,
    TaskStatus,
    outcome_without_attempt,
    report_of,
)
from outlast.contracts.sizes import (
    BOARD_BYTES,
    CHECKPOINT_BYTES,
    INPUT_BYTES,
    KIB,
    MAX_CAUSES,
    MESSAGE_BYTES,
    PAYLOAD_BYTES,
    PLAN_BYTES,
    PROGRESS_BYTES,
    REASONS_BYTES,
)
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line, title
from outlast.ledger.items import MAX_PENDING_RANGES
from outlast.temporal.conversion import CAUSES_LEFT_OUT, CONVERTER, INLINE
from outlast.workflows.status_board import render_board

# What a server takes: of a summary, of one payload, of a message of gRPC.
SUMMARY_TAKEN, PAYLOAD_TAKEN, MESSAGE_TAKEN = 400, 2_000_000, 4 * 1024 * KIB
NAME = "n" * 100
LETTERS = [
    "x",
    '"',
    "\\",
    "é",
    "\u4e2d",
    "\U0001f600",
    "\x01",
    "\u202e",
    "\ud800",
    "<a",
]


def payload_bytes(value: object) -> int:
    (payload,) = CONVERTER.payload_converter.to_payloads([value])
    return payload.ByteSize()


@given(st.text(max_size=900), st.integers(8, 400))
@example("\u4e2d" * 500, 400)
@example("\U0001f600" * 400, 400)
@example('"\\' * 300, 400)
def test_a_line_is_bounded_in_bytes(text: str, most: int) -> None:
    """
    Two bytes for each character that it may have, and three in JSON.
    """
    line = one_line(text, most)
    assert len(line) <= most
    assert len(line.encode()) <= 2 * most
    assert len(to_json(line)) <= 3 * most + 2


@pytest.mark.parametrize("letter", LETTERS)
def test_a_title_is_what_a_server_takes(letter: str) -> None:
    """
    A goal in any script: more than it takes would be refused, and nothing started.
    """
    assert payload_bytes(title(letter * 2_000)) <= SUMMARY_TAKEN
    assert title("refund all orders") == "refund all orders"


@cache
def cause(letter: str) -> str:
    return one_line(letter * 5_000, CAUSE_CHARS)


def dead(number: int, letter: str) -> Outcome:
    """
    A task that has failed on three routes, each for as long a reason as there is.
    """
    causes = [f"{NAME}: {cause(letter)}"] * 3
    task = Task(id=f"{NAME[:90]}{number}", role=NAME)
    return outcome_without_attempt(task, TaskStatus.DEAD, *causes)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_report_is_the_sum_of_bounded_ends(letter: str) -> None:
    """
    500 tasks that have died for long reasons: what they say is bounded one by one.
    """
    outcomes = [dead(at, letter) for at in range(500)]
    report = report_of("m", outcomes, cancelled=False)
    of_one = 3 * REASONS_BYTES // 2 + KIB
    assert payload_bytes(report) <= 2 * 500 * of_one
    assert report.status is MissionStatus.FAILED


def test_reasons_that_have_no_room_are_counted() -> None:
    """
    A child mission's report has a reason for each of its tasks: of 500 some are told.
    """
    reasons = [f"t{at}: " + "\u4e2d" * 400 for at in range(500)]
    outcome = outcome_without_attempt(Task(id="a", role="b"), TaskStatus.DEAD, *reasons)
    assert len(to_json(outcome)) <= 2 * REASONS_BYTES
    assert outcome.reasons[-1] == f"and {500 - len(outcome.reasons) + 1} more reasons"


def a_large_progress(letter: str) -> MissionProgress:
    key = wanted_effect(letter * 500, letter * 9_000, "d" * 32, letter * 9_000)
    asked = ApprovalRequest(
        id=NAME, before="effect", effects=[key] * MAX_WANTED_EFFECTS
    )
    done = Outcome(
        id=NAME, role=NAME, route=NAME, status=TaskStatus.DONE, summary="s" * 200
    )
    return MissionProgress(
        mission="m",
        paused=True,
        waiting=[NAME] * 1_000,
        running=[RunningTask(id=NAME, role=NAME, route=NAME, waiting_for=letter * 400)]
        * 100,
        settled=[*[done] * 3_000, *[dead(at, letter) for at in range(1_000)]],
        approval_requests=[asked] * 50,
    )


@pytest.mark.parametrize("letter", ["x", "\u4e2d", '"'])
def test_an_answer_to_a_query_fits(letter: str) -> None:
    """
    Of too many tasks those that a person must see come first; the rest is counted.
    """
    progress = a_large_progress(letter)
    told = fitting(progress)
    assert payload_bytes(told) <= PROGRESS_BYTES + KIB <= PAYLOAD_TAKEN
    assert len(told.running) == 100
    shown = (told.settled, told.waiting, told.running, told.approval_requests)
    every = (
        progress.settled,
        progress.waiting,
        progress.running,
        progress.approval_requests,
    )
    assert told.left_out == sum(map(len, every)) - sum(map(len, shown)) > 0
    assert TaskStatus.DEAD in {each.status for each in told.settled}


def test_a_small_answer_is_told_as_it_is() -> None:
    """
    Nothing is left out that has room.
    """
    progress = MissionProgress(
        mission="m", paused=False, waiting=["a"], running=[], settled=[dead(1, "x")]
    )
    assert fitting(progress) is progress


@pytest.mark.parametrize("letter", ["x", "\u4e2d", "<a"])
def test_the_board_is_no_reference(letter: str) -> None:
    """
    The Web UI shows payloads as they are: a larger one would be a riddle there.
    """
    shown = render_board(a_large_progress(letter))
    assert len(shown.encode()) <= BOARD_BYTES + KIB < PAYLOAD_BYTES
    assert "more" in shown


def test_the_board_of_a_small_mission_has_all_of_it() -> None:
    """
    In the order of the tasks' ends.
    """
    ends = [Outcome(id=n, role="r", route="r", status=TaskStatus.DONE) for n in "ab"]
    progress = MissionProgress(
        mission="m", paused=False, waiting=["c"], running=[], settled=ends
    )
    assert [
        row.split("|")[2].strip() for row in render_board(progress).splitlines()[2:]
    ] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("letter", LETTERS)
def test_a_heartbeat_fits(letter: str) -> None:
    """
    Its value is bounded where it is saved, its words here.
    """
    room = CHECKPOINT_BYTES - KIB
    saved = Checkpoint(seq=10**6, route=NAME, version=10**6, value="v" * (room - 2))
    beat = Heartbeat(checkpoint=saved, status_message=one_line(letter * 500, 200))
    assert len(to_json(beat)) <= CHECKPOINT_BYTES


def test_commands_of_one_turn_fit_into_a_message() -> None:
    """
    100 attempts that begin at once, none of which is large enough for the store.
    """
    assert 100 * (PAYLOAD_BYTES + KIB) < MESSAGE_TAKEN


def test_a_survey_and_a_lease_are_small() -> None:
    """
    They hold numbers of items: as many as there can be.
    """
    spans = [
        ItemRange(start=10**8 + at, stop=10**8 + at + 1)
        for at in range(MAX_PENDING_RANGES)
    ]
    survey = PendingItems(ranges=spans, up_to=10**8, items=10**8, closed=True)
    assert payload_bytes(survey) < PAYLOAD_BYTES


def test_an_assignment_has_bounded_parts() -> None:
    """
    But for its needs, which a plan bounds, it travels itself.
    """
    given = AttemptInput(
        mission=NAME,
        tenant=NAME,
        task=Task(id=NAME, role=NAME, input={"x": "y" * 4_000}),
        detected_by=Detector.SUPERSEDED,
        previous_failure=one_line("\u4e2d" * 400, CAUSE_CHARS),
        redo_reason=one_line("\u4e2d" * 400, CAUSE_CHARS),
        approved=["d" * 32] * MAX_APPROVED_EFFECTS,
        checkpoint=Checkpoint(seq=1, value="v" * 3_000),
    )
    assert payload_bytes(given) < PAYLOAD_BYTES


def test_a_plan_has_room_for_all_tasks_that_a_mission_may_have() -> None:
    """
    Each with as large an input as stays in it, and with a few needs.
    """
    given = {"x": "y" * (INPUT_BYTES - 8)}
    needs = [f"task-{at}" for at in range(5)]
    tasks = [
        Task(id=f"task-{at}", role="role", input=given, needs=needs)
        for at in range(5_000)
    ]
    assert InputStorage("m").stored(tasks[:1]) == tasks[:1]
    assert require_plan_size(tasks) < PLAN_BYTES


# Errors on their way to Temporal


def chain(length: int, text: str) -> BaseException:
    """
    An error with as many causes.
    """
    error: BaseException = ValueError(text)
    for at in range(length):
        above = RuntimeError(f"{at} {text}")
        above.__cause__ = error
        error = above
    return error


def circle() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def in_context() -> BaseException:
    """
    An error raised while others were handled, two hundred deep.
    """
    error: BaseException = ValueError("first")
    for at in range(200):
        above = RuntimeError(str(at))
        above.__context__ = error
        error = above
    return error


ERRORS = {
    "five megabytes": ValueError("x" * 5_000_000),
    "another script": ValueError("\u4e2d" * 2_000_000),
    "two hundred causes": chain(200, "\u4e2d" * 10_000),
    "five thousand causes": chain(5_000, "x"),
    "a circle": circle(),
    "in context": in_context(),
    "ours, five megabytes": ApplicationError("x" * 5_000_000, type="X"),
}


async def failure_of(error: BaseException) -> Failure:
    failure = Failure()
    await CONVERTER.encode_failure(error, failure)
    return failure


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_arrives_whatever_was_raised(kind: str) -> None:
    """
    One that is too large for a message would never be heard of: its attempt would be
    taken for dead, three times.
    """
    failure = await failure_of(ERRORS[kind])
    assert failure.ByteSize() < 64 * KIB
    assert 0 < len(failure.message.encode()) <= MESSAGE_BYTES
    assert isinstance(await CONVERTER.decode_failure(failure), ApplicationError)


async def test_the_first_causes_are_told() -> None:
    """
    As many as explain something; then it is said that there were more.
    """

    def messages(failure: Failure) -> Iterator[str]:
        yield failure.message
        if failure.HasField("cause"):
            yield from messages(failure.cause)

    told = list(messages(await failure_of(chain(20, "x"))))
    assert told[0] == "19 x"
    assert told[-1] == CAUSES_LEFT_OUT
    assert len(told) == MAX_CAUSES + 1


async def test_an_error_from_elsewhere_is_cut_too() -> None:
    """
    A failure that another program has written travels on as it is, but for its size.
    """
    foreign = Failure(message="x" * 5_000_000, stack_trace="y" * 5_000_000)
    deepest = foreign
    for _ in range(50):
        deepest = deepest.cause
        deepest.message = "z" * 100_000
    error = await CONVERTER.decode_failure(foreign)
    assert (await failure_of(error)).ByteSize() < 64 * KIB


def test_answers_to_queries_are_marked() -> None:
    """
    Nobody keeps them, so they must not be kept in the store either.
    """
    progress = MissionProgress(
        mission="m", paused=False, waiting=[], running=[], settled=[]
    )
    report = Report(mission="m", status=MissionStatus.COMPLETED, tasks=[])
    marked = [
        INLINE in CONVERTER.payload_converter.to_payloads([each])[0].metadata
        for each in (progress, report)
    ]
    assert marked == [True, False]
