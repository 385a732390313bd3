"""
State that outlives a release: what a newer one has written is refused, never guessed.
"""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from unit_fakes import assignment, mission, task

from outlast.contracts.batches import Batch, ItemRange, Lease, PoolState
from outlast.contracts.errors import NewerStateError
from outlast.contracts.missions import Mission
from outlast.contracts.tasks import Limits, Task
from outlast.contracts.versioned import SCHEMA_NUMBER, VersionedModel

BATCH = Batch(id="trial", role="worker")
STATES: list[VersionedModel] = [mission(), assignment(), BATCH]
# What carries a batch is refused with it.
CARRIERS = [PoolState(batch=BATCH), Lease(batch=BATCH, span=ItemRange(start=1, stop=2))]


def newer(told: dict[str, Any]) -> dict[str, Any]:
    """
    Make it what the next release may write: another number, and another shape.
    """
    raised = {**told, "schema_number": SCHEMA_NUMBER + 1, "tasks": {}, "stranger": 1}
    if "batch" in raised:
        raised |= {"batch": newer(raised["batch"]), "schema_number": None}
    return raised


@pytest.mark.parametrize("state", STATES, ids=lambda each: type(each).__name__)
def test_state_says_which_schema_it_has(state: VersionedModel) -> None:
    """
    What travels carries this release's number, and this release reads it.
    """
    told = state.model_dump(mode="json")
    assert told["schema_number"] == SCHEMA_NUMBER
    assert type(state).model_validate(told) == state


@pytest.mark.parametrize(
    "state", [*STATES, *CARRIERS], ids=lambda each: type(each).__name__
)
def test_newer_state_is_refused_in_one_sentence(state: Any) -> None:
    """
    Whatever else a newer release has changed, the number decides, and the sentence
    names the mission and what to do.
    """
    told = newer(state.model_dump(mode="json"))
    with pytest.raises(NewerStateError) as refused:
        TypeAdapter(type(state)).validate_python(told)
    sentence = str(refused.value)
    assert sentence.startswith("trial was written by a newer release")
    assert "start workers of the newer release" in sentence
    assert len(sentence.splitlines()) == 1


@pytest.mark.parametrize("state", STATES, ids=lambda each: type(each).__name__)
def test_older_state_is_read(
    state: VersionedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The next release reads what this one has written, with and without a number.
    """
    told = state.model_dump(mode="json")
    monkeypatch.setattr("outlast.contracts.versioned.SCHEMA_NUMBER", SCHEMA_NUMBER + 1)
    assert type(state).model_validate(told) == state
    del told["schema_number"]
    assert type(state).model_validate(told) == state


@pytest.mark.parametrize("number", [0, -1, "two", None])
def test_what_is_no_number_is_a_fault_like_any_other(number: object) -> None:
    """
    Only a higher number says that a newer release has written it.
    """
    told = mission().model_dump(mode="json")
    with pytest.raises(ValidationError, match="schema_number"):
        Mission.model_validate({**told, "schema_number": number})


def test_a_mission_is_the_same_under_each_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The digest stays: whoever starts the same again after an upgrade joins what is under
    way. Fields that a later release adds are not in it until they are used.
    """
    asked = Mission(
        id="trial",
        goal="try it",
        tasks=[
            task("a", "b"),
            Task(id="b", role="worker", input={"n": 1}, required=False),
        ],
        limits=Limits(tokens=10),
        tenant="acme",
    )
    before = "8074af2cf2822b3f1c7c9860d588034c1a0d8544f82a07e930e898ce8488ae6b"
    assert asked.digest() == before
    monkeypatch.setattr("outlast.contracts.versioned.SCHEMA_NUMBER", SCHEMA_NUMBER + 1)
    raised = asked.model_dump() | {"schema_number": SCHEMA_NUMBER + 1}
    assert Mission.model_validate(raised).digest() == before
