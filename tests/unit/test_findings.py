"""
`outlast.testing` tells of mistakes that show only when something fails.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

import outlast.testing
from outlast.agents.agent import Agent
from outlast.agents.context import Context
from outlast.contracts.approvals import Approval
from outlast.contracts.errors import (
    ApprovalNeededError,
    BudgetExceededError,
    CheckpointError,
    UnawaitedError,
)
from outlast.contracts.tasks import Limits

pytestmark = pytest.mark.filterwarnings("ignore::outlast.testing.AgentWarning")

LEAVE = Approval(before="effect")
Play = Callable[..., Any]


async def findings(play: Play, **more: Any) -> list[str]:
    """
    Try an agent; returns what was found, however it ended.
    """
    try:
        ended = await outlast.testing.run(Agent("guest", 1, play), {}, **more)
    except Exception as error:
        return getattr(error, "__notes__", [])
    return ended.findings


async def good(given: dict[str, Any], ctx: Context) -> int:
    done = await ctx.resume(int, 0)
    await ctx.once("mail:1", lambda key, sent: "sent", content="mail 1")
    await asyncio.gather(ctx.save(done + 1), ctx.check_budget())
    return done


def good_plain(given: dict[str, Any], ctx: Context) -> int:
    done = ctx.run_sync(ctx.resume(int, 0))
    ctx.run_sync(ctx.save(done + 1))
    return done


async def in_group(given: dict[str, Any], ctx: Context) -> int:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.once("a", lambda key, sent: 1, content="a"))
        group.create_task(ctx.once("b", lambda key, sent: 1, content="b"))
    return 1


@pytest.mark.parametrize("play", [good, good_plain, in_group])
@pytest.mark.parametrize("approval", [None, LEAVE])
async def test_nothing_is_found_of_an_agent_without_mistakes(
    play: Play, approval: Approval | None
) -> None:
    assert await findings(play, approval=approval) == []
    if approval is None:
        await outlast.testing.run(Agent("guest", 1, play), {})


async def swallows(given: dict[str, Any], ctx: Context) -> str:
    try:
        await ctx.once("mail:1", lambda key, sent: "sent", content="mail 1")
    except Exception:
        return "gave the model the error"
    return "sent"


def swallows_plain(given: dict[str, Any], ctx: Context) -> str:
    try:
        ctx.run_sync(ctx.once("mail:1", lambda key, sent: "sent", content="mail 1"))
    except Exception:
        return "gave the model the error"
    return "sent"


async def asks_again(given: dict[str, Any], ctx: Context) -> str:
    for number in range(20):
        try:
            await ctx.once(f"mail:{number}", lambda key, sent: "sent", content=number)
        except Exception:
            continue
    return "sent"


@pytest.mark.parametrize("play", [swallows, swallows_plain, asks_again])
async def test_a_swallowed_approval_is_told(play: Play) -> None:
    """
    With what was caught, and where the agent went on.
    """
    (told,) = await findings(play, approval=LEAVE)
    assert "guest caught ApprovalNeededError" in told
    assert "went on to" in told


async def test_a_swallowed_budget_is_told() -> None:
    async def spends(given: dict[str, Any], ctx: Context) -> str:
        for _ in range(5):
            try:
                await ctx.record_usage(tokens=1_000)
            except Exception:
                continue
        return "spent"

    (told,) = await findings(spends, limits=Limits(tokens=1_500))
    assert "BudgetExceededError" in told
    assert "test_findings.py:" in told


async def test_the_signals_themselves_end_a_trial() -> None:
    with pytest.raises(ApprovalNeededError):
        await outlast.testing.run(Agent("guest", 1, good), {}, approval=LEAVE)

    async def spends(given: dict[str, Any], ctx: Context) -> None:
        await ctx.record_usage(tokens=1_000)

    agent = Agent("guest", 1, spends)
    with pytest.raises(BudgetExceededError):
        await outlast.testing.run(agent, {}, limits=Limits(tokens=1))


async def test_progress_that_would_be_lost_is_told_though_it_is_swallowed() -> None:
    async def saves(given: dict[str, Any], ctx: Context) -> str:
        await ctx.resume(dict, {})
        try:
            await ctx.save({"on": date(2026, 1, 2)})
        except CheckpointError:
            return "not saved"
        return "saved"

    (told,) = await findings(saves)
    assert "on is a date and would come back as a str" in told


async def test_a_blocked_event_loop_is_told() -> None:
    """
    For how long, in which call, and where.
    """

    async def blocks(given: dict[str, Any], ctx: Context) -> str:
        time.sleep(0.8)  # noqa: ASYNC251 - it is what is told
        return "slow"

    (told,) = await findings(blocks)
    assert "guest blocked its event loop for" in told
    assert "`time.sleep` (test_findings.py:" in told


async def test_a_plain_agent_may_block() -> None:
    def blocks(given: dict[str, Any], ctx: Context) -> str:
        time.sleep(0.8)
        return "slow"

    assert await findings(blocks) == []


async def forgets(given: dict[str, Any], ctx: Context) -> str:
    ctx.save(1)
    return "not saved"


def forgets_plain(given: dict[str, Any], ctx: Context) -> str:
    ctx.save(1)
    return "not saved"


@pytest.mark.parametrize("play", [forgets, forgets_plain])
async def test_a_call_that_was_never_awaited_is_told(play: Play) -> None:
    """
    As in production: the attempt is given up, with the line.
    """
    line = play.__code__.co_firstlineno + 1
    told = rf"ctx\.save\(\.\.\.\) was never awaited \(.*test_findings\.py:{line}\)"
    with pytest.raises(UnawaitedError, match=told):
        await outlast.testing.run(Agent("guest", 1, play), {})


async def test_findings_are_warnings_too() -> None:
    """
    So that a test run shows them though nobody looks at what `run` returns.
    """
    with pytest.warns(outlast.testing.AgentWarning, match="caught"):
        await findings(swallows, approval=LEAVE)
