"""
What becomes of an effect, as a table; and what cannot be one.
"""

from dataclasses import replace
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import GiveUp
from outlast.ledger.effect_decision import (
    APPLIED,
    INTENDED,
    REQUESTED,
    RETRACTED,
    SKIPPED,
    EffectAction,
    EffectOwner,
    EffectRow,
    Permission,
    decide_effect,
)
from outlast.ledger.effect_identity import (
    EFFECT_KEY_BYTES,
    Proposal,
    effect_mark,
    propose,
)

THIS, OTHER = '{"cents":1}', '{"cents":2}'
ASKER = EffectOwner("m", "mine", "m", "2", "m")
NEEDS = replace(ASKER, permission=Permission(needs_approval=True))
ITEM = replace(ASKER, permission=Permission(can_ask=False))
REPEAT = Proposal("k", THIS, if_unsure="repeat")
PARK = Proposal("k", THIS)
THIS_MARK = effect_mark("m", "k", THIS, None)
APPROVED = replace(
    ASKER,
    permission=Permission(needs_approval=True, approved=frozenset([THIS_MARK])),
)
SKIPS = replace(ASKER, permission=Permission(skipped=frozenset([THIS_MARK])))


def row(state: str, identity: str = THIS, **more: Any) -> EffectRow:
    """
    An effect that another task of the same mission and round has left.
    """
    left = {
        "number": 1,
        "state": state,
        "identity": identity,
        "payload": None,
        "result": None,
        "mission": "m",
        "task": "other",
        "fence": 1,
        "attempt": 1,
        "logical": "m",
        "turn": "2",
        "intended_at": 0.0,
        "deadline": 900.0,
    }
    return EffectRow(**{**left, **more})


EARLIER = {"turn": "1"}
MINE = {"task": "mine"}
LIVE, DEAD = True, False

TABLE: list[tuple[str, list[EffectRow], Proposal, EffectOwner, bool, EffectAction]] = [
    ("new", [], PARK, ASKER, DEAD, EffectAction.ACT),
    ("new, by an item", [], PARK, ITEM, DEAD, EffectAction.ACT),
    ("new, unasked", [], PARK, NEEDS, DEAD, EffectAction.REQUEST_APPROVAL),
    ("new, approved", [], PARK, APPROVED, DEAD, EffectAction.ACT),
    ("done", [row(APPLIED)], PARK, ASKER, DEAD, EffectAction.RETURN),
    ("done, unasked", [row(APPLIED)], PARK, NEEDS, DEAD, EffectAction.RETURN),
    ("done earlier", [row(APPLIED, **EARLIER)], PARK, ASKER, DEAD, EffectAction.RETURN),
    ("done, whoever lives", [row(APPLIED)], PARK, ASKER, LIVE, EffectAction.RETURN),
    ("skipped", [row(SKIPPED)], PARK, ASKER, DEAD, EffectAction.RETURN),
    ("under way", [row(INTENDED)], PARK, ASKER, LIVE, EffectAction.WAIT),
    ("under way", [row(INTENDED)], REPEAT, ASKER, LIVE, EffectAction.WAIT),
    ("unsure", [row(INTENDED)], PARK, ASKER, DEAD, EffectAction.PARK),
    ("unsure", [row(INTENDED)], REPEAT, ASKER, DEAD, EffectAction.REPEAT),
    ("unsure", [row(INTENDED, **EARLIER)], REPEAT, NEEDS, DEAD, EffectAction.REPEAT),
    ("retracted", [row(RETRACTED)], PARK, ASKER, DEAD, EffectAction.ACT),
    ("retracted", [row(RETRACTED)], PARK, NEEDS, DEAD, EffectAction.REQUEST_APPROVAL),
    ("asked", [row(REQUESTED)], PARK, NEEDS, DEAD, EffectAction.REQUEST_APPROVAL),
    ("asked, approved", [row(REQUESTED)], PARK, APPROVED, DEAD, EffectAction.ACT),
    ("asked by one", [row(REQUESTED)], PARK, ASKER, DEAD, EffectAction.ACT),
    ("another", [row(APPLIED, OTHER)], PARK, ASKER, DEAD, EffectAction.CONFLICT),
    ("another", [row(APPLIED, OTHER)], PARK, APPROVED, DEAD, EffectAction.CONFLICT),
    (
        "another, mine",
        [row(APPLIED, OTHER, **MINE)],
        PARK,
        ASKER,
        DEAD,
        EffectAction.CONFLICT,
    ),
    ("another begun", [row(INTENDED, OTHER)], PARK, ASKER, DEAD, EffectAction.CONFLICT),
    ("another now", [row(INTENDED, OTHER)], PARK, ASKER, LIVE, EffectAction.CONFLICT),
    (
        "another asked",
        [row(REQUESTED, OTHER)],
        PARK,
        ASKER,
        DEAD,
        EffectAction.CONFLICT,
    ),
    (
        "I asked another",
        [row(REQUESTED, OTHER, **MINE)],
        PARK,
        NEEDS,
        DEAD,
        EffectAction.REQUEST_APPROVAL,
    ),
    (
        "asked earlier",
        [row(REQUESTED, OTHER, **EARLIER)],
        PARK,
        ASKER,
        DEAD,
        EffectAction.ACT,
    ),
    ("none in truth", [row(RETRACTED, OTHER)], PARK, ASKER, DEAD, EffectAction.ACT),
    (
        "another",
        [row(APPLIED, OTHER, **EARLIER)],
        PARK,
        ASKER,
        DEAD,
        EffectAction.REQUEST_APPROVAL,
    ),
    (
        "another",
        [row(APPLIED, OTHER, **EARLIER)],
        PARK,
        ITEM,
        DEAD,
        EffectAction.CONFLICT,
    ),
    (
        "another",
        [row(APPLIED, OTHER, **EARLIER)],
        PARK,
        APPROVED,
        DEAD,
        EffectAction.ACT,
    ),
    ("another", [row(APPLIED, OTHER, **EARLIER)], PARK, SKIPS, DEAD, EffectAction.SKIP),
    (
        "another",
        [row(INTENDED, OTHER, **EARLIER)],
        PARK,
        ASKER,
        LIVE,
        EffectAction.WAIT,
    ),
    ("unsure", [row(INTENDED, OTHER, **EARLIER)], PARK, ASKER, DEAD, EffectAction.PARK),
    ("unsure", [row(INTENDED, OTHER, **EARLIER)], PARK, SKIPS, DEAD, EffectAction.PARK),
    (
        "unsure",
        [row(INTENDED, OTHER, **EARLIER)],
        REPEAT,
        APPROVED,
        DEAD,
        EffectAction.PARK,
    ),
    (
        "unsure",
        [row(INTENDED, OTHER, **EARLIER)],
        PARK,
        ITEM,
        DEAD,
        EffectAction.CONFLICT,
    ),
    (
        "another mission's, of the tenant",
        [row(APPLIED, OTHER, logical="n", **EARLIER)],
        PARK,
        ASKER,
        DEAD,
        EffectAction.CONFLICT,
    ),
    (
        "one of two",
        [row(APPLIED, OTHER, **EARLIER), row(APPLIED, number=2)],
        PARK,
        ASKER,
        DEAD,
        EffectAction.RETURN,
    ),
]


@pytest.mark.parametrize(("name", "rows", "proposal", "asker", "live", "action"), TABLE)
def test_what_becomes_of_an_effect(
    name: str,
    rows: list[EffectRow],
    proposal: Proposal,
    asker: EffectOwner,
    live: bool,
    action: EffectAction,
) -> None:
    """
    Every state that is found leads to the one action.
    """
    assert decide_effect(rows, proposal, asker, lambda _: live).action is action


def test_the_payload_of_the_round_is_the_first_one() -> None:
    """
    Of another round only where it may have been sent already.
    """
    new = replace(PARK, payload='"new"')

    def sent(state: str, turn: str) -> str | None:
        left = row(state, payload='"old"', turn=turn)
        return decide_effect([left], new, ASKER, lambda _: False).payload

    assert [sent(REQUESTED, "2"), sent(REQUESTED, "1")] == ['"old"', '"new"']
    assert [sent(INTENDED, "2"), sent(INTENDED, "1")] == ['"old"', '"old"']
    assert [sent(RETRACTED, "2"), sent(RETRACTED, "1")] == ['"old"', '"new"']


def test_numbers_are_new_where_something_may_have_been_sent() -> None:
    """
    The far side must not take another effect for one that it knows.
    """

    def number(*rows: EffectRow) -> tuple[int, bool]:
        found = decide_effect(rows, PARK, NEEDS, lambda _: False)
        return found.number, found.fresh

    assert number() == (1, True)
    assert number(row(REQUESTED, OTHER, **MINE)) == (1, False)
    assert number(row(RETRACTED)) == (1, False)
    assert number(row(RETRACTED, OTHER)) == (2, True)
    assert number(row(APPLIED, OTHER, **EARLIER)) == (2, True)


def test_a_question_says_what_changed() -> None:
    """
    Against what was done, or what was asked in its place before.
    """
    for left in (row(APPLIED, OTHER, **EARLIER), row(REQUESTED, OTHER, **MINE)):
        assert decide_effect([left], PARK, NEEDS, lambda _: False).row == left
    assert decide_effect([row(REQUESTED)], PARK, NEEDS, lambda _: False).row is None


def test_an_identity_is_what_is_meant() -> None:
    """
    Not the order in which it is written.
    """
    one = propose("k", {"a": 1, "b": [2.5, "é"]}, None, "park", "mission")
    assert one == propose("k", {"b": [2.5, "é"], "a": 1}, None, "park", "mission")
    assert one != propose("k", {"a": 1, "b": [2.5, "e"]}, None, "park", "mission")


DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]
CYCLE: list[Any] = []
CYCLE.append(CYCLE)

REFUSED = {
    "no key": {"key": ""},
    "a number as key": {"key": 7},
    "a NUL in the key": {"key": "a\0b"},
    "half a character in the key": {"key": "a\ud800"},
    "a key of 1 MB": {"key": "k" * 2**20},
    "a NUL": {"content": {"to": "a\0b"}},
    "a NUL behind backslashes": {"content": {"to": "\\\\\0"}},
    "a NUL in a name": {"content": {"a\0b": 1}},
    "half a character": {"content": ["\udfff"]},
    "not a number": {"content": float("nan")},
    "infinity": {"payload": float("inf")},
    "no JSON": {"content": object()},
    "bytes": {"payload": b"x"},
    "names that have no order": {"content": {1: 1, "a": 2}},
    "a cycle": {"content": CYCLE},
    "a deep one": {"content": DEEP},
    "a huge content": {"content": "x" * 2**20},
    "a huge payload": {"payload": "x" * 2**20},
    "an unknown choice": {"if_unsure": "retry"},
    "an unknown scope": {"scope": "world"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_for_good(name: str) -> None:
    """
    In one sentence, before anything is written: the same would come every time.
    """
    asked = {"key": "k", "content": 1, "payload": None}
    asked |= {"if_unsure": "park", "scope": "mission"}
    with pytest.raises(GiveUp) as refusal:
        propose(**{**asked, **REFUSED[name]})
    told_in_one_sentence(refusal.value)


def test_what_only_looks_like_it_is_kept() -> None:
    """
    A backslash is one, and a key may be as long as the cap says.
    """
    text = propose(
        "k" * EFFECT_KEY_BYTES, "\\u0000 é", None, "park", "mission"
    ).identity
    assert text == '"\\\\u0000 é"'
