"""
What the starter prints for a person: whole commands, counts, and what needs a look.
"""

from pathlib import Path
from typing import Any

import pytest
import typer
from temporalio.api.workflowservice.v1 import ListWorkersResponse
from temporalio.service import RPCError, RPCStatusCode
from unit_fakes import told_in_one_sentence

from outlast.cli import worker_command
from outlast.cli.audit import effect_lines
from outlast.cli.explain import line
from outlast.cli.output import outcome_line, print_mission
from outlast.cli.run_batch import exit_code_of_batch
from outlast.cli.run_mission import FinishedMission
from outlast.cli.workers import WorkerRow, process_lines
from outlast.contracts.batches import BatchReport
from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.contracts.failures import FailureType
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Outcome, Report
from outlast.contracts.tasks import Task
from outlast.crew.crew_models import Research, SubQuestion
from outlast.crew.writer import WriterInput, drafted, quoted
from outlast.dev import stack_client
from outlast.ledger.attempts import NO_END
from outlast.settings import Settings
from outlast.temporal.worker_list import list_workers

ATTEMPT: dict[str, Any] = {
    "task": "pay",
    "attempt": 1,
    "route": "payer",
    "host": "here",
    "pid": 7,
    "started_at": 100.0,
    "ended_at": None,
    "end_reason": None,
    "previous_failure": None,
    "detected_by": None,
    "failure_type": None,
    "recovery_s": None,
    "resumed_seq": 0,
}


def effect(key: str, applied: int = 1, conflicts: int = 0) -> dict[str, Any]:
    state = "applied" if applied else "intended"
    who = {"mission": "m", "task": "t", "state": state}
    return {"key": key, **who, "applied": applied, "conflicts": conflicts}


def test_a_persons_word_stands_beside_the_result() -> None:
    """
    Who reads how a task ended also reads who let it.
    """
    given = {"id": "b", "role": "r", "route": "r", "status": "done", "summary": "paid"}
    ended = Outcome.model_validate({**given, "approval": "approved: looks fine"})
    told = outcome_line(ended).split(maxsplit=2)
    assert told == ["b", "done", "approved: looks fine; paid"]


@pytest.mark.parametrize(
    ("stays", "told"),
    [(True, "Web UI   http://ui"), (False, "stops with this command")],
)
def test_the_web_ui_stays_with_a_stack_that_was_there(
    stays: bool, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Only a server that this command has started ends with it.
    """
    mission = Mission(id="m", goal="g", tasks=[Task(id="b", role="r")])
    report = Report(mission="m", status=MissionStatus.COMPLETED, tasks=[])
    print_mission(
        FinishedMission(mission, report, {}, 1.0, ui="http://ui", ui_stays=stays)
    )
    assert told in capsys.readouterr().out.splitlines()[-1]


def test_a_question_to_a_person_is_no_error() -> None:
    """
    The agent raises it, but nothing has failed.
    """
    kind = FailureType.APPROVAL_NEEDED
    asked = {"end_reason": "effect 'pay': 12", "failure_type": kind}
    told = line({**ATTEMPT, "ended_at": 101.0, **asked}, over=False)
    assert told.endswith("asks for approval of effect 'pay': 12 after 1.00 s")


@pytest.mark.parametrize(
    ("over", "told"), [(True, "| no end recorded"), (False, "no end recorded yet")]
)
def test_an_attempt_without_an_end_is_not_buried_early(over: bool, told: str) -> None:
    """
    While the mission runs, so may the attempt.
    """
    assert line(ATTEMPT, over).endswith(told)


def test_an_attempt_that_was_killed_did_not_last_as_long_as_its_mission() -> None:
    """
    The end of the mission closes its line; that says nothing of when it died.
    """
    none = {"end_reason": NO_END, "failure_type": FailureType.NOT_RECORDED}
    closed = {**ATTEMPT, "ended_at": 160.0, **none}
    assert line(closed, over=True).endswith(" | no end recorded")


def test_effects_are_counted_and_exceptions_named() -> None:
    """
    Whoever audits many effects sees at once which of them needs a look.
    """
    well = [effect(f"e{number}") for number in range(31)]
    assert effect_lines([]) == []
    assert effect_lines(well) == ["effects 31: each applied once"]

    odd = [effect("unsure", applied=0), effect("twice", applied=2)]
    odd.append(effect("other", conflicts=3))
    head, *named = effect_lines(well + odd)

    assert head == "effects 34: 32 applied once"
    keys = [each.split(":")[0].strip() for each in named]
    assert keys == [f"effect {each} of m/t" for each in ("unsure", "twice", "other")]


def test_a_process_is_one_line_with_its_roles() -> None:
    """
    Three queues for each of its roles are no news to a person.
    """
    rows = [
        WorkerRow(role, takes, "here", pid, "", in_flight=1, free=9, last_sign_s=0.5)
        for pid in (8, 7)
        for role in ("reader", "writer")
        for takes in ("leases", "tasks")
    ]
    first, second = process_lines(rows)
    assert first.split() == ["here", "7", "4", "0.5", "s", "-", "reader,", "writer"]
    assert second.split()[1] == "8"


@pytest.mark.parametrize(
    ("done", "dead", "cancelled", "strict", "expected"),
    [
        (5, 0, False, True, 0),
        (0, 0, False, True, 0),
        (4, 1, False, False, 0),
        (4, 1, False, True, 3),
        (0, 5, False, False, 1),
        (5, 0, True, False, 1),
    ],
)
def test_a_batch_exits_by_what_came_of_it(
    done: int, dead: int, cancelled: bool, strict: bool, expected: int
) -> None:
    """
    One without any result has failed; one with some lacks something.
    """
    report = BatchReport(
        batch="b", items=done + dead, done=done, dead=dead, cancelled=cancelled
    )
    assert exit_code_of_batch(report, strict) == expected


def test_an_unanswered_question_says_what_is_missing() -> None:
    """
    Only what was seen: the passage that fits best holds none of these words.
    """
    research = Research(question="q", answered=False, missing=["salary", "CEO"])
    order = WriterInput(
        question="q", parts={"a": SubQuestion(question="q")}, needs={"a": research}
    )
    draft = drafted(order, quoted(order))
    assert draft.answer == (  # type: ignore[union-attr]
        "The documents do not answer this. "
        "The nearest passage does not speak of: salary, CEO."
    )


class Silent:
    """
    A server that answers no question for its workers.
    """

    namespace = "default"

    def __init__(self, status: RPCStatusCode) -> None:
        self._status = status
        self.workflow_service = self

    async def list_workers(self, _: Any) -> ListWorkersResponse:
        raise RPCError("operation was canceled", self._status, b"")


AWAY = "the list of workers could not be read (operation was canceled)"
OLD = "this server lists no workers: operation was canceled"


@pytest.mark.parametrize(
    ("status", "told"),
    [(RPCStatusCode.CANCELLED, AWAY), (RPCStatusCode.UNIMPLEMENTED, OLD)],
)
async def test_a_list_that_failed_once_is_not_called_missing(
    status: RPCStatusCode, told: str
) -> None:
    """
    A server that was away for a moment is not called too old.
    """
    with pytest.raises(UnavailableError) as error:
        await list_workers(Silent(status))  # type: ignore[arg-type]
    assert str(error.value) == told


@pytest.mark.parametrize(
    "options", [["--bind", "127.0.0.1:1"], ["--join", "127.0.0.1:1"]]
)
def test_a_place_in_the_mesh_is_only_for_a_peer(options: list[str]) -> None:
    """
    What would have no effect is refused, before anything starts.
    """
    command = typer.main.get_command(worker_command.app)
    with pytest.raises(BadInputError, match="add --peer NAME") as error:
        command(options, standalone_mode=False)
    told_in_one_sentence(error.value)


def test_a_start_that_takes_a_while_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever waits hears for what, and whoever ends the wait that nothing has begun.
    """

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stack_client, "_start", interrupted)
    heard: list[str] = []
    chosen = Settings(home=tmp_path)
    with (
        pytest.raises(KeyboardInterrupt),
        stack_client.running_stack(chosen, heard.append),
    ):
        pytest.fail("there is nothing to use")
    assert heard == ["starting a server and workers …", "not started yet"]
