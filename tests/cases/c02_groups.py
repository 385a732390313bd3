"""Control-flow exceptions that leave a TaskGroup come as an ExceptionGroup."""

import asyncio
from pathlib import Path

from outlast import GiveUp, Context, agent


@agent("c02-approval")
async def approval(given: dict, ctx: Context) -> dict:
    Path(given["log"]).open("a").write(f"attempt {ctx.attempt}\n")
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.once("c02:pay", lambda key: "paid", content=None))
    return {"summary": "paid"}


@agent("c02-giveup")
async def giveup(given: dict, ctx: Context) -> dict:
    async def tool() -> None:
        Path(given["log"]).open("a").write(f"attempt {ctx.attempt}\n")
        raise GiveUp("the account does not exist")

    async with asyncio.TaskGroup() as group:
        group.create_task(tool())
    return {}


@agent("c02-plain-group")
async def plain_group(given: dict, ctx: Context) -> dict:
    async def tool() -> None:
        raise ValueError("column 'iban' is missing in customers.csv")

    async with asyncio.TaskGroup() as group:
        group.create_task(tool())
    return {}
