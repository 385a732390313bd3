"""
An agent that counts to ten with a model: its third and sixth tool acts, its seventh
waits on the first attempt.
"""

import asyncio
from pathlib import Path

from pydantic import BaseModel

from activities.thinking.thought import Thought, think
from outlast import Run, agent


class Order(BaseModel):
    log: Path


class Counted(BaseModel):
    total: int


@agent("counter.model")
async def count(order: Order, run: Run) -> Counted:
    """
    Count.
    """

    def note(event: str) -> None:
        with order.log.open("a") as file:
            file.write(f"{event}\n")

    async def look(number: int) -> str:
        note(f"look {number}")
        if number == 7 and run.attempt == 1:
            await asyncio.sleep(60)
        return "seen"

    async def pay(number: int) -> str:
        await run.once(f"{run.key}:{number}", lambda key: note(f"pay {number}"))
        return "paid"

    return await think(Thought("Count.", "How many?", Counted, (look, pay)), run)
