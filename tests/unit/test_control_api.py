"""
A person's word at the desk: good for one question, and never lost.
"""

import asyncio
from collections.abc import Callable

import pytest
from unit_fakes import task

from outlast.contracts.updates import DecisionInput
from outlast.workflows import approvals
from outlast.workflows.approvals import Approvals


def answer(
    monkeypatch: pytest.MonkeyPatch,
    desk: Approvals,
    word: bool,
    end: type[BaseException],
) -> None:
    """
    Let a *word* come in the moment in which the wait ends with *end*.
    """

    async def wait_condition(until: Callable[[], bool], **more: object) -> None:
        if until():
            return
        if word:
            desk.decide(DecisionInput(task="t", reason="fine"), approved=True)
        raise end

    monkeypatch.setattr(approvals.workflow, "wait_condition", wait_condition)


@pytest.fixture
def desk() -> Approvals:
    return Approvals(lambda: None)


async def test_a_word_of_the_last_moment_counts(
    monkeypatch: pytest.MonkeyPatch, desk: Approvals
) -> None:
    """
    What was accepted from a person goes before what is taken for their silence.
    """
    answer(monkeypatch, desk, True, TimeoutError)
    said = await desk.request(task("t"), "start", "")
    assert (said.approved, said.reason) == (True, "approved: fine")


async def test_a_word_is_good_for_one_question(
    monkeypatch: pytest.MonkeyPatch, desk: Approvals
) -> None:
    """
    A task that is begun again asks anew, also where its end came with the answer.
    """
    answer(monkeypatch, desk, True, asyncio.CancelledError)
    with pytest.raises(asyncio.CancelledError):
        await desk.request(task("t"), "effect", "the old content")
    answer(monkeypatch, desk, False, TimeoutError)
    said = await desk.request(task("t"), "effect", "the new content")
    assert not said.approved
