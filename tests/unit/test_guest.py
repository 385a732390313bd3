"""
However an agent ends, its attempt ends as its policy says, and nobody else notices.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guest_kinds import (
    ASYNC_FAILURES,
    GROUPED_GIVE_UPS,
    PLAIN_FAILURES,
    SWALLOWERS,
    Held,
    failing,
    failing_plainly,
)
from lease_fakes import Lender, Shelf, numbered
from unit_fakes import Stage

from outlast.agents.context import Context
from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import Heartbeat
from outlast.contracts.errors import (
    AgentExitedError,
    ApprovalNeededError,
    BudgetExceededError,
    CircuitOpenError,
    GiveUp,
    ParkedError,
    StaleAttemptError,
    StalledError,
    TryLater,
)
from outlast.contracts.retries import CANCEL_GRACE_S, Policy
from outlast.contracts.tasks import Limits
from outlast.execution.exceptions import cause_of, error_text, message_of
from outlast.ledger.ledger import Ledger
from outlast.store.database import Store

BOUND_S = 10.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """
    One kind of store: what an agent raises never reaches it but as words.
    """
    made = Store(tmp_path / "store.db")
    yield made
    made.close()


@pytest.fixture
def stage(ledger: Ledger) -> Iterator[Stage]:
    with ThreadPoolExecutor(1) as threads:
        yield Stage(ledger, threads)


@pytest.fixture
def lender(store: Store) -> Iterator[Lender]:
    with ThreadPoolExecutor(1) as threads:
        yield Lender(Shelf(store), threads)


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    made = Held()
    yield made
    made.free.set()  # before the event loop waits for them


async def failure(playing: Awaitable[Any]) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - any, but no BaseException
        await asyncio.wait_for(playing, BOUND_S)
    return raised.value


# Failures


@pytest.mark.parametrize("kind", ASYNC_FAILURES)
async def test_whatever_an_agent_raises_is_its_failure(stage: Stage, kind: str) -> None:
    """
    An ordinary exception, also of what is none, with the cause that a person needs.
    """
    raised = await failure(stage.play(failing(kind)))
    assert not isinstance(raised, GiveUp | TimeoutError)
    with pytest.raises(ValueError, match=ASYNC_FAILURES[kind][1]):
        raise ValueError(message_of(raised))
    assert len(error_text(raised)) <= 400


@pytest.mark.parametrize("kind", PLAIN_FAILURES)
async def test_whatever_a_plain_agent_raises_is_its_failure(
    stage: Stage, kind: str
) -> None:
    """
    The same in its thread.
    """
    raised = await failure(stage.play(failing_plainly(kind)))
    assert not isinstance(raised, GiveUp | TimeoutError)
    with pytest.raises(ValueError, match=PLAIN_FAILURES[kind][1]):
        raise ValueError(message_of(raised))


@pytest.mark.parametrize("kind", ASYNC_FAILURES)
async def test_whatever_an_item_raises_is_its_dead_letter(
    lender: Lender, kind: str
) -> None:
    """
    With its cause, and the batch ends: all others are done.
    """
    bad = failing(kind)

    async def play(given: dict[str, int], ctx: Context) -> int:
        if given["n"] == 8:
            await bad(given, ctx)
        return given["n"]

    lender.policy = Policy(failures=1)
    lender.fill(numbered(20))
    worked = await lender.work(play)
    assert (worked.settled, worked.dead) == (20, 1)
    with pytest.raises(ValueError, match=ASYNC_FAILURES[kind][1].lstrip("^")):
        raise ValueError(lender.shelf.dead()[8].cause)
    assert len(lender.shelf.results()) == 19


@pytest.mark.parametrize("kind", PLAIN_FAILURES)
async def test_whatever_a_plain_item_raises_is_its_dead_letter(
    lender: Lender, kind: str
) -> None:
    """
    The same in threads.
    """
    bad = failing_plainly(kind)

    def play(given: dict[str, int], ctx: Context) -> int:
        return bad(given, ctx) if given["n"] == 2 else given["n"]

    lender.policy = Policy(failures=1)
    lender.fill(numbered(3))
    await lender.work(play)
    assert list(lender.shelf.dead()) == [2]
    assert list(lender.shelf.results()) == [1, 3]


@pytest.mark.parametrize("kind", GROUPED_GIVE_UPS)
async def test_a_group_is_opened(stage: Stage, kind: str) -> None:
    """
    A GiveUp within is a GiveUp.
    """

    async def play(given: Any, ctx: Context) -> None:
        await GROUPED_GIVE_UPS[kind]()

    with pytest.raises(GiveUp, match="no account"):
        await stage.play(play)


def test_what_decides_in_a_group() -> None:
    """
    A signal, then giving up, parking, asking for later; then what was raised first,
    whose echo is the cancellation of the others.
    """
    order: list[BaseException] = [
        StaleAttemptError("a"),
        ApprovalNeededError(),
        GiveUp("c"),
        ParkedError("d"),
        TryLater(5),
        ValueError("f"),
        asyncio.CancelledError(),
    ]
    for n in range(len(order)):
        inner = BaseExceptionGroup("inner", list(reversed(order[n:])))
        assert cause_of(BaseExceptionGroup("outer", [inner])) is order[n]
    assert cause_of(ExceptionGroup("", [KeyError("1"), OSError("2")])).args == ("1",)
    assert cause_of(BudgetExceededError("quarantine")).args == ("quarantine",)


async def test_an_agents_own_words_may_be_caught(stage: Stage) -> None:
    """
    An open circuit, to ask another service, and its own GiveUp.
    """

    async def play(given: Any, ctx: Context) -> str:
        for word in (CircuitOpenError("open"), GiveUp("not here"), ParkedError("?")):
            try:
                raise word
            except type(word):
                await ctx.save(str(word))
        return "went on"

    assert (await stage.play(play)).summary == '"went on"'


# Signals


async def approval(stage: Stage, ctx: Context) -> Any:
    return await ctx.once("pay", lambda key: "paid", content=None)


async def parked(stage: Stage, ctx: Context) -> Any:
    return await ctx.once("begun", lambda key: "paid", content=None)


async def budget(stage: Stage, ctx: Context) -> Any:
    await ctx.record_usage(tokens=1000)


async def saved_budget(stage: Stage, ctx: Context) -> Any:
    await ctx.save("it", tokens=1000)


async def overtaken(stage: Stage, ctx: Context) -> Any:
    stage.overtake()
    await ctx.save("late")


SIGNALS: dict[str, tuple[Callable[[Stage, Context], Awaitable[Any]], type]] = {
    "approval": (approval, ApprovalNeededError),
    "budget": (budget, BudgetExceededError),
    "budget of a save": (saved_budget, BudgetExceededError),
    "overtaken": (overtaken, StaleAttemptError),
}


@pytest.mark.parametrize("how", SWALLOWERS)
@pytest.mark.parametrize("signal", SIGNALS)
async def test_a_signal_ends_the_attempt_whatever_the_agent_catches(
    stage: Stage, signal: str, how: str
) -> None:
    """
    The context remembers what it has raised, and no result is recorded.
    """
    stage.limits = Limits(tokens=500)
    ask, expected = SIGNALS[signal]

    async def play(given: Any, ctx: Context) -> str:
        return await SWALLOWERS[how](lambda: ask(stage, ctx))

    wanted = Approval(before="effect") if signal == "approval" else None
    with pytest.raises(expected):
        await asyncio.wait_for(stage.play(play, approval=wanted), BOUND_S)
    assert stage.ledger.result("trial", "only") is None


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("wait", [True, False])
async def test_a_plain_agent_cannot_swallow_a_signal(
    stage: Stage, signal: str, wait: bool
) -> None:
    """
    Whether it returns, or sleeps on in its thread.
    """
    stage.limits = Limits(tokens=500)
    ask, expected = SIGNALS[signal]

    def play(given: Any, ctx: Context) -> str:
        try:
            ctx.run_sync(ask(stage, ctx))  # type: ignore[arg-type]
        except BaseException:
            while wait and not ctx.cancelled:
                time.sleep(0.01)
        return "done"

    wanted = Approval(before="effect") if signal == "approval" else None
    with pytest.raises(expected):
        await asyncio.wait_for(stage.play(play, approval=wanted), BOUND_S)


async def test_after_a_signal_every_call_is_refused_with_it(stage: Stage) -> None:
    """
    Whatever it is, until the attempt is over.
    """
    stage.limits = Limits(tokens=500)
    refusals: list[str] = []

    async def play(given: Any, ctx: Context) -> None:
        with pytest.raises(BudgetExceededError):
            await ctx.record_usage(tokens=501)
        assert ctx.cancelled
        for call in (
            lambda: ctx.emit("on"),
            lambda: ctx.secret("x"),
            lambda: ctx.service("x"),
        ):
            with pytest.raises(BudgetExceededError):
                call()
            refusals.append("at once")
        # It was to end by itself by now.
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(BOUND_S)
        for promise in (
            lambda: ctx.save("on"),
            lambda: ctx.resume(str, ""),
            lambda: ctx.once("on", lambda key: 1, content=None),
            ctx.check_budget,
        ):
            with pytest.raises(BudgetExceededError):
                await promise()
            refusals.append("awaited")

    with pytest.raises(BudgetExceededError):
        await stage.play(play)
    assert len(refusals) == 7


async def test_an_act_under_way_is_let_finish(stage: Stage) -> None:
    """
    A signal, a failure or a timeout beside it does not make an effect unsure.
    """
    stage.limits = Limits(tokens=500)
    acted: list[str] = []

    async def slow(key: str) -> str:
        await asyncio.sleep(0.2)
        acted.append(key)
        return "paid"

    async def spends(given: Any, ctx: Context) -> None:
        paying = asyncio.create_task(ctx.once("one", slow, content=None))
        await asyncio.sleep(0.1)
        await asyncio.gather(paying, ctx.record_usage(tokens=1000))

    async def fails(given: Any, ctx: Context) -> None:
        paying = asyncio.create_task(ctx.once("two", slow, content=None))
        await asyncio.sleep(0.1)
        await asyncio.gather(paying, ctx.resume(int, 1 // 0))

    async def times_out(given: Any, ctx: Context) -> None:
        async with asyncio.timeout(0.1):
            await ctx.once("three", slow, content=None)

    for play in (spends, fails, times_out):
        with pytest.raises((BudgetExceededError, ZeroDivisionError, TimeoutError)):
            await stage.play(play)

    stage.limits = Limits()

    async def again(given: Any, ctx: Context) -> list[Any]:
        return [
            await ctx.once(key, slow, content=None) for key in ("one", "two", "three")
        ]

    await stage.play(again)
    assert stage.result() == ["paid"] * 3
    assert len(acted) == 3


async def test_a_drain_lets_an_act_finish(stage: Stage) -> None:
    """
    Within the grace, so that its record is written; the agent is ended.
    """
    began, acted = asyncio.Event(), asyncio.Event()

    async def slow(key: str) -> str:
        began.set()
        await asyncio.sleep(0.2)
        acted.set()
        return "paid"

    async def play(given: Any, ctx: Context) -> Any:
        return await ctx.once("one", slow, content=None)

    playing = asyncio.ensure_future(stage.play(play))
    await asyncio.wait_for(began.wait(), BOUND_S)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert acted.is_set()
    await stage.play(play)
    assert stage.result() == "paid"


# What cannot be ended


@pytest.mark.parametrize("plain", [True, False])
async def test_a_stall_that_cannot_be_ended_is_left_behind(
    stage: Stage, held: Held, plain: bool
) -> None:
    """
    The attempt fails after its limit and the grace and names the line it waits at;
    what it was is counted as leaked until it ends, and can do nothing any more.
    """
    stage.policy = Policy(stall_s=0.1)
    kept: list[Context] = []

    def plainly(given: Any, ctx: Context) -> None:
        kept.append(ctx)
        held.plain(given, ctx)

    async def swallowing(given: Any, ctx: Context) -> None:
        kept.append(ctx)
        await held.swallowing(given, ctx)

    with pytest.raises(StalledError, match=r"at \w+\.py:\d+ in \w+: .*ctx\.emit"):
        await asyncio.wait_for(
            stage.play(plainly if plain else swallowing), CANCEL_GRACE_S + 3
        )
    assert stage.leaks == 1
    assert kept[0].cancelled
    with pytest.raises(StaleAttemptError):
        await kept[0].save("late")
    with pytest.raises(StaleAttemptError):
        kept[0].emit("late")
    held.free.set()
    await asyncio.wait_for(stage.unleaks.wait(), BOUND_S)
    assert stage.leaks == 0


@pytest.mark.parametrize("plain", [True, False])
async def test_a_cancelled_mission_waits_for_nobody(
    stage: Stage, held: Held, plain: bool
) -> None:
    """
    An agent that swallows its cancellation is left behind after the grace.
    """
    began = asyncio.get_running_loop().time()
    play = held.plain if plain else held.swallowing
    playing = asyncio.ensure_future(stage.play(play))
    await asyncio.sleep(0.1)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert asyncio.get_running_loop().time() - began < CANCEL_GRACE_S + 1.5
    assert stage.leaks == 1


async def test_a_plain_agent_is_told_that_it_is_to_end(stage: Stage) -> None:
    """
    By `ctx.cancelled`, and by the end of what it awaits: nothing is left behind.
    """
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def polls(given: Any, ctx: Context) -> None:
        loop.call_soon_threadsafe(began.set)
        while not ctx.cancelled:
            time.sleep(0.01)

    async def for_long() -> None:
        began.set()
        await asyncio.sleep(60)

    def awaits(given: Any, ctx: Context) -> None:
        ctx.run_sync(for_long())

    for play in (polls, awaits):
        began.clear()
        playing = asyncio.ensure_future(stage.play(play))
        await asyncio.wait_for(began.wait(), BOUND_S)
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(playing), BOUND_S)
    assert stage.leaks == 0


async def test_a_thread_is_used_again(stage: Stage) -> None:
    """
    By whoever comes next, also when it has waited for long; one that hangs never is.
    """
    idents: list[int] = []

    def play(given: Any, ctx: Context) -> None:
        idents.append(threading.get_ident())

    for n in range(4):
        await stage.play(play, name=f"task-{n}")
    assert len(set(idents)) < 4


async def test_forty_that_hang_starve_nobody(stage: Stage, held: Held) -> None:
    """
    Plain agents have a thread each.
    """
    stage.policy = Policy(stall_s=30)
    hanging = [
        asyncio.ensure_future(stage.play(held.plain, name=f"hang-{n}"))
        for n in range(40)
    ]
    await asyncio.wait_for(
        stage.play(lambda given, ctx: "innocent", name="innocent"), BOUND_S
    )
    held.free.set()
    await asyncio.wait_for(asyncio.gather(*hanging), BOUND_S)


@pytest.mark.parametrize("plain", [True, False])
async def test_an_item_that_cannot_be_ended_holds_no_batch_up(
    lender: Lender, held: Held, plain: bool
) -> None:
    """
    It is a dead letter with its cause, the others are done, the rest is leaked.
    """

    def plainly(given: dict[str, int], ctx: Context) -> int:
        if given["n"] == 8:
            held.plain(given, ctx)
        return given["n"]

    async def swallowing(given: dict[str, int], ctx: Context) -> int:
        if given["n"] == 8:
            await held.swallowing(given, ctx)
        return given["n"]

    lender.policy = Policy(failures=1, stall_s=0.3)
    lender.fill(numbered(20))
    await lender.work(plainly if plain else swallowing)
    assert list(lender.shelf.dead()) == [8]
    assert "no progress" in lender.shelf.dead()[8].cause
    assert lender.hand.leaks == 1


async def test_a_beat_is_sent_before_the_agents_first_line(stage: Stage) -> None:
    """
    One that blocks from there on is known to have begun.
    """
    beaten: list[int] = []

    async def play(given: Any, ctx: Context) -> None:
        beaten.append(len(stage.beats))

    await stage.play(play)
    assert beaten[0] >= 1


class LedgerThatWaits(Ledger):
    """
    A ledger whose *method* waits for a store that is away.
    """

    def __init__(self, store: Store, method: str) -> None:
        super().__init__(store)
        self.back = threading.Event()
        self._method = method

    def begin(self, *args: Any) -> Any:
        assert self._method != "begin" or self.back.wait(BOUND_S)
        return super().begin(*args)

    def record_text(self, *args: Any) -> None:
        assert self._method != "record" or self.back.wait(BOUND_S)
        super().record_text(*args)


@pytest.mark.parametrize("method", ["begin", "record"])
async def test_beats_go_on_while_the_store_is_away(
    stage: Stage, store: Store, method: str
) -> None:
    """
    Before the agent's first line and after its last: it is not taken for lost.
    """
    stage.ledger = ledger = LedgerThatWaits(store, method)
    beaten = asyncio.Event()

    def beat(_: Heartbeat) -> None:
        if len(stage.beats) > 5:
            beaten.set()

    stage.on_beat = beat

    async def play(given: Any, ctx: Context) -> str:
        return "done"

    attempt = asyncio.ensure_future(stage.play(play))
    await asyncio.wait_for(beaten.wait(), BOUND_S)
    ledger.back.set()
    await attempt


async def test_exits_have_a_kind_of_their_own(stage: Stage) -> None:
    """
    The report says that the agent asked the process to exit.
    """
    assert isinstance(await failure(stage.play(failing("exit"))), AgentExitedError)
