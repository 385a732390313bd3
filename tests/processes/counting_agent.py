"""
An agent that counts to ten with a model: its third and sixth tool acts, its seventh
waits on the first attempt.
"""

import asyncio
from pathlib import Path

from pydantic import BaseModel

from outlast import Context, agent
from outlast.crew.llm.prompt import Prompt, ask_model


class Order(BaseModel):
    log: Path


class Counted(BaseModel):
    total: int


@agent("counter.model")
async def count(order: Order, ctx: Context) -> Counted:
    """
    Count.
    """

    def note(event: str) -> None:
        with order.log.open("a") as file:
            file.write(f"{event}\n")

    async def look(number: int) -> str:
        note(f"look {number}")
        if number == 7 and ctx.attempt == 1:
            await asyncio.sleep(60)
        return "seen"

    async def pay(number: int) -> str:
        await ctx.once(
            f"{ctx.key}:{number}", lambda key: note(f"pay {number}"), content=None
        )
        return "paid"

    return await ask_model(Prompt("Count.", "How many?", Counted, (look, pay)), ctx)
