"""Generators are no agents: what they yield would be lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from outlast import Context, agent


@agent("c22-asyncgen")
async def asyncgen(given: dict, ctx: Context) -> AsyncIterator[dict]:
    for n in range(3):
        await asyncio.sleep(0.01)
        yield {"n": n}


@agent("c22-gen")
def gen(given: dict, ctx: Context) -> Iterator[dict]:
    for n in range(3):
        ctx.run_sync(ctx.save(n))
        yield {"n": n}
