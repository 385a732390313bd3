"""
Whatever ends an agent, its cause names the line of the user's own code.
"""

import asyncio
from typing import Any

import pytest

from outlast.execution.exceptions import error_text, failure_of
from outlast.execution.tracebacks import describe_failure


async def cancels() -> None:
    helper = asyncio.create_task(asyncio.sleep(60))
    helper.cancel()
    await helper


async def groups() -> None:
    async def tool() -> None:
        raise ValueError("iban")

    async with asyncio.TaskGroup() as group:
        group.create_task(tool())


async def exits() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("act", "place"),
    [
        (cancels, "test_traced_ends.py:17 in cancels: await helper"),
        (groups, 'test_traced_ends.py:22 in tool: raise ValueError("iban")'),
        (exits, "test_traced_ends.py:29 in exits: raise SystemExit(3)"),
    ],
)
async def test_the_cause_names_the_users_line(act: Any, place: str) -> None:
    """
    Also of what is no Exception, and of what a group has raised.
    """
    error: BaseException = ValueError()
    try:
        await act()
    except BaseException as raised:
        error = raised
    failure = failure_of(error)
    cause, trace = describe_failure(failure, error_text(failure))
    assert cause.endswith(f"({place})")
    assert place.split(": ", 1)[1] in trace
    assert "outlast/attempt" not in trace
