"""
The ledger: who may write, what is counted, and what is done once.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from unit_fakes import (
    MISSION,
    ROLE,
    TENANT,
    Clock,
    answer,
    assignment,
    contents,
    refused,
    told_in_one_sentence,
)

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import StaleAttemptError
from outlast.contracts.failures import Detector
from outlast.contracts.scopes import Scope
from outlast.ledger.claim import Claim
from outlast.ledger.effect_decision import (
    INTENDED,
    EffectAction,
    EffectDecision,
    Permission,
)
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effect_ledger import idempotency_key
from outlast.ledger.ledger import Ledger
from outlast.ledger.spending import NO_USAGE
from outlast.store.database import Store
from outlast.store.schema import attempts, effects

Write = Callable[[Ledger, Claim], Any]

SAVED = Checkpoint(seq=3, route=ROLE, value={"done": 3})
LARGE = Checkpoint(seq=3, route=ROLE, blob="digest")

WRITES: dict[str, tuple[str, Write]] = {
    "save": ("checkpoint", lambda ledger, claim: ledger.save(claim, SAVED, False)),
    "durable save": (
        "checkpoint",
        lambda ledger, claim: ledger.save(claim, SAVED, True),
    ),
    "large save": (
        "checkpoint",
        lambda ledger, claim: ledger.save(claim, LARGE, False, NO_USAGE, b"large"),
    ),
    "record": ("result", lambda ledger, claim: ledger.record(claim, answer(), "stale")),
    "intend": ("intent", lambda ledger, claim: ledger.intend(claim, Proposal("new"))),
    "intend again": (
        "intent",
        lambda ledger, claim: ledger.intend(claim, Proposal("old", "1")),
    ),
    "applied": (
        "effect",
        lambda ledger, claim: ledger.applied(claim, Proposal("old"), 1, "stale"),
    ),
    "spend": ("spending", lambda ledger, claim: ledger.record_usage(claim, 5, 5.0)),
    "failed": ("failure", lambda ledger, claim: ledger.record_failure(claim, "stale")),
}


def claim(ledger: Ledger, fence: int, route: str = ROLE, round_: int = 1) -> Claim:
    return ledger.claim(assignment(round_=round_), route, fence)


def lines(store: Store) -> list[dict[str, Any]]:
    with store.read() as connection:
        query = sa.select(attempts).order_by(attempts.c.fence)
        return [dict(row) for row in connection.execute(query).mappings()]


def effect(store: Store, key: str) -> dict[str, Any]:
    with store.read() as connection:
        query = sa.select(effects).where(effects.c.key == key)
        return dict(connection.execute(query).mappings().one())


def test_attempts_are_counted_within_a_round_over_all_routes(ledger: Ledger) -> None:
    """
    A claim counts on, whoever plays; a new round starts at 1 again.
    """
    played = [("first", 1), ("first", 1), ("fallback", 1), ("first", 2), ("first", 2)]
    numbers = [
        claim(ledger, fence, route, round_).attempt
        for fence, (route, round_) in enumerate(played, 1)
    ]
    assert numbers == [1, 2, 3, 1, 2]


def test_tasks_and_missions_are_claimed_apart(ledger: Ledger) -> None:
    """
    A claim says nothing about other tasks, nor about other missions' tasks.
    """
    ledger.claim(assignment("a"), ROLE, 9)
    assert ledger.claim(assignment("b"), ROLE, 1).attempt == 1
    assert ledger.claim(assignment("a", of="other"), ROLE, 1).attempt == 1


@pytest.mark.parametrize("fence", [6, 7], ids=["lower", "the same"])
@pytest.mark.parametrize("round_", [1, 2])
def test_a_stale_claim_is_refused(
    ledger: Ledger, store: Store, fence: int, round_: int
) -> None:
    """
    Only a higher fence takes the task, in whatever round; the refusal is counted.
    """
    holder = claim(ledger, 7)
    before = contents(store, "stale_writes")
    with pytest.raises(StaleAttemptError) as refusal:
        claim(ledger, fence, "other", round_)
    assert f"{MISSION}/only" in told_in_one_sentence(refusal.value)
    assert contents(store, "stale_writes") == before
    assert refused(store) == ["claim"]
    ledger.save(holder, SAVED, False)


@pytest.mark.parametrize("fence", [6, 7], ids=["lower", "the same"])
@pytest.mark.parametrize("done", [True, False], ids=["done", "open"])
def test_a_stale_attempt_does_not_begin(
    ledger: Ledger, store: Store, fence: int, done: bool
) -> None:
    """
    It is refused before it is given anything, the result included; that is counted,
    and nothing else is written.
    """
    holder = claim(ledger, 7)
    ledger.save(holder, SAVED, False)
    if done:
        ledger.record(holder, answer(), "result")
    before = contents(store, "stale_writes")
    with pytest.raises(StaleAttemptError) as refusal:
        ledger.begin(assignment(), "other", fence, [SAVED])
    assert f"{MISSION}/only" in told_in_one_sentence(refusal.value)
    assert contents(store, "stale_writes") == before
    assert refused(store) == ["claim"]
    ledger.save(holder, SAVED, False)


def test_an_attempt_begins_with_the_answer_that_stands(
    ledger: Ledger, store: Store
) -> None:
    """
    What is recorded is not done again: the line of whoever asks is closed at once.
    """
    ledger.record(claim(ledger, 1), answer("one"), 1)
    begun = ledger.begin(assignment(), ROLE, 2, [SAVED])
    assert begun.answer == answer("one")
    assert begun.checkpoint == Checkpoint()
    assert lines(store)[1]["end_reason"] == "already done"


def test_an_attempt_begins_in_one_go_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A store that fails half way leaves no claim behind that nobody holds.
    """
    ledger = Ledger(store)
    claim(ledger, 1)
    before = contents(store)

    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("outlast.ledger.checkpoints.last_checkpoint", break_down)
    with pytest.raises(ZeroDivisionError):
        ledger.begin(assignment(), ROLE, 2, [])
    assert contents(store) == before


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("used", [True, False], ids=["used", "fresh"])
def test_warming_up_leaves_no_row(
    ledger: Ledger, store: Store, times: int, used: bool
) -> None:
    """
    The books are as they were, in every table, and work goes on in them.
    """
    if used:
        holder = claim(ledger, 1)
        ledger.save(holder, SAVED, False)
        ledger.record(holder, answer(), "result")
    before = contents(store)
    for _ in range(times):
        ledger.warm_up()
    assert contents(store) == before
    assert ledger.begin(assignment(), ROLE, 2, []).claim.attempt == 1 + used


def test_warming_up_bears_with_a_mission_of_that_name(
    ledger: Ledger, store: Store
) -> None:
    """
    A user's mission may be called anything: its claim keeps no worker from starting.
    """
    warm = assignment("warm", of="warm")
    ledger.claim(warm, ROLE, 7)
    before = contents(store)
    ledger.warm_up()
    assert contents(store) == before


def test_a_claim_opens_a_line_in_the_books(store: Store) -> None:
    """
    It tells who plays where, what ended the one before, and how long that was ago.
    """
    clock = Clock()
    ledger = Ledger(store, clock=clock)
    claim(ledger, 1)
    clock.turn(2)
    told = {"previous_failure": "heartbeat timeout", "detected_by": Detector.HEARTBEAT}
    noticed = assignment().model_copy(update=told)
    ledger.claim(noticed, "fallback", 2)
    first, second = lines(store)
    assert first["recovery_s"] is None
    assert first["ended_at"] is None
    assert second["previous_failure"] == "heartbeat timeout"
    assert second["detected_by"] == "heartbeat"
    assert second["recovery_s"] == 2
    assert second["route"] == "fallback"
    assert second["attempt"] == 2


def test_the_last_sign_of_an_attempt_is_its_last_save(store: Store) -> None:
    """
    The recovery is measured from the last thing that was seen of the one before.
    """
    clock = Clock()
    ledger = Ledger(store, clock=clock)
    first = claim(ledger, 1)
    clock.turn(10)
    ledger.save(first, SAVED, False)
    clock.turn(3)
    claim(ledger, 2)
    assert lines(store)[1]["recovery_s"] == 3


@pytest.mark.parametrize("kind", WRITES)
def test_a_stale_write_is_refused(ledger: Ledger, store: Store, kind: str) -> None:
    """
    Nothing of it is written, it is counted by what it was, and the writer is told.
    """
    what, write = WRITES[kind]
    stale = claim(ledger, 1)
    ledger.intend(stale, Proposal("old"))
    claim(ledger, 2)
    before = contents(store, "stale_writes")
    with pytest.raises(StaleAttemptError) as refusal:
        write(ledger, stale)
    assert told_in_one_sentence(refusal.value).startswith(f"{MISSION}/only: {what} ")
    assert contents(store, "stale_writes") == before
    assert refused(store) == [what]


@pytest.mark.parametrize("kind", WRITES)
def test_the_holder_of_the_claim_may_write(
    ledger: Ledger, store: Store, kind: str
) -> None:
    """
    What a stale attempt may not, the latest one may.
    """
    claim(ledger, 1)
    holder = claim(ledger, 2)
    ledger.intend(holder, Proposal("old"))
    before = contents(store)
    WRITES[kind][1](ledger, holder)
    assert contents(store) != before
    assert refused(store) == []


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_without_any_claim_is_refused(
    ledger: Ledger, store: Store, kind: str
) -> None:
    """
    Where a mission was forgotten, its attempts have nothing left to write to.
    """
    nobody = Claim(MISSION, TENANT, "ghost", 1, 1, 1)
    with pytest.raises(StaleAttemptError):
        WRITES[kind][1](ledger, nobody)
    assert len(refused(store)) == 1


def test_without_fencing_a_stale_write_stands(store: Store) -> None:
    """
    The negative control: switched off, nothing keeps the stale attempt out.
    """
    ledger = Ledger(store, fencing=False)
    stale, fresh = claim(ledger, 1), claim(ledger, 2)
    ledger.record(fresh, answer("fresh"), "fresh")
    ledger.record(stale, answer("stale"), "stale")
    found = ledger.result(MISSION, "only")
    assert found is not None
    assert found[1] == "stale"
    assert refused(store) == []


def test_an_ending_is_noted_even_of_a_stale_attempt(
    ledger: Ledger, store: Store
) -> None:
    """
    Its own line in the books belongs to the attempt; the first ending stands.
    """
    stale = claim(ledger, 1)
    claim(ledger, 2)
    ledger.record_end(stale, "refused: stale")
    ledger.record_end(stale, "something else")
    first, second = lines(store)
    assert first["end_reason"] == "refused: stale"
    assert second["end_reason"] is None


def test_a_recorded_result_is_found_by_the_next_attempt(
    ledger: Ledger, store: Store
) -> None:
    """
    What one attempt recorded nobody does again, and its line is closed as done.
    """
    ledger.record(claim(ledger, 1), answer("one"), {"n": 1})
    later = claim(ledger, 2, "fallback")
    assert ledger.result(MISSION, later.task, later.round) == (answer("one"), {"n": 1})
    assert lines(store)[0]["end_reason"] == "done"


@pytest.mark.parametrize("result", [None, 0, "", [], {}, False])
def test_an_empty_result_is_a_result(ledger: Ledger, result: Any) -> None:
    """
    Nothing found is an answer as well.
    """
    ledger.record(claim(ledger, 1), answer(), result)
    assert ledger.result(MISSION, "only") == (answer(), result)


def test_a_result_belongs_to_its_round(ledger: Ledger) -> None:
    """
    A redo does the task again; who needs it gets the last round's result.
    """
    ledger.record(claim(ledger, 1), answer("one"), 1)
    redo = claim(ledger, 2, round_=2)
    assert ledger.result(MISSION, redo.task, redo.round) is None
    ledger.record(redo, answer("two"), 2)
    for round_, result in ((1, 1), (2, 2), (None, 2)):
        found = ledger.result(MISSION, "only", round_)
        assert found is not None
        assert found[1] == result


def test_a_checkpoint_is_resumed_in_its_own_round_only(ledger: Ledger) -> None:
    """
    An attempt goes on where its round was; a redo starts from the beginning.
    """
    first = claim(ledger, 1)
    assert ledger.resume(first, ROLE) is None
    ledger.save(first, SAVED, False)
    assert ledger.resume(claim(ledger, 2), ROLE) == SAVED
    assert ledger.resume(claim(ledger, 3, round_=2), ROLE) is None


def test_the_last_save_replaces_the_one_before(ledger: Ledger) -> None:
    """
    There is one checkpoint a task and route, with its body; it is numbered as it is
    written, over all routes of the round.
    """
    holder = claim(ledger, 1)
    large = LARGE.model_copy(update={"seq": 1, "blob": "one"})
    for number, digest in enumerate(["one", "two"], 1):
        named = large.model_copy(update={"blob": digest})
        saved, _ = ledger.save(holder, named, True, NO_USAGE, digest.encode())
        assert saved == named.model_copy(update={"seq": number})
        assert ledger.resume(holder, ROLE) == saved
    assert ledger.get_blob(MISSION, "only", "one") is None
    assert ledger.get_blob(MISSION, "only", "two") == b"two"
    other = Checkpoint(seq=1, route="fallback", value=[1])
    assert ledger.save(holder, other, False).checkpoint.seq == 3
    assert ledger.resume(holder, ROLE) == saved


def test_what_travelled_counts_on(ledger: Ledger) -> None:
    """
    An attempt that went on from a checkpoint that the store has lost saves the next
    number, not one that would lose against it.
    """
    holder = claim(ledger, 1)
    carried = SAVED.model_copy(update={"seq": 7})
    assert ledger.save(holder, carried, False).checkpoint.seq == 7


@pytest.mark.parametrize(
    ("seq", "blob", "expected"),
    [(3, None, 3), (4, None, 4), (4, "lost", 3), (2, None, 3)],
    ids=["a tie", "newer", "newer, but its body is lost", "older"],
)
def test_the_store_s_checkpoint_stands_unless_a_whole_newer_one_came(
    ledger: Ledger, seq: int, blob: str | None, expected: int
) -> None:
    """
    What travelled may be older than it seems, or name what was lost.
    """
    ledger.save(claim(ledger, 1), SAVED, False)
    carried = Checkpoint(seq=seq, route=ROLE, value={"carried": 1}, blob=blob)
    begun = ledger.begin(assignment(), ROLE, 2, [carried])
    assert begun.checkpoint == (SAVED if expected == 3 else carried)


def test_the_save_an_attempt_went_on_from_is_noted(
    ledger: Ledger, store: Store
) -> None:
    """
    The story tells where each attempt resumed.
    """
    claim(ledger, 1)
    ledger.begin(assignment(), ROLE, 2, [Checkpoint(seq=3, route=ROLE)])
    assert [line["resumed_seq"] for line in lines(store)] == [0, 3]


def test_large_progress_is_kept_and_fetched(ledger: Ledger) -> None:
    """
    It is found by its digest within its task.
    """
    holder = claim(ledger, 1)
    body = bytes(range(256)) * 400
    ledger.save(holder, LARGE, False, NO_USAGE, body)
    assert ledger.get_blob(MISSION, "only", "digest") == body
    assert ledger.get_blob("other", "only", "digest") is None
    assert ledger.get_blob(MISSION, "other", "digest") is None
    assert ledger.get_blob(MISSION, "only", "unknown") is None


def test_failures_are_counted_for_each_route_of_a_round(ledger: Ledger) -> None:
    """
    The fallback and a redo start with all their chances; a retry does not.
    """

    def fail(fence: int, route: str, round_: int = 1) -> int:
        return ledger.record_failure(claim(ledger, fence, route, round_), "raised")

    assert [fail(1, "a"), fail(2, "a"), fail(3, "a")] == [1, 2, 3]
    assert [fail(4, "b"), fail(5, "b")] == [1, 2]
    assert fail(6, "b", 2) == 1


def test_a_death_is_no_failure(ledger: Ledger, store: Store) -> None:
    """
    An attempt that was claimed and never ended counts as attempt only.
    """
    ledger.record_failure(claim(ledger, 1), "raised")
    claim(ledger, 2)
    third = claim(ledger, 3)
    assert third.attempt == 3
    assert ledger.record_failure(third, "raised again") == 2
    assert [line["end_reason"] for line in lines(store)] == [
        "raised",
        None,
        "raised again",
    ]


def test_spending_adds_up_over_a_mission(ledger: Ledger) -> None:
    """
    Tokens and cost of all attempts and tasks of one mission, and of no other; and
    those of the one task.
    """
    first = claim(ledger, 1)
    assert ledger.record_usage(first, 10, 0.5) == ((10, 0.5), (10, 0.5))
    assert ledger.record_usage(claim(ledger, 2), 5, 0.25) == ((15, 0.75), (15, 0.75))
    sister = ledger.claim(assignment("sister"), ROLE, 1)
    assert ledger.record_usage(sister, 1, 0.25) == ((16, 1.0), (1, 0.25))
    stranger = ledger.claim(assignment(of="other"), ROLE, 1)
    assert ledger.record_usage(stranger, 1, 0.0) == ((1, 0.0), (1, 0.0))


# Effects


def begun(ledger: Ledger, fence: int, key: str = "k", **more: Any) -> Claim:
    """
    Leave an effect of an attempt with that fence begun.
    """
    mine = claim(ledger, fence)
    decision = ledger.intend(mine, Proposal(key, **more))
    assert decision.action is EffectAction.ACT
    return mine


def test_the_first_intent_pins_the_payload(ledger: Ledger, store: Store) -> None:
    """
    A later attempt that words it anew sends what was kept.
    """
    begun(ledger, 1, payload='"Dear Ann"')
    reworded = Proposal("k", payload='"Hi Ann"', if_unsure="repeat")
    decision = ledger.intend(claim(ledger, 2), reworded)
    assert (decision.action, decision.payload) == (EffectAction.REPEAT, '"Dear Ann"')
    assert effect(store, "k")["fence"] == 2


@pytest.mark.parametrize("result", [None, "paid", {"id": 7}])
def test_an_applied_effect_is_returned(
    ledger: Ledger, store: Store, result: Any
) -> None:
    """
    Who comes later gets what it returned, and it is applied once.
    """
    ledger.applied(begun(ledger, 1), Proposal("k"), 1, result)
    later = ledger.intend(claim(ledger, 2), Proposal("k"))
    assert later.action is EffectAction.RETURN
    assert json.loads(later.row.result) == result
    assert effect(store, "k")["applied"] == 1


def elsewhere(ledger: Ledger, of: str, task: str = "only", **more: Any) -> Claim:
    asked = assignment(task, of=of).model_copy(update=more)
    return ledger.claim(asked, ROLE, 1)


def test_a_key_belongs_to_its_logical_mission(ledger: Ledger) -> None:
    """
    Not to another mission's or tenant's, but to all that one runs as: its tasks, and
    what is made under another id.
    """
    scope = Scope(path="root")
    first = elsewhere(ledger, "root~run~1", scope=scope)
    ledger.intend(first, Proposal("k"))
    ledger.applied(first, Proposal("k"), 1, "done")

    def found(of: Claim) -> EffectAction:
        return ledger.intend(of, Proposal("k")).action

    assert (
        found(elsewhere(ledger, "root~run~1", "b", scope=scope)) is EffectAction.RETURN
    )
    assert found(elsewhere(ledger, "root~run~2", scope=scope)) is EffectAction.RETURN
    assert found(elsewhere(ledger, "other")) is EffectAction.ACT
    assert (
        found(elsewhere(ledger, "root~run~1~child~x", scope=scope.within("x", 1)))
        is EffectAction.ACT
    )
    assert found(elsewhere(ledger, "root", tenant="z", scope=scope)) is EffectAction.ACT


def test_a_key_of_the_tenant_is_one_for_all_missions(ledger: Ledger) -> None:
    """
    And another one than the missions' own.
    """
    shared = Proposal("k", scope="tenant")
    first = elsewhere(ledger, "one")
    ledger.intend(first, shared)
    ledger.applied(first, shared, 1, "done")
    other = elsewhere(ledger, "two")
    assert ledger.intend(other, shared).action is EffectAction.RETURN
    assert ledger.intend(other, Proposal("k")).action is EffectAction.ACT
    changed = Proposal("k", "1", scope="tenant")
    assert ledger.intend(other, changed).action is EffectAction.CONFLICT


def test_idempotency_keys_differ_by_all_that_tells_effects_apart() -> None:
    """
    Also where names and keys look like the parts of others.
    """
    claims = [
        Claim("m", tenant, "t", 1, 1, 1, scope=Scope(path=path))
        for tenant in ("a", "b")
        for path in ("m", "m~task~t", "m~batch", "m:k")
    ]
    proposals = [
        Proposal(key, scope=scope)
        for key in ("k", "m:k", "k~key~k", "~2~k", "again~2~k", ":k")
        for scope in ("mission", "tenant")
    ]
    cases = [(c, p, n) for c in claims for p in proposals for n in (1, 2)]
    made = {idempotency_key(*case) for case in cases}
    tenants = 2 * 6 * 2  # a tenant's own are the same in each of its missions
    missions = len(claims) * 6 * 2
    assert len(made) == tenants + missions


def sister(ledger: Ledger, fence: int = 1) -> Claim:
    return ledger.claim(assignment("sister"), ROLE, fence)


def test_an_effect_under_way_is_waited_for_until_it_ends(ledger: Ledger) -> None:
    """
    By another task: while its attempt is the last one and has no end on record.
    """
    owner = begun(ledger, 1)
    mine, proposal = sister(ledger), Proposal("k", if_unsure="repeat")
    decision = ledger.intend(mine, proposal)
    assert decision.action is EffectAction.WAIT
    assert ledger.wait_state(mine, proposal, decision.row)
    ledger.record_end(owner, "cancelled")
    assert not ledger.wait_state(mine, proposal, decision.row)
    assert ledger.intend(mine, proposal).action is EffectAction.REPEAT


def test_a_dead_attempt_s_effect_is_not_waited_for(store: Store) -> None:
    """
    Neither one whose task has a later attempt, nor one that nobody ends.
    """
    clock = Clock()
    ledger = Ledger(store, clock=clock)
    begun(ledger, 1)
    mine = sister(ledger)
    assert ledger.intend(mine, Proposal("k")).action is EffectAction.WAIT
    clock.turn(1000)
    assert ledger.intend(mine, Proposal("k")).action is EffectAction.PARK
    owner = claim(ledger, 2)
    ledger.intend(owner, Proposal("l"))
    assert ledger.intend(mine, Proposal("l")).action is EffectAction.WAIT
    claim(ledger, 3)
    assert ledger.intend(mine, Proposal("l")).action is EffectAction.PARK


def test_an_effect_lasts_as_long_as_its_own_attempt_may(store: Store) -> None:
    """
    Not as long as the one that asks for it.
    """
    clock = Clock()
    ledger = Ledger(store, clock=clock)
    mine, proposal = sister(ledger), Proposal("k", if_unsure="repeat")
    owner = claim(ledger, 1)
    ledger.intend(owner, proposal, Permission(limit_s=2000))
    clock.turn(1000)
    hasty = Permission(limit_s=0.5)
    found = ledger.intend(mine, proposal, hasty)
    assert found.action is EffectAction.WAIT
    assert ledger.wait_state(mine, proposal, found.row)
    clock.turn(1100)
    assert not ledger.wait_state(mine, proposal, found.row)
    assert ledger.intend(mine, proposal, hasty).action is EffectAction.REPEAT


def test_who_lost_an_effect_cannot_record_it(ledger: Ledger, store: Store) -> None:
    """
    One that was repeated by another task is recorded by that one alone.
    """
    owner = begun(ledger, 1)
    ledger.record_end(owner, "cancelled")
    mine, proposal = sister(ledger), Proposal("k", if_unsure="repeat")
    ledger.intend(mine, proposal)
    ledger.applied(mine, proposal, 1, "done")
    with pytest.raises(StaleAttemptError):
        ledger.applied(owner, proposal, 1, "again")
    assert effect(store, "k")["applied"] == 1
    assert refused(store) == ["effect"]


def test_two_that_ask_at_the_same_moment_do_not_both_act(ledger: Ledger) -> None:
    """
    The database decides, whoever is first; also who repeats an unsure one.
    """
    owner = ledger.claim(assignment("owner"), ROLE, 1)
    with ThreadPoolExecutor(2) as threads:
        for number in range(20):
            proposal = Proposal(f"k{number}", if_unsure="repeat")
            askers = [claim(ledger, number + 1), sister(ledger, number + 1)]
            found = list(threads.map(ledger.intend, askers, [proposal] * 2))
            assert {each.action for each in found} == {
                EffectAction.ACT,
                EffectAction.WAIT,
            }
            unsure = Proposal(f"unsure{number}", if_unsure="repeat")
            ledger.intend(owner, unsure)
        ledger.record_end(owner, "cancelled")
        for number in range(20):
            unsure = Proposal(f"unsure{number}", if_unsure="repeat")
            found = list(threads.map(ledger.intend, askers, [unsure] * 2))
            assert {each.action for each in found} == {
                EffectAction.REPEAT,
                EffectAction.WAIT,
            }


def test_a_question_is_written_down_and_its_payload_pinned(
    ledger: Ledger, store: Store
) -> None:
    """
    What a person has approved is sent, however it is worded in the next attempt.
    """
    asks = Permission(needs_approval=True)
    asked = ledger.intend(claim(ledger, 1), Proposal("k", payload='"Dear"'), asks)
    assert asked.action is EffectAction.REQUEST_APPROVAL
    allowed = Permission(needs_approval=True, approved=frozenset([asked.mark]))
    mine = claim(ledger, 2)
    decision = ledger.intend(mine, Proposal("k", payload='"Hi"'), allowed)
    assert (decision.action, decision.payload) == (EffectAction.ACT, '"Dear"')
    kept = effect(store, "k")
    assert (kept["state"], kept["payload"]) == (INTENDED, '"Dear"')


def test_an_attempt_that_ends_may_ask_and_not_act(ledger: Ledger, store: Store) -> None:
    """
    Nothing is written of what it would have done.
    """
    decision: EffectDecision = ledger.intend(
        claim(ledger, 1), Proposal("k"), Permission(may_act=False)
    )
    assert decision.action is EffectAction.ACT
    assert contents(store)["effects"] == []


def test_a_changed_effect_of_a_later_round_is_done_or_skipped(
    ledger: Ledger, store: Store
) -> None:
    """
    As a person says: done, it has another idempotency key; skipped, the earlier one's
    result is its own, and both are known from then on.
    """
    ledger.applied(begun(ledger, 1), Proposal("k"), 1, "first")

    def asked(
        fence: int, identity: str, **allowed: Any
    ) -> tuple[Claim, EffectDecision]:
        mine = claim(ledger, fence, round_=2)
        found = ledger.intend(mine, Proposal("k", identity), Permission(**allowed))
        return mine, found

    _, first = asked(2, "1")
    assert (first.action, first.number) == (EffectAction.REQUEST_APPROVAL, 2)
    mine, done = asked(3, "1", approved=frozenset([first.mark]))
    assert (done.action, done.number) == (EffectAction.ACT, 2)
    ledger.applied(mine, Proposal("k", "1"), 2, "second")
    assert asked(4, "null")[1].row.result == '"first"'
    assert asked(5, "1")[1].row.result == '"second"'
    assert asked(6, "2")[1].action is EffectAction.CONFLICT
    ledger.intend(claim(ledger, 7, round_=3), Proposal("k", "2"))
    third = ledger.intend(claim(ledger, 8, round_=3), Proposal("k", "2"))
    skip = Permission(skipped=frozenset([third.mark]))
    skipped = ledger.intend(claim(ledger, 9, round_=3), Proposal("k", "2"), skip)
    assert (skipped.action, skipped.row.result) == (EffectAction.SKIP, '"second"')
    again = ledger.intend(claim(ledger, 10, round_=3), Proposal("k", "2"))
    assert (again.action, again.row.result) == (EffectAction.RETURN, '"second"')
