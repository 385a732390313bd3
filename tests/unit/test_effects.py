"""
What an agent does to the world, through `ctx.once`.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from unit_fakes import MISSION, TENANT, Stage, contents, told_in_one_sentence

from outlast import Context, GiveUp
from outlast.contracts.approvals import EFFECT_KEY_CHARS, Approval, WantedEffect
from outlast.contracts.errors import (
    MAX_WANTED_EFFECTS,
    ApprovalNeededError,
    EffectConflictError,
    ParkedError,
    ResultError,
)
from outlast.contracts.retries import Policy
from outlast.ledger.audit import audit_ledger
from outlast.ledger.effect_records import EffectRecords
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from outlast.store.schema import effects

BEFORE = Approval(before="effect")
Play = Callable[[dict[str, Any], Context], Any]


class BrokenError(Exception):
    pass


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(4) as threads:
        yield Stage(ledger, threads)


def applied(store: Store) -> dict[str, int]:
    with store.read() as connection:
        count = sa.func.sum(effects.c.applied).label("times")
        query = sa.select(effects.c.key, count).group_by(effects.c.key)
        return {row.key: row.times for row in connection.execute(query)}


async def test_a_payload_is_sent_as_it_was_first_worded(stage: Stage) -> None:
    """
    The identity is what counts, and a later attempt's words are not sent.
    """
    sent: list[tuple[str, Any]] = []

    async def mail(given: dict[str, Any], ctx: Context) -> Any:
        def act(key: str, body: str) -> str:
            sent.append((key, body))
            if ctx.attempt == 1:
                raise BrokenError
            return body

        return await ctx.once(
            "mail",
            act,
            content={"to": "ann"},
            payload=f"Dear Ann, {ctx.attempt}",
            if_unsure="repeat",
        )

    with pytest.raises(BrokenError):
        await stage.play(mail)
    await stage.play(mail)
    assert sent == [(f"{TENANT}~effect~{MISSION}~key~mail", "Dear Ann, 1")] * 2
    assert stage.result() == "Dear Ann, 1"


async def test_what_is_sent_is_the_content_where_no_payload_is_given(
    stage: Stage,
) -> None:
    """
    And nothing where there is neither; what is given is JSON.
    """
    sent: list[tuple[Any, ...]] = []

    async def play(given: dict[str, Any], ctx: Context) -> None:
        def act(key: str, *rest: Any) -> None:
            sent.append(rest)

        await ctx.once("a", act, content=None)
        await ctx.once("b", act, content={"to": ("ann", 1)})
        await ctx.once("c", act, content=None, payload=[1])

    await stage.play(play)
    assert sent == [(), ({"to": ["ann", 1]},), ([1],)]


async def test_content_must_be_said(stage: Stage) -> None:
    """
    None, where the key tells all.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.once("a", lambda key: None)  # type: ignore[call-arg]

    with pytest.raises(TypeError, match="content"):
        await stage.play(play)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("if_unsure", ["repeat", "park"])
async def test_one_key_at_the_same_moment_acts_once(
    stage: Stage, store: Store, if_unsure: Any, plain: bool
) -> None:
    """
    As a model asks for one tool twice in a turn: the others get the first one's result.
    """
    acted: list[str] = []

    async def act(key: str, _: Any) -> int:
        acted.append(key)
        await asyncio.sleep(0.02)
        return len(acted)

    def act_plainly(key: str, _: Any) -> int:
        acted.append(key)
        return len(acted)

    async def play(given: dict[str, Any], ctx: Context) -> list[int]:
        does = act_plainly if plain else act
        calls = [ctx.once("k", does, content=1, if_unsure=if_unsure) for _ in range(5)]
        return list(await asyncio.gather(*calls))

    await stage.play(play)
    assert stage.result() == [1] * 5
    assert applied(store) == {"k": 1}
    assert audit_ledger(store).violations == []


@pytest.mark.parametrize("if_unsure", ["repeat", "park"])
async def test_two_tasks_that_want_one_effect_act_once(
    stage: Stage, store: Store, if_unsure: Any
) -> None:
    """
    The second waits for the first one's end and returns its result.
    """
    acting, waited = asyncio.Event(), asyncio.Event()
    acted: list[str] = []

    async def act(key: str, content: Any) -> str:
        acted.append(key)
        acting.set()
        await waited.wait()
        return f"receipt {len(acted)}"

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        return await ctx.once("pay", act, content={"c": 1}, if_unsure=if_unsure)

    first = asyncio.ensure_future(stage.play(play, name="a"))
    await acting.wait()
    second = asyncio.ensure_future(stage.play(play, name="b"))
    done, _ = await asyncio.wait({second}, timeout=0.2)
    assert not done, "it did not wait"
    waited.set()
    await asyncio.gather(first, second)
    assert [stage.result("a"), stage.result("b")] == ["receipt 1"] * 2
    assert applied(store) == {"pay": 1}


@pytest.mark.parametrize(("if_unsure", "acts"), [("repeat", 2), ("park", 1)])
async def test_who_waited_for_what_failed_does_not_act_blindly(
    stage: Stage, if_unsure: Any, acts: int
) -> None:
    """
    It repeats where the far side knows the key; else it is told what the first one was.
    """
    acted: list[str] = []

    async def act(key: str, content: Any) -> str:
        acted.append(key)
        await asyncio.sleep(0)
        if len(acted) == 1:
            raise BrokenError
        return "paid"

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        calls = [ctx.once("k", act, content=1, if_unsure=if_unsure) for _ in range(2)]
        told = await asyncio.gather(*calls, return_exceptions=True)
        return [str(each) or type(each).__name__ for each in told]

    await stage.play(play)
    second = "paid" if if_unsure == "repeat" else "BrokenError"
    assert stage.result() == ["BrokenError", second]
    assert len(set(acted)) == 1
    assert len(acted) == acts


async def test_another_effect_under_one_key_is_a_conflict(
    stage: Stage, store: Store
) -> None:
    """
    It names both and who did which, does nothing, and the books show it.
    """
    paid: list[Any] = []

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        to = {"to": given["to"]}
        return await ctx.once("refund", lambda _, c: paid.append(c), content=to)

    await stage.play(play, {"to": "alice"}, name="a")
    with pytest.raises(EffectConflictError) as refusal:
        await stage.play(play, {"to": "bob"}, name="b")
    told = told_in_one_sentence(refusal.value)
    for part in ("'refund'", f"{MISSION}/a", f"{MISSION}/b", "alice", "bob"):
        assert part in told
    assert isinstance(refusal.value, GiveUp)
    assert paid == [{"to": "alice"}]
    assert audit_ledger(store).effects[0]["conflicts"] == 1


async def test_another_attempt_cannot_change_an_effect(stage: Stage) -> None:
    """
    Neither silently nor by repeating: what it was is known.
    """

    async def pay(given: dict[str, Any], ctx: Context) -> Any:
        def act(key: str, content: Any) -> Any:
            raise BrokenError

        return await ctx.once("k", act, content=ctx.attempt, if_unsure="repeat")

    with pytest.raises(BrokenError):
        await stage.play(pay)
    with pytest.raises(EffectConflictError, match="was begun"):
        await stage.play(pay)


async def test_a_redo_that_would_change_an_effect_asks_a_person(
    stage: Stage, store: Store
) -> None:
    """
    The same content is returned; another one is shown with what it was.
    """

    async def pay(given: dict[str, Any], ctx: Context) -> Any:
        content = given["content"]
        return await ctx.once("k", lambda key, content: content, content=content)

    await stage.play(pay, {"content": 1})
    await stage.play(pay, {"content": 1}, round_=2)
    with pytest.raises(ApprovalNeededError) as asked:
        await stage.play(pay, {"content": 2}, round_=3)
    (wanted,) = asked.value.wanted
    assert (wanted.content, wanted.before, wanted.recorded) == ("2", "1", True)
    await stage.play(pay, {"content": 2}, round_=3, skipped=[wanted.digest])
    assert stage.result() == 1


async def ask(stage: Stage, play: Play, **more: Any) -> list[WantedEffect]:
    with pytest.raises(ApprovalNeededError) as asked:
        await stage.play(play, approval=BEFORE, **more)
    return asked.value.wanted


async def test_an_approval_holds_for_one_effect(stage: Stage) -> None:
    """
    A rewording does not ask again, another content does, once, and says what it was.
    """
    sent: list[Any] = []

    async def mail(given: dict[str, Any], ctx: Context) -> None:
        words = f"attempt {ctx.attempt}"
        cents = given["cents"]
        await ctx.once("k", lambda _, b: sent.append(b), content=cents, payload=words)

    (ten,) = await ask(stage, mail, given={"cents": 10})
    assert ten.content == "10"
    (million,) = await ask(stage, mail, given={"cents": 10**6}, approved=[ten.digest])
    assert (million.content, million.before) == ("1000000", "10")
    assert sent == []
    allowed = [ten.digest, million.digest]
    await stage.play(mail, {"cents": 10**6}, approval=BEFORE, approved=allowed)
    assert sent == ["attempt 2"]


async def test_all_that_is_wanted_at_once_is_asked_at_once(stage: Stage) -> None:
    """
    Also by calls that begin when another one has asked, or in an except clause.
    """
    acted: list[str] = []

    async def play(given: dict[str, Any], ctx: Context) -> None:
        async def pay(number: int) -> None:
            await asyncio.sleep(0)
            await ctx.once(f"pay:{number}", acted.append, content=None)

        try:
            await asyncio.gather(*map(pay, range(3)))
        except Exception:
            await pay(3)

    wanted = await ask(stage, play)
    assert {each.key for each in wanted} == {f"pay:{n}" for n in range(4)}
    assert acted == []
    allowed = [each.digest for each in wanted if each.key in ("pay:0", "pay:1")]
    more = await ask(stage, play, approved=allowed)
    assert {each.key for each in more} == {"pay:2", "pay:3"}


async def test_an_act_under_way_is_recorded_when_another_call_asks(
    stage: Stage, store: Store
) -> None:
    """
    Ended in the middle it would be unsure.
    """
    asked = asyncio.Event()

    async def slow(key: str) -> str:
        await asked.wait()
        await asyncio.sleep(0.05)
        return "done"

    async def play(given: dict[str, Any], ctx: Context) -> None:
        async def change() -> None:
            await asyncio.sleep(0.05)
            asked.set()
            await ctx.once("b", lambda key, _: None, content=2)

        await asyncio.gather(ctx.once("a", slow, content=None), change())

    async def before(given: dict[str, Any], ctx: Context) -> None:
        await ctx.once("b", lambda key, _: None, content=1)

    await stage.play(before)
    with pytest.raises(ApprovalNeededError):
        await stage.play(play, round_=2)
    assert applied(store) == {"a": 1, "b": 1}


async def test_what_a_person_is_asked_is_bounded(stage: Stage, store: Store) -> None:
    """
    In number and in length; what is beyond is asked the next time.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        calls = [
            ctx.once(f"{n:03d}" + "k" * 400, lambda *_: None, content="x" * 9000)
            for n in range(MAX_WANTED_EFFECTS + 5)
        ]
        await asyncio.gather(*calls)

    wanted = await ask(stage, play)
    assert len(wanted) == MAX_WANTED_EFFECTS
    assert max(len(each.key) for each in wanted) == EFFECT_KEY_CHARS
    assert sum(len(each.model_dump_json()) for each in wanted) < 16 * 1024
    more = await ask(stage, play, approved=[each.digest for each in wanted])
    assert len(more) == 5


async def test_a_refused_effect_leaves_nothing_behind(
    stage: Stage, store: Store
) -> None:
    """
    It ends the task for good, and nothing was written.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.once("k", lambda *_: None, content="half \ud83d")

    with pytest.raises(GiveUp, match="surrogate"):
        await stage.play(play)
    assert contents(store)["effects"] == []


async def test_a_call_within_an_act_is_no_deadlock(stage: Stage) -> None:
    """
    What it asks for ends the act around it.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        async def outer(key: str) -> None:
            await ctx.once("inner", lambda key: None, content=None)

        await ctx.once("outer", outer, content=None)

    (outer,) = await ask(stage, play)
    (inner,) = await ask(stage, play, approved=[outer.digest])
    assert inner.key == "inner"


async def test_an_unsure_effect_says_how_it_is_settled(stage: Stage) -> None:
    """
    With a command that can be pasted.
    """

    async def play(given: dict[str, Any], ctx: Context) -> None:
        def act(key: str) -> None:
            raise BrokenError

        await ctx.once("k", act, content=None)

    with pytest.raises(BrokenError):
        await stage.play(play)
    with pytest.raises(ParkedError, match=r"outlast settle k --happened RESULT"):
        await stage.play(play)


async def test_an_effect_under_way_is_not_repeated_by_a_hasty_one(
    stage: Stage, store: Store
) -> None:
    """
    What the asker's attempt may last says nothing about the one that acts.
    """
    acting, acted = asyncio.Event(), []

    async def act(key: str, content: Any) -> str:
        acted.append(key)
        acting.set()
        await asyncio.sleep(0.3)
        return "paid"

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        return await ctx.once("pay", act, content=1, if_unsure="repeat")

    first = asyncio.ensure_future(stage.play(play, name="a"))
    await acting.wait()
    stage.policy = Policy(attempt_limit_s=0.05)
    await asyncio.gather(first, stage.play(play, name="b"))
    assert len(acted) == 1
    assert applied(store) == {"pay": 1}


@pytest.mark.parametrize("plain", [True, False])
async def test_an_act_that_asks_for_its_own_key_is_refused(
    stage: Stage, plain: bool
) -> None:
    """
    At once: it would wait for its own end.
    """

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        async def act(key: str) -> Any:
            return await ctx.once("k", act, content=None)

        def act_plainly(key: str) -> Any:
            return ctx.run_sync(ctx.once("k", act_plainly, content=None))

        return await ctx.once("k", act_plainly if plain else act, content=None)

    async with asyncio.timeout(5):  # else its own end is waited for
        with pytest.raises(GiveUp, match="within its own act") as refusal:
            await stage.play(play)
    told_in_one_sentence(refusal.value)


async def test_an_act_that_waits_in_another_thread_for_what_asks_is_ended(
    stage: Stage,
) -> None:
    """
    A thread of a pool does not know that it is within an act.
    """
    acted: list[str] = []
    with ThreadPoolExecutor(1) as pool:

        async def play(given: dict[str, Any], ctx: Context) -> Any:
            def inner() -> Any:
                return ctx.run_sync(ctx.once("inner", acted.append, content=None))

            def outer(key: str) -> Any:
                return pool.submit(inner).result()

            return await ctx.once("outer", outer, content=None)

        allowed = [each.digest for each in await ask(stage, play)]
        async with asyncio.timeout(5) as bound:
            (inner,) = await ask(stage, play, approved=allowed)
        assert not bound.expired(), "it waited for its own end"
    assert (inner.key, acted) == ("inner", [])


class Receipt(BaseModel):
    number: int


async def test_what_an_act_returns_is_the_same_each_time(stage: Stage) -> None:
    """
    JSON: what the ledger has.
    """
    results: dict[str, Any] = {
        "model": Receipt(number=7),
        "nan": float("nan"),
        "keys": {1: (1, 2)},
        "none": None,
    }

    async def play(given: dict[str, Any], ctx: Context) -> list[Any]:
        told = []
        for key, result in results.items():
            made = await ctx.once(key, lambda _, made=result: made, content=None)
            told.append((type(made).__name__, made))
        return told

    await stage.play(play)
    first = stage.result()
    await stage.play(play, round_=2)
    assert stage.result() == first
    assert first == [
        ["dict", {"number": 7}],
        ["NoneType", None],
        ["dict", {"1": [1, 2]}],
        ["NoneType", None],
    ]


async def test_nobody_is_asked_to_stand_for_what_is_unsure(stage: Stage) -> None:
    """
    Another effect of a later round is parked until the first one is settled.
    """
    sent: list[Any] = []

    async def pay(given: dict[str, Any], ctx: Context) -> Any:
        def act(key: str, content: Any) -> Any:
            if given["round"] == 1:
                raise BrokenError
            sent.append(content)

        return await ctx.once("k", act, content=given["round"])

    with pytest.raises(BrokenError):
        await stage.play(pay, {"round": 1})
    with pytest.raises(ParkedError, match="may have happened") as parked:
        await stage.play(pay, {"round": 2}, round_=2)
    assert not isinstance(parked.value, ApprovalNeededError)
    EffectRecords(stage.ledger.store).record_decision("k", None, False, None, "ann")
    await stage.play(pay, {"round": 2}, round_=2)
    assert sent == [2]


async def test_an_act_that_returns_what_is_no_json_has_happened(
    stage: Stage, store: Store
) -> None:
    """
    It is told the same each time, and who needs no result goes on.
    """

    async def play(given: dict[str, Any], ctx: Context) -> list[str]:
        told = []
        for _ in range(2):
            with pytest.raises(ResultError, match="has happened") as refusal:
                await ctx.once("k", lambda key: object(), content=None)
            told.append(told_in_one_sentence(refusal.value))
        return told

    await stage.play(play)
    first = stage.result()
    await stage.play(play, round_=2)
    assert stage.result() == first
    assert applied(store) == {"k": 1}
