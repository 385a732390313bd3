"""
What an agent is promised, through whole attempts on a real store.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import to_json
from unit_fakes import (
    MISSION,
    ROLE,
    TENANT,
    Stage,
    answer,
    assignment,
    contents,
    refused,
    task,
    told_in_one_sentence,
)

from outlast.agents.agent import Degraded
from outlast.agents.context import STATUS_MESSAGE_CHARS, Context
from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.batches import Batch
from outlast.contracts.errors import (
    ApprovalNeededError,
    BudgetExceededError,
    CheckpointError,
    CircuitOpenError,
    GiveUp,
    MissingSecretError,
    OutsideFolderError,
    ParkedError,
    ResultError,
    StaleAttemptError,
    StalledError,
)
from outlast.contracts.results import FanOut, FollowUps
from outlast.contracts.retries import Policy
from outlast.contracts.sizes import CHECKPOINT_BYTES, KIB, PAYLOAD_BYTES
from outlast.contracts.tasks import Limits
from outlast.contracts.text import SUMMARY_CHARS
from outlast.ledger.batches import BatchRecords
from outlast.ledger.effect_decision import INTENDED
from outlast.ledger.effect_records import EffectRecords
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store
from outlast.store.schema import effects

BOUND_S = 5.0
CAP = 64 * KIB


class Notes(BaseModel):
    lines: list[str] = []


class BrokenError(Exception):
    """
    What the agents here raise in the middle.
    """


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(4) as threads:
        yield Stage(ledger, threads)


async def save_and_break(given: dict[str, Any], ctx: Context) -> None:
    await ctx.save(Notes(lines=["one", "two"]))
    raise BrokenError


async def notes(given: dict[str, Any], ctx: Context) -> list[str]:
    return (await ctx.resume(Notes, Notes(lines=["nothing"]))).lines


# The right store


async def test_a_mission_of_another_store_is_given_up(
    stage: Stage, store: Store
) -> None:
    """
    Playing it would split its books: the agent is not called and nothing is claimed;
    one sentence names the store that is not the mission's, and what to do.
    """
    before = contents(store)

    async def never(given: dict[str, Any], ctx: Context) -> None:
        raise AssertionError("it was played")

    with pytest.raises(GiveUp) as refusal:
        await stage.play(never, store="0" * 32)
    sentence = told_in_one_sentence(refusal.value)
    assert store.place in sentence
    assert "namespace of its own" in sentence
    assert refusal.value.kind == "GiveUp", "it is tried again"
    assert contents(store) == before


async def test_a_mission_of_another_store_overtakes_nobody(stage: Stage) -> None:
    """
    Whoever holds the claim on a task of the same name goes on writing.
    """
    mine = stage.overtake()
    with pytest.raises(GiveUp):
        await stage.play(notes, store="0" * 32)
    stage.ledger.record(mine, answer(), "mine")
    assert stage.result() == "mine"


@pytest.mark.parametrize("told", [True, False], ids=["the same", "not told"])
async def test_a_mission_of_this_store_is_played(
    stage: Stage, store: Store, told: bool
) -> None:
    """
    So is one that was started before stores had ids.
    """
    await stage.play(notes, store=store.id if told else "")
    assert stage.result() == ["nothing"]


# Saved progress


async def test_a_first_attempt_starts_with_the_default(stage: Stage) -> None:
    """
    Nothing saved, nothing resumed.
    """
    await stage.play(notes)
    assert stage.result() == ["nothing"]


async def test_what_was_saved_is_resumed(stage: Stage) -> None:
    """
    The next attempt goes on from the last save of the one before.
    """
    with pytest.raises(BrokenError):
        await stage.play(save_and_break)
    await stage.play(notes)
    assert stage.result() == ["one", "two"]


async def test_another_round_starts_anew(stage: Stage) -> None:
    """
    A redo does not go on from what the rejected round had saved.
    """
    with pytest.raises(BrokenError):
        await stage.play(save_and_break)
    await stage.play(notes, round_=2)
    assert stage.result() == ["nothing"]


async def test_another_route_starts_anew(stage: Stage) -> None:
    """
    A fallback cannot read what another role has saved.
    """
    with pytest.raises(BrokenError):
        await stage.play(save_and_break)
    await stage.play(notes, role="fallback")
    assert stage.result() == ["nothing"]


@pytest.mark.parametrize(
    ("seq", "expected"), [(1, ["one", "two"]), (9, ["carried"])], ids=["old", "new"]
)
async def test_the_newest_checkpoint_is_resumed(
    stage: Stage, seq: int, expected: list[str]
) -> None:
    """
    Of the store's and those that travelled, the one with most saves counts.
    """

    async def save_twice(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save(Notes())
        await save_and_break(given, ctx)

    with pytest.raises(BrokenError):
        await stage.play(save_twice)
    travelled = Checkpoint(seq=seq, route="worker", value={"lines": ["carried"]})
    await stage.play(notes, carried=[travelled])
    assert stage.result() == expected


async def test_saves_count_on_over_attempts(stage: Stage) -> None:
    """
    The number of a save never falls within a round, so that the newest is known.
    """
    for _ in range(3):
        with pytest.raises(BrokenError):
            await stage.play(resume_and_save)
    saved = stage.ledger.resume(stage.overtake(), "worker")
    assert saved is not None
    assert saved.seq == 3


async def resume_and_save(given: dict[str, Any], ctx: Context) -> None:
    await ctx.resume(Notes, Notes())
    await ctx.save(Notes())
    raise BrokenError


async def test_a_checkpoint_of_another_version_is_refused(stage: Stage) -> None:
    """
    Without a way to migrate it, no attempt can ever read it.
    """
    with pytest.raises(BrokenError):
        await stage.play(save_and_break)
    with pytest.raises(CheckpointError, match=r"version 1.*version 2"):
        await stage.play(notes, version=2)


async def test_a_checkpoint_of_another_version_is_migrated(stage: Stage) -> None:
    """
    `migrate` gets the old version and value; what it returns is resumed.
    """

    def migrate(version: int, value: Any) -> Any:
        return {"lines": [f"from {version}", *value["lines"]]}

    with pytest.raises(BrokenError):
        await stage.play(save_and_break)
    await stage.play(notes, version=2, migrate=migrate)
    assert stage.result() == ["from 1", "one", "two"]


async def test_a_checkpoint_of_another_shape_is_refused(stage: Stage) -> None:
    """
    What does not validate is never half read, and never retried.
    """

    async def save_number(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save(7)
        raise BrokenError

    with pytest.raises(BrokenError):
        await stage.play(save_number)
    with pytest.raises(CheckpointError) as refusal:
        await stage.play(notes)
    assert isinstance(refusal.value, GiveUp)
    assert "Notes" in str(refusal.value)


@pytest.mark.parametrize("durable", [False, True])
async def test_large_progress_goes_to_the_store(stage: Stage, durable: bool) -> None:
    """
    What is too large to travel stays there; the beat carries its digest only.
    """
    line = "x" * 100_000

    async def save_much(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save(Notes(lines=[line]), durable=durable)
        assert ctx.heartbeat.checkpoint.blob is not None
        assert len(ctx.heartbeat.model_dump_json()) < CHECKPOINT_BYTES
        raise BrokenError

    with pytest.raises(BrokenError):
        await stage.play(save_much)
    resumed = []

    async def look(given: dict[str, Any], ctx: Context) -> None:
        resumed.append(await ctx.resume(Notes, Notes()))

    await stage.play(look)
    assert resumed == [Notes(lines=[line])]


@pytest.mark.parametrize("size", [10, 2_900, 3_100, 4_000, 50_000])
@pytest.mark.parametrize("letter", ["x", "€", '"'], ids=["plain", "wide", "escaped"])
async def test_a_beat_is_never_larger_than_the_cap(
    stage: Stage, size: int, letter: str
) -> None:
    """
    Checkpoint, envelope and what was said last fit into 4 KiB, in bytes.
    """

    async def save(given: dict[str, Any], ctx: Context) -> None:
        ctx.emit(letter * 1_000)
        await ctx.save(letter * (size // len(letter.encode())))
        assert len(to_json(ctx.heartbeat.model_dump(mode="json"))) <= CHECKPOINT_BYTES

    await stage.play(save)


async def test_large_progress_that_is_lost_is_not_guessed(stage: Stage) -> None:
    """
    A reference without its body ends the task; it does not start over in silence.
    """
    lost = Checkpoint(seq=1, route="worker", blob="0" * 64)
    with pytest.raises(CheckpointError, match="not in the store"):
        await stage.play(notes, carried=[lost])


# Done once


async def test_an_effect_is_done_once_over_attempts(stage: Stage) -> None:
    """
    The second attempt gets what the first one was returned.
    """
    acted: list[str] = []

    async def pay(given: dict[str, Any], ctx: Context) -> str:
        paid = await ctx.once(
            "pay:17", lambda key: acted.append(key) or "receipt", content=None
        )
        if ctx.attempt == 1:
            raise BrokenError
        return paid

    with pytest.raises(BrokenError):
        await stage.play(pay)
    await stage.play(pay)
    assert stage.result() == "receipt"
    assert acted == [f"{TENANT}~effect~{MISSION}~key~pay:17"]


async def begin(given: dict[str, Any], ctx: Context) -> Any:
    """
    Act in a way that may or may not have happened.
    """

    async def act(key: str) -> str:
        given["acted"].append(key)
        if ctx.attempt == 1:
            raise BrokenError
        return "done"

    return await ctx.once("k", act, if_unsure=given["if_unsure"], content=None)


async def test_an_unsure_effect_is_repeated_when_that_is_safe(stage: Stage) -> None:
    """
    `repeat` acts again, with the same idempotency key.
    """
    acted: list[str] = []

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        return await begin({"acted": acted, "if_unsure": "repeat"}, ctx)

    with pytest.raises(BrokenError):
        await stage.play(play)
    await stage.play(play)
    assert stage.result() == "done"
    assert acted == [f"{TENANT}~effect~{MISSION}~key~k"] * 2


async def test_an_unsure_effect_parks_otherwise(stage: Stage) -> None:
    """
    `park` does not act again: a person must look.
    """
    acted: list[str] = []

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        return await begin({"acted": acted, "if_unsure": "park"}, ctx)

    with pytest.raises(BrokenError):
        await stage.play(play)
    with pytest.raises(ParkedError, match="'k'"):
        await stage.play(play)
    assert len(acted) == 1


async def test_an_effect_that_was_not_sent_is_not_unsure(
    stage: Stage, store: Store
) -> None:
    """
    A refused connection takes the intent back: nobody has to look, and the next attempt
    acts.
    """
    acted: list[str] = []

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        async def act(key: str) -> str:
            acted.append(key)
            if ctx.attempt == 1:
                raise ConnectionRefusedError
            return "paid"

        return await ctx.once("k", act, if_unsure="park", content=None)

    with pytest.raises(ConnectionRefusedError):
        await stage.play(play)
    assert EffectRecords(store).records(MISSION) == []
    await stage.play(play)
    assert stage.result() == "paid"
    assert len(acted) == 2


async def test_an_effect_that_may_have_been_sent_before_stays_unsure(
    stage: Stage, store: Store
) -> None:
    """
    The try that was not sent says nothing of the one before it.
    """
    errors = [ConnectionResetError, ConnectionRefusedError]

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        async def act(key: str) -> str:
            raise errors[ctx.attempt - 1]

        return await ctx.once("k", act, if_unsure="repeat", content=None)

    for each in errors:
        with pytest.raises(each):
            await stage.play(play)
    [effect] = EffectRecords(store).records(MISSION)
    assert effect.state == INTENDED


async def test_an_approval_outlives_an_effect_that_was_not_sent(stage: Stage) -> None:
    """
    The person is not asked again.
    """
    approval = Approval(before="effect")

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        async def act(key: str) -> str:
            if ctx.attempt == 2:
                raise ConnectionRefusedError
            return "paid"

        return await ctx.once("k", act, content=None)

    with pytest.raises(ApprovalNeededError) as asked:
        await stage.play(play, approval=approval)
    [wanted] = asked.value.wanted
    with pytest.raises(ConnectionRefusedError):
        await stage.play(play, approval=approval, approved=[wanted.digest])
    await stage.play(play, approval=approval, approved=[wanted.digest])
    assert stage.result() == "paid"


async def test_a_plain_agent_guards_calls_from_its_thread(stage: Stage) -> None:
    """
    By `with`, in the words of an async one.
    """

    def play(given: dict[str, Any], ctx: Context) -> Any:
        for _ in range(3):
            with suppress(ConnectionError), ctx.service("payments"):
                raise ConnectionResetError
        try:
            with ctx.service("payments"):
                return "asked"
        except CircuitOpenError as error:
            return str(error)

    await stage.play(play)
    assert "payments is away since" in str(stage.result())


async def test_an_effect_whose_result_is_no_json_has_happened(
    stage: Stage, store: Store
) -> None:
    """
    What was done is in the books as done, whatever it returned: never done again.
    """

    async def pay(given: dict[str, Any], ctx: Context) -> Any:
        return await ctx.once(
            "k", lambda key: object(), if_unsure="repeat", content=None
        )

    with pytest.raises(Exception, match="JSON"):
        await stage.play(pay)
    with store.read() as connection:
        assert connection.scalar(
            effects.select().with_only_columns(effects.c.state)
        ) == ("applied")


# Live words, budgets, secrets


async def test_what_is_said_travels_with_the_next_beat(stage: Stage) -> None:
    """
    Whoever follows sees it while the agent is at work.
    """
    heard = asyncio.Event()
    stage.on_beat = lambda beat: (
        heard.set() if beat.status_message == "half way" else None
    )

    async def talk(given: dict[str, Any], ctx: Context) -> None:
        ctx.emit("half  way\n")
        await asyncio.wait_for(heard.wait(), BOUND_S)

    await stage.play(talk)


async def test_what_is_said_is_shortened(stage: Stage) -> None:
    """
    One line of bounded length, whatever the agent says.
    """

    async def talk(given: dict[str, Any], ctx: Context) -> None:
        ctx.emit("word\n" * 1_000)
        assert len(ctx.heartbeat.status_message) <= STATUS_MESSAGE_CHARS
        assert "\n" not in ctx.heartbeat.status_message

    await stage.play(talk)


async def test_what_is_said_can_be_sent(stage: Stage) -> None:
    """
    Live words are lossy: half a character in them must not end the attempt.
    """

    async def talk(given: dict[str, Any], ctx: Context) -> None:
        ctx.emit("reading caf\udce9.txt")
        to_json(ctx.heartbeat.model_dump(mode="json"))

    await stage.play(talk)


@pytest.mark.parametrize(
    ("limits", "spent"),
    [
        (Limits(tokens=10), {"tokens": 11}),
        (Limits(tokens=0), {"tokens": 1}),
        (Limits(cost=1.0), {"cost": 1.01}),
        (Limits(tokens=10, cost=1.0), {"tokens": 1, "cost": 2.0}),
    ],
    ids=str,
)
async def test_a_spent_budget_ends_the_task(
    stage: Stage, limits: Limits, spent: dict[str, Any]
) -> None:
    """
    Past a limit no attempt can succeed, and what was used is counted.
    """
    stage.limits = limits

    async def think(given: dict[str, Any], ctx: Context) -> None:
        await ctx.record_usage(**spent)

    with pytest.raises(BudgetExceededError) as refusal:
        await stage.play(think)
    assert isinstance(refusal.value, GiveUp)
    used = stage.ledger.record_usage(stage.overtake(), 0, 0.0)
    assert used.mission == (spent.get("tokens", 0), spent.get("cost", 0.0))


@pytest.mark.parametrize("limits", [Limits(), Limits(tokens=10, cost=1.0)], ids=str)
async def test_a_budget_may_be_used_up(stage: Stage, limits: Limits) -> None:
    """
    Exactly the limit is within it; no limit is none.
    """
    stage.limits = limits

    async def think(given: dict[str, Any], ctx: Context) -> None:
        await ctx.record_usage(tokens=4, cost=0.5)
        await ctx.record_usage(tokens=6, cost=0.5)

    await stage.play(think)


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
async def test_a_secret_is_read_on_the_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """
    The agent gets it from the environment; the store never does.
    """
    monkeypatch.setenv("OUTLAST_SECRET_BANK", "open-sesame")
    seen: list[str] = []

    async def play(given: dict[str, Any], ctx: Context) -> None:
        seen.append(ctx.secret("bank"))
        await ctx.save("step")

    await stage.play(play)
    assert seen == ["open-sesame"]
    files = Path(store.place).parent.glob("store.db*")
    assert not any(b"open-sesame" in file.read_bytes() for file in files)


async def test_a_missing_secret_ends_the_task(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No retry brings it; the sentence names the variable.
    """
    monkeypatch.delenv("OUTLAST_SECRET_BANK", raising=False)

    async def play(given: dict[str, Any], ctx: Context) -> str:
        return ctx.secret("bank")

    with pytest.raises(MissingSecretError, match="OUTLAST_SECRET_BANK"):
        await stage.play(play)


# Plain agents


async def test_a_plain_agent_waits_for_its_promises(stage: Stage) -> None:
    """
    A function without `async` saves, resumes and acts once through `ctx.run_sync`.
    """

    def play(given: dict[str, Any], ctx: Context) -> Any:
        before = ctx.run_sync(ctx.resume(Notes, Notes()))
        ctx.run_sync(ctx.save(Notes(lines=["plain"])))
        if not before.lines:
            raise BrokenError
        return [
            *before.lines,
            ctx.run_sync(ctx.once("k", lambda key: "acted", content=None)),
        ]

    with pytest.raises(BrokenError):
        await stage.play(play)
    await stage.play(play)
    assert stage.result() == ["plain", "acted"]


async def test_a_plain_agents_effect_may_be_async(stage: Stage) -> None:
    """
    What it acts with is awaited, also for a plain agent: an effect that was never
    begun must not stand as applied.
    """
    acted: list[str] = []

    async def act(key: str) -> str:
        acted.append(key)
        return "receipt"

    def play(given: dict[str, Any], ctx: Context) -> Any:
        return ctx.run_sync(ctx.once("k", act, content=None))

    await stage.play(play)
    assert acted == [f"{TENANT}~effect~{MISSION}~key~k"]
    assert stage.result() == "receipt"


@pytest.mark.parametrize("end", [SystemExit(3), StopIteration("3")], ids=repr)
@pytest.mark.parametrize("plain", [True, False])
async def test_an_effect_that_exits_is_a_failure(
    stage: Stage, plain: bool, end: BaseException
) -> None:
    """
    Whatever an act raises is its agent's failure, at once, and the loop lives on.
    """
    stage.policy = Policy(stall_s=0.5)

    def act(key: str) -> None:
        raise end

    async def acts(given: dict[str, Any], ctx: Context) -> Any:
        return await ctx.once("k", act, content=None)

    def acts_plainly(given: dict[str, Any], ctx: Context) -> Any:
        return ctx.run_sync(ctx.once("k", act, content=None))

    async def beside() -> BaseException:
        with pytest.raises(Exception) as failure:  # noqa: PT011 - any, but a stall
            await asyncio.wait_for(stage.play(acts_plainly if plain else acts), BOUND_S)
        return failure.value

    with ThreadPoolExecutor(1) as other:
        ended = other.submit(asyncio.run, beside())
        assert ended.exception() is None, f"the loop ended: {ended.exception()!r}"
    assert not isinstance(ended.result(), StalledError)


async def test_a_plain_agent_may_run_out_of_items(stage: Stage) -> None:
    """
    StopIteration, which a future cannot carry, is a failure like any other and at
    once, not a stall.
    """
    stage.policy = Policy(stall_s=0.3)

    def play(given: dict[str, Any], ctx: Context) -> Any:
        return next(iter([]))

    with pytest.raises(Exception, match=r"(?i)stopiteration|raised"):
        await asyncio.wait_for(stage.play(play), BOUND_S)


@pytest.mark.parametrize("plain", [True, False])
async def test_an_agent_that_exits_does_not_end_the_process(
    stage: Stage, plain: bool
) -> None:
    """
    `sys.exit` in an agent, as of a command line it calls, is that agent's failure:
    the event loop and the attempts beside it live on.
    """

    async def exits(given: dict[str, Any], ctx: Context) -> None:
        raise SystemExit(3)

    def exits_plainly(given: dict[str, Any], ctx: Context) -> None:
        raise SystemExit(3)

    async def beside() -> None:
        with pytest.raises(Exception, match="3"):
            await stage.play(exits_plainly if plain else exits)

    # In a loop of its own: the exit would end this one and pytest with it.
    with ThreadPoolExecutor(1) as other:
        ended = other.submit(asyncio.run, beside()).exception()
    assert ended is None, f"the event loop ended: {ended!r}"


# The end of an attempt


async def test_a_run_that_is_over_refuses(stage: Stage) -> None:
    """
    A thread or task that lives on after its attempt can write nothing more.
    """
    kept: list[Context] = []

    async def play(given: dict[str, Any], ctx: Context) -> None:
        kept.append(ctx)
        await ctx.save(Notes(lines=["last"]))

    await stage.play(play)
    for write in (
        kept[0].save("late"),
        kept[0].once("late", lambda key: pytest.fail("it acted"), content=None),
        kept[0].record_usage(tokens=1),
    ):
        with pytest.raises(StaleAttemptError, match="over"):
            await write
    saved = stage.ledger.resume(stage.overtake(), "worker")
    assert saved is not None
    assert saved.value == {"lines": ["last"]}


async def test_an_overtaken_attempt_learns_it_at_its_next_write(
    stage: Stage, store: Store
) -> None:
    """
    Whoever is overtaken in the middle writes nothing more, its result neither.
    """

    async def save(given: dict[str, Any], ctx: Context) -> None:
        stage.overtake()
        await ctx.save("late")

    async def answers(given: dict[str, Any], ctx: Context) -> str:
        stage.overtake()
        return "late"

    for play in (save, answers):
        with pytest.raises(StaleAttemptError):
            await stage.play(play)
    assert refused(store) == ["checkpoint", "result"]
    assert stage.ledger.result(MISSION, "only") is None


async def test_an_attempt_that_comes_too_late_does_not_play(stage: Stage) -> None:
    """
    Without the claim not even the agent's first line runs.
    """
    stage.fence = 10
    stage.overtake()
    stage.fence = 0
    with pytest.raises(StaleAttemptError):
        await stage.play(lambda given, ctx: pytest.fail("it played"))


async def test_recorded_work_is_not_done_again(stage: Stage) -> None:
    """
    An attempt that is repeated because its report was lost finds its answer.
    """

    async def play(given: dict[str, Any], ctx: Context) -> int:
        return ctx.attempt

    first = await stage.play(play)
    again = await stage.play(play)
    assert again == first
    assert again.attempt == 1
    assert stage.result() == 1


@pytest.mark.parametrize("plain", [True, False])
async def test_an_agent_without_progress_is_ended(stage: Stage, plain: bool) -> None:
    """
    Alive is not enough: past the stall limit the attempt is ended, to be tried again.
    """
    stage.policy = Policy(stall_s=0.15)
    freed = threading.Event()

    async def hang(given: dict[str, Any], ctx: Context) -> None:
        await asyncio.Event().wait()

    def hang_plainly(given: dict[str, Any], ctx: Context) -> None:
        freed.wait(BOUND_S)

    try:
        with pytest.raises(StalledError, match=r"0\.15 s"):
            await asyncio.wait_for(stage.play(hang_plainly if plain else hang), BOUND_S)
    finally:
        freed.set()
    assert stage.beats


async def test_progress_puts_the_stall_limit_off(stage: Stage) -> None:
    """
    Who saves, acts or says something is never taken for stalled.
    """
    stage.policy = Policy(stall_s=0.2)
    beaten = asyncio.Event()
    stage.on_beat = lambda _: beaten.set()

    async def work(given: dict[str, Any], ctx: Context) -> int:
        loop = asyncio.get_running_loop()
        steps, end = 0, loop.time() + 0.6
        while loop.time() < end:
            steps += 1
            if steps % 2:
                ctx.emit(f"step {steps}")
            else:
                await ctx.save(steps)
            beaten.clear()
            await asyncio.wait_for(beaten.wait(), BOUND_S)
        return steps

    answered = await stage.play(work)
    assert int(answered.summary) > 2


async def test_a_cancelled_attempt_ends_as_cancelled(stage: Stage) -> None:
    """
    A cancellation from outside is no stall and no failure, and the agent hears it.
    """
    began, heard = asyncio.Event(), asyncio.Event()

    async def hang(given: dict[str, Any], ctx: Context) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            heard.set()

    playing = asyncio.ensure_future(stage.play(hang))
    await asyncio.wait_for(began.wait(), BOUND_S)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert heard.is_set()


# Results


async def test_a_result_at_the_cap_is_kept(stage: Stage) -> None:
    """
    The cap is inclusive.
    """
    stage.ledger.store.largest = CAP
    await stage.play(lambda given, ctx: "é" * (CAP // 2 - 1))
    assert stage.result() == "é" * (CAP // 2 - 1)


async def test_a_result_over_the_cap_is_refused(stage: Stage) -> None:
    """
    It says how large it is, in bytes, and what to do; nothing is recorded.
    """
    stage.ledger.store.largest = CAP
    with pytest.raises(ResultError, match=f"{CAP + 2} bytes.*store it"):
        await stage.play(lambda given, ctx: "é" * (CAP // 2))
    assert stage.ledger.result(MISSION, "only") is None


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    "make",
    [object, lambda: {"x": object()}, lambda: b"\xff", lambda: "\ud800", circle],
    ids=["object", "within", "bytes", "half a character", "circle"],
)
async def test_a_result_that_is_no_json_is_refused(stage: Stage, make) -> None:
    """
    What cannot be kept is the agent's failure, in one sentence.
    """
    with pytest.raises(ResultError, match=r"no JSON|no text") as refusal:
        await stage.play(lambda given, ctx: make())
    assert "\n" not in str(refusal.value)


async def test_a_model_is_a_result(stage: Stage) -> None:
    """
    Models and what holds them are kept as JSON.
    """
    await stage.play(lambda given, ctx: {"notes": [Notes(lines=["one"])]})
    assert stage.result() == {"notes": [{"lines": ["one"]}]}


async def test_an_answer_summarises_its_result(stage: Stage) -> None:
    """
    What travels is short; the result stays in the ledger.
    """
    answered = await stage.play(lambda given, ctx: ["word " * 100])
    assert len(answered.summary) <= SUMMARY_CHARS
    assert answered.summary.startswith('["word')


async def test_a_result_may_sum_itself_up(stage: Stage) -> None:
    """
    Its own words stand in the report, where a cut piece of JSON would.
    """
    told = {"posted": list(range(200)), "summary": "200 of 201 posted"}
    answered = await stage.play(lambda given, ctx: told)
    assert answered.summary == "200 of 201 posted"
    assert stage.result() == told


async def test_a_degraded_result_says_why(stage: Stage) -> None:
    """
    The reason travels, the result is kept bare.
    """
    answered = await stage.play(lambda given, ctx: Degraded([1], "two were missing"))
    assert answered.degraded == ["two were missing"]
    assert stage.result() == [1]


async def test_a_degraded_reason_is_bounded(stage: Stage) -> None:
    """
    Reasons stand in histories and reports: one of a megabyte must not travel.
    """
    answered = await stage.play(lambda given, ctx: Degraded(1, "x" * 1_000_000))
    assert len(answered.model_dump_json()) < PAYLOAD_BYTES


async def test_follow_up_tasks_travel_beside_the_result(stage: Stage) -> None:
    """
    The workflow gets the tasks, the ledger the result; a degraded one may have some.
    """
    tasks = [task("next")]
    follow_ups = FollowUps.of(Notes(lines=["planned"]), tasks)
    answered = await stage.play(lambda given, ctx: Degraded(follow_ups, "thin"))
    assert answered.follow_ups == tasks
    assert answered.degraded == ["thin"]
    assert stage.result() == {"lines": ["planned"]}


async def test_follow_up_tasks_come_again_with_a_recorded_answer(stage: Stage) -> None:
    """
    A lost report does not lose the tasks that were planned in it.
    """
    play = FollowUps(result=1, tasks=[task("next")])
    await stage.play(lambda given, ctx: play)
    again = await stage.play(lambda given, ctx: pytest.fail("it played again"))
    assert again.follow_ups == [task("next")]


# Input


class Topical(BaseModel):
    topic: str


class Wanted(BaseModel):
    topic: str
    needs: dict[str, Any] = {}


async def echo(wanted: Wanted, ctx: Context) -> Any:
    return wanted.model_dump()


async def test_results_of_needs_are_delivered(stage: Stage) -> None:
    """
    A field `needs` is filled with the results of the needed tasks, by id.
    """
    for number, name in enumerate(("a", "b")):
        claim = stage.ledger.claim(assignment(name), "worker", 1)
        stage.ledger.record(claim, answer(), {"n": number})
    await stage.play(echo, {"topic": "x"}, needs=["a", "b"])
    assert stage.result() == {"topic": "x", "needs": {"a": {"n": 0}, "b": {"n": 1}}}


async def test_needs_are_not_forced_on_who_does_not_ask(stage: Stage) -> None:
    """
    An agent whose input has no such field gets its input as it was given.
    """

    async def echo_topic(given: Topical, ctx: Any) -> Any:
        return given.model_dump()

    claim = stage.ledger.claim(assignment("a"), "worker", 1)
    stage.ledger.record(claim, answer(), 1)
    await stage.play(echo_topic, {"topic": "x"}, needs=["a"])
    assert stage.result() == {"topic": "x"}


async def test_a_dict_has_the_needs_under_their_name(stage: Stage) -> None:
    """
    An agent that takes a dict finds the results of needed tasks in it.
    """
    claim = stage.ledger.claim(assignment("a"), "worker", 1)
    stage.ledger.record(claim, answer(), 1)
    await stage.play(lambda given, ctx: given, {"topic": "x"}, needs=["a"])
    assert stage.result() == {"topic": "x", "needs": {"a": 1}}


async def test_a_need_without_a_result_ends_the_task(stage: Stage) -> None:
    """
    What the ledger does not have no retry will find.
    """
    with pytest.raises(GiveUp, match="'ghost'"):
        await stage.play(echo, {"topic": "x"}, needs=["ghost"])


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "topic"), ({"topic": 7}, "topic"), ({"topic": None}, "topic")],
)
async def test_bad_input_ends_the_task(stage: Stage, given: Any, field: str) -> None:
    """
    No retry mends it; the sentence names the role and the field.
    """
    with pytest.raises(GiveUp, match=f"worker cannot use its input: {field}: "):
        await stage.play(echo, given)


async def test_an_agent_knows_who_it_is(stage: Stage) -> None:
    """
    The key is the same on every attempt of one round; the attempt is not.
    """
    seen: list[Any] = []

    async def look(given: dict[str, Any], ctx: Context) -> None:
        seen.append((ctx.key, ctx.tenant, ctx.round, ctx.attempt))
        raise BrokenError

    for round_ in (1, 1, 2):
        with pytest.raises(BrokenError):
            await stage.play(look, round_=round_)
    assert seen == [
        (f"{MISSION}~round~only~1", TENANT, 1, 1),
        (f"{MISSION}~round~only~1", TENANT, 1, 2),
        (f"{MISSION}~round~only~2", TENANT, 2, 1),
    ]


async def test_what_needs_approval_may_not_spread(stage: Stage) -> None:
    """
    Nobody would be asked of its items' effects; not even a batch is opened.
    """

    async def play(given: dict[str, Any], ctx: Context) -> FanOut:
        return FanOut(role=ROLE, items=[{"n": 1}])

    with pytest.raises(GiveUp, match="may not spread"):
        await stage.play(play, approval=Approval(before="effect"))
    batches = BatchRecords(stage.ledger.store)
    assert batches.records() == []
    await stage.play(play, approval=Approval(before="start"))
    assert len(batches.records()) == 1


async def test_what_a_step_took_is_counted_as_it_is_saved(stage: Stage) -> None:
    """
    Its save stands where that passes a limit, so that nothing is paid for again.
    """
    stage.limits = Limits(tokens=10)

    async def play(given: dict[str, Any], ctx: Context) -> None:
        await ctx.save({"step": 1}, tokens=10)
        await ctx.save({"step": 2}, tokens=1)

    with pytest.raises(BudgetExceededError):
        await stage.play(play)
    claim = stage.overtake()
    saved = stage.ledger.resume(claim, "worker")
    assert saved is not None
    assert saved.value == {"step": 2}
    assert stage.ledger.record_usage(claim, 0, 0.0).task.tokens == 11


async def test_another_tenants_batch_is_not_read(stage: Stage) -> None:
    """
    Though its name is known: nothing of it comes, and no retry would change that.
    """
    batches = BatchRecords(stage.ledger.store)
    batches.open_batch(Batch(id="theirs", role="clerk", tenant="somebody-else"))

    async def play(given: dict[str, Any], ctx: Context) -> list[Any]:
        return [each.result async for each in ctx.batch_results("theirs")]

    with pytest.raises(OutsideFolderError, match="another tenant's"):
        await stage.play(play)


async def test_a_person_is_shown_no_secret(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Neither in the key nor in the content of what is to be approved; what was shown
    stands in the history.
    """
    monkeypatch.setenv("OUTLAST_SECRET_BANK", "open-sesame")

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        told = f"https://bank/?key={ctx.secret('bank')}"
        return await ctx.once(f"pay:{told}", lambda key: None, content=told)

    with pytest.raises(ApprovalNeededError) as asked:
        await stage.play(play, approval=Approval(before="effect"))
    (wanted,) = asked.value.wanted
    assert "key=[secret]" in wanted.key
    assert "key=[secret]" in wanted.content
    assert "open-sesame" not in wanted.model_dump_json()


async def test_a_service_is_named_without_a_secret(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its name is shown: in the log, in /health, and in what is told of its failures.
    """
    monkeypatch.setenv("OUTLAST_SECRET_BANK", "open-sesame")

    async def play(given: dict[str, Any], ctx: Context) -> Any:
        for _ in range(20):
            try:
                async with ctx.service(f"https://bank/{ctx.secret('bank')}"):
                    raise ConnectionError
            except ConnectionError:
                pass
            except CircuitOpenError as error:
                return str(error)
        return ""

    await stage.play(play)
    assert "https://bank/[secret]" in str(stage.result())
