"""
Effects as a person sees and settles them.
"""

from typing import Any

import pytest
from lease_fakes import BATCH, Shelf
from unit_fakes import (
    ROLE,
    TENANT,
    Clock,
    assignment,
    mission,
    report,
    told_in_one_sentence,
)

from outlast.cli.effects import lines, read_result
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.batches import PoisonItem, pool_task
from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import ItemId
from outlast.contracts.reports import MissionStatus
from outlast.ledger.audit import audit_ledger
from outlast.ledger.claim import Claim
from outlast.ledger.effect_decision import RETRACTED, EffectAction, Permission
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effect_ledger import EFFECT_END_GRACE_S, idempotency_key
from outlast.ledger.effect_records import EffectRecords
from outlast.ledger.ledger import Ledger
from outlast.ledger.missions import MissionRecords
from outlast.store.database import Store

WHO = "ann@desk"
K = Proposal("k", '{"cents":1}')


@pytest.fixture
def effects(store: Store) -> EffectRecords:
    return EffectRecords(store, Clock())


def claim(ledger: Ledger, fence: int, of: str = "m", round_: int = 1) -> Claim:
    return ledger.claim(assignment(of=of, round_=round_), ROLE, fence)


def unsure(ledger: Ledger, of: str = "m") -> Claim:
    """
    Leave an effect begun by an attempt that has ended.
    """
    owner = claim(ledger, 1, of)
    ledger.intend(owner, K)
    ledger.record_end(owner, "BrokenError")
    return owner


def settle(effects: EffectRecords, of: str | None = None, **more: Any) -> None:
    given = {"happened": True, "result": {"receipt": 7}, "who": WHO}
    effects.record_decision("k", of, **{**given, **more})


def test_what_has_happened_is_returned_from_then_on(
    effects: EffectRecords, ledger: Ledger, store: Store
) -> None:
    """
    It is on record who said so and when, and the audit is clean.
    """
    unsure(ledger)
    assert effects.records()[0].is_unknown
    settle(effects)
    (entry,) = effects.records("m")
    assert (entry.state, entry.settled_by, entry.settled_at) == ("applied", WHO, 1000)
    assert entry.result == {"receipt": 7}
    found = ledger.intend(claim(ledger, 2, round_=2), K)
    assert (found.action, found.row.result) == (EffectAction.RETURN, '{"receipt": 7}')
    audit = audit_ledger(store)
    assert (audit.violations, audit.effects[0]["applied"]) == ([], 1)


def test_what_did_not_happen_may_be_done_again(
    effects: EffectRecords, ledger: Ledger
) -> None:
    """
    Under the same idempotency key, by the redriven task.
    """
    owner = unsure(ledger)
    settle(effects, happened=False, result=None)
    assert effects.records()[0].state == RETRACTED
    again = claim(ledger, 2, round_=2)
    found = ledger.intend(again, K)
    assert found.action is EffectAction.ACT
    assert idempotency_key(again, K, found.number) == idempotency_key(owner, K, 1)
    assert effects.records()[0].settled_by == WHO


def test_only_what_is_unsure_is_settled(effects: EffectRecords, ledger: Ledger) -> None:
    """
    The sentence says what it is instead.
    """

    def refusal() -> str:
        with pytest.raises(BadInputError) as told:
            settle(effects)
        return told_in_one_sentence(told.value)

    assert "no effect 'k'" in refusal()
    owner = claim(ledger, 1)
    ledger.intend(owner, K)
    assert "is under way in m/only, attempt 1" in refusal()
    ledger.applied(owner, K, 1, "done")
    assert "is applied, not unsure" in refusal()


def test_an_effect_of_several_missions_is_named_with_its_mission(
    effects: EffectRecords, ledger: Ledger
) -> None:
    """
    What another mission did under such a key stays as it is.
    """
    unsure(ledger, "m")
    unsure(ledger, "n")
    with pytest.raises(BadInputError, match=r"--mission \(m, n\)"):
        settle(effects)
    settle(effects, "n")
    assert [each.is_unknown for each in effects.records()] == [True, False]
    assert effects.records("n")[0].settled_by == WHO


def test_an_attempt_of_a_mission_that_has_ended_is_at_work_no_more(
    effects: EffectRecords, ledger: Ledger, store: Store
) -> None:
    """
    Also where its process has died and nobody wrote down its end.
    """
    books = MissionRecords(store)
    books.open(mission(id="m"))
    books.accept("m")
    ledger.intend(claim(ledger, 1), K)
    assert effects.records()[0].live
    books.close(report("m", MissionStatus.FAILED))
    assert effects.records()[0].is_unknown


def test_an_effect_is_told_with_what_can_be_typed(
    effects: EffectRecords, ledger: Ledger
) -> None:
    """
    Key, content, who did it; for an unsure one the commands.
    """
    unsure(ledger)
    told = "\n".join(lines(effects.records()[0]))
    for part in ("unsure", "k", '{"cents":1}', "m/only round 1 attempt 1", "scope m"):
        assert part in told
    assert "outlast settle k --mission m --happened RESULT" in told
    settle(effects)
    told = "\n".join(lines(effects.records()[0]))
    assert f"settled by {WHO}" in told
    assert "--happened" not in told


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("done", "done"),
        ('{"id": 7}', {"id": 7}),
        ("null", None),
        ("NaN", "NaN"),
        ("[" * 100_00, "[" * 100_00),
    ],
)
def test_a_result_is_json_or_a_text(text: str, value: Any) -> None:
    """
    As whoever types it means it.
    """
    assert read_result(text) == value


@pytest.mark.parametrize("text", ['"\\ud800"', "\udcff", "x" * 100_000])
def test_a_result_that_cannot_be_kept_is_refused(text: str) -> None:
    """
    Before anything is written.
    """
    with pytest.raises(BadInputError):
        read_result(text)


def of_item(number: int) -> AttemptInput:
    item = pool_task(str(ItemId(number)), ROLE)
    return AttemptInput(mission=BATCH, tenant=TENANT, task=item)


def test_an_item_that_was_given_up_is_at_work_no_more(
    effects: EffectRecords, store: Store
) -> None:
    """
    Its process died with it and wrote down no end, in an open batch.
    """
    shelf = Shelf(store)
    shelf.add({"n": 1}, {"n": 2})
    for number in (1, 2):
        asked = of_item(number)
        pay = Proposal(f"pay:{number}", "null")
        shelf.ledger.intend(shelf.ledger.claim(asked, ROLE, 1), pay)
    assert [each.live for each in effects.records()] == [True, True]
    shelf.items.dead_letter(PoisonItem(batch=BATCH, item=1, deaths=3, cause="died"))
    assert [each.live for each in effects.records()] == [False, True]


def test_an_item_of_a_batch_that_has_ended_is_at_work_no_more(
    effects: EffectRecords, store: Store
) -> None:
    """
    As an attempt of a mission.
    """
    shelf = Shelf(store)
    shelf.add({"n": 1})
    asked = of_item(1)
    shelf.ledger.intend(shelf.ledger.claim(asked, ROLE, 1), K)
    assert effects.records()[0].live
    shelf.batches.close(BATCH, cancelled=True)
    assert effects.records()[0].is_unknown


def test_what_ended_with_a_mission_is_not_at_work_when_it_goes_on(
    effects: EffectRecords, ledger: Ledger, store: Store
) -> None:
    """
    Redriven, it is open again, and the dead attempt's task may wait for another one.
    """
    books = MissionRecords(store)
    books.open(mission(id="m"))
    books.accept("m")
    ledger.intend(claim(ledger, 1), K)
    books.close(report("m", MissionStatus.FAILED))
    books.reopen("m")
    assert effects.records()[0].is_unknown


def test_a_task_that_was_given_up_is_at_work_no_more_than_its_limit(
    store: Store,
) -> None:
    """
    Its process died in an open mission, and nobody writes down its end.
    """
    clock = Clock()
    ledger, effects = Ledger(store, clock=clock), EffectRecords(store, clock)
    ledger.intend(claim(ledger, 1), K, Permission(limit_s=100))
    with pytest.raises(BadInputError, match="at the latest at"):
        settle(effects)
    clock.turn(100 + EFFECT_END_GRACE_S + 1)
    settle(effects)
    assert effects.records()[0].state == "applied"
