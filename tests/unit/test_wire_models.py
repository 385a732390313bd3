"""
What crosses a process: fixed names, capped sizes, no strangers.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from unit_fakes import mission, task

from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.ids import Name
from outlast.contracts.missions import Mission, RoleSpec
from outlast.contracts.reports import Outcome, Report
from outlast.contracts.results import FollowUps, ResultRef
from outlast.contracts.retries import Policy
from outlast.contracts.tasks import Budget, Limits, Task
from outlast.contracts.text import SUMMARY_CHARS, one_line, sha256_hex, visible_line

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)

APPROVAL = Approval(before="start")
BASE = mission(task("a", "b"), task("b"))

CHANGES: dict[str, list[Any]] = {
    "goal": ["another goal"],
    "tenant": ["somebody"],
    "tasks": [
        [task("a", "b")],
        [task("b"), task("a", "b")],
        [task("a"), task("b")],
        [task("x", "b"), task("b")],
        [task("a", "b", role="poet"), task("b")],
        [task("a", "b", required=False), task("b")],
        [Task(id="a", role="worker", needs=["b"], input={"n": 1}), task("b")],
        [task("a", "b"), Task(id="b", role="worker", budget=Budget(tokens=1))],
        [task("a", "b"), Task(id="b", role="worker", approval=APPROVAL)],
    ],
    "limits": [
        Limits(concurrency=9),
        Limits(tasks=99),
        Limits(depth=19),
        Limits(deadline_s=1),
        Limits(tokens=1),
        Limits(cost=1),
        Limits(redos=1),
        Limits(generations=1),
    ],
}

CONTRACTS = [
    ResultRef(digest="d", attempt=1),
    AttemptInput(mission="m", tenant="t", task=task("a")),
    BASE,
    Heartbeat(),
    Checkpoint(),
    FollowUps(),
    Limits(),
    RoleSpec(routes=["r"]),
    Outcome(id="a", role="r", route="r", status="done"),
    Policy(),
    Report(mission="m", status="completed", tasks=[]),
    task("a"),
]


def test_a_digest_ignores_the_id_and_who_is_there() -> None:
    """
    The same mission under another id or with another crew was asked for the same.
    """
    same = {"id": "other", "crew": {"poet": RoleSpec(routes=["poet"])}}
    assert BASE.model_copy(update=same).digest() == BASE.digest()


@pytest.mark.parametrize(
    "change",
    [{field: value} for field, values in CHANGES.items() for value in values],
    ids=str,
)
def test_a_digest_notices_everything_else(change: dict[str, Any]) -> None:
    """
    Whatever else is asked differently is another mission.
    """
    assert BASE.model_copy(update=change).digest() != BASE.digest()


def test_no_field_of_a_mission_is_forgotten_here() -> None:
    """
    Each field is either ignored on purpose or has its change above.
    """
    ignored = {"id", "crew", "store", "schema_number", "prior_run", "parent", "scope"}
    ignored |= {"heartbeat_timeout_s"}
    assert set(CHANGES) | ignored == set(Mission.model_fields)
    limits = {name for each in CHANGES["limits"] for name in each.model_fields_set}
    assert limits == set(Limits.model_fields)


def test_a_digest_is_the_same_after_a_journey() -> None:
    """
    JSON and back asks for the same.
    """
    there = Mission.model_validate_json(BASE.model_dump_json())
    assert there == BASE
    assert there.digest() == BASE.digest()


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: type(each).__name__)
def test_strangers_are_refused(contract) -> None:
    """
    A field that nobody knows is a mistake, not a wish.
    """
    known = contract.model_dump(mode="json")
    assert type(contract).model_validate(known) == contract
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(contract).model_validate({**known, "stranger": 1})


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda each: type(each).__name__)
def test_contracts_are_frozen(contract) -> None:
    """
    What was said is not changed afterwards.
    """
    field = next(iter(type(contract).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(contract, field, None)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Limits, {"concurrency": 0}),
        (Limits, {"concurrency": 101}),
        (Limits, {"tasks": 5_001}),
        (Limits, {"depth": 5_001}),
        (Limits, {"deadline_s": 0}),
        (Limits, {"deadline_s": 30 * 86_400 + 1}),
        (Limits, {"tokens": -1}),
        (Limits, {"cost": -0.1}),
        (RoleSpec, {"routes": []}),
        (Policy, {"failures": 0}),
        (Policy, {"failures": 21}),
        (Policy, {"crashes": 0}),
        (Policy, {"stall_s": 0}),
        (Policy, {"attempt_limit_s": 86_401}),
        (Mission, {"id": "m", "goal": "", "tasks": [task("a")]}),
        (Mission, {"id": "m", "goal": "g" * 2001, "tasks": [task("a")]}),
        (Mission, {"id": "m", "goal": "g", "tasks": []}),
        (
            ResultRef,
            {"digest": "d", "attempt": 1, "summary": "s" * (SUMMARY_CHARS + 1)},
        ),
    ],
    ids=str,
)
def test_what_is_over_its_cap_is_refused(kind, values: dict[str, Any]) -> None:
    """
    Each cap is a promise to whoever shares the workers.
    """
    with pytest.raises(ValidationError):
        kind(**values)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        " ",
        "a b",
        "a#b",
        "a~b",
        "a/b",
        "-a",
        ".a",
        "_a",
        "ä",
        "a\n",
        "a" * 101,
        None,
        7,
    ],
    ids=repr,
)
def test_a_bad_name_is_refused(bad: Any) -> None:
    """
    Names go into ids, queues and paths: letters, digits, dot, dash, underscore.
    """
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(bad)


@given(st.text(), st.integers(1, 50))
def test_a_shortened_text_is_one_line_within_its_limit(text: str, most: int) -> None:
    """
    Never longer than asked, never two lines, nothing a terminal obeys, and whole where
    it fits.
    """
    short = one_line(text, most)
    assert len(short) <= most
    assert len(short.splitlines()) <= 1
    line = visible_line(" ".join(text.split()))
    fits = len(line) <= most and len(line.encode()) <= 2 * most
    assert short == line if fits else short.endswith("…")


def test_a_shortened_text_can_be_sent() -> None:
    """
    Half a character, as in a file name that is no UTF-8, does not stop a report.
    """
    assert one_line("caf\udce9.txt", 50).encode()


def test_a_digest_is_that_of_the_text() -> None:
    """
    Equal texts have equal digests, others have others.
    """
    assert sha256_hex("a") == sha256_hex("a") != sha256_hex("b")
