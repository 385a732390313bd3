"""Agents that raise what is no Exception."""

import asyncio
from pathlib import Path

from outlast import Context, agent


class Suspend(BaseException):
    """As durable frameworks and test runners have them."""


def note(given: dict, ctx: Context) -> None:
    with Path(given["log"]).open("a") as file:
        file.write(f"attempt {ctx.attempt}\n")


@agent("c03-base")
async def base(given: dict, ctx: Context) -> dict:
    note(given, ctx)
    raise Suspend("stop here")


@agent("c03-cancelled")
async def cancelled(given: dict, ctx: Context) -> dict:
    note(given, ctx)
    helper = asyncio.create_task(asyncio.sleep(60))
    helper.cancel()  # a client that shuts its own reader down
    await helper
    return {}


@agent("c03-keyboard")
async def keyboard(given: dict, ctx: Context) -> dict:
    note(given, ctx)
    raise KeyboardInterrupt


@agent("c03-keyboard-plain")
def keyboard_plain(given: dict, ctx: Context) -> dict:
    note(given, ctx)
    raise KeyboardInterrupt


@agent("c03-exit-in-group")
async def exit_in_group(given: dict, ctx: Context) -> dict:
    note(given, ctx)

    async def tool() -> None:
        import argparse

        argparse.ArgumentParser().parse_args(["--no-such-option"])  # exits

    async with asyncio.TaskGroup() as group:
        group.create_task(tool())
    return {}


@agent("c03-neighbour")
async def neighbour(given: dict, ctx: Context) -> dict:
    note(given, ctx)
    for step in range(60):
        await asyncio.sleep(0.25)
        ctx.emit(f"step {step}")
    return {"summary": f"ended on attempt {ctx.attempt}"}
