"""A model that asks for the same tool twice in one turn; the framework runs both at once."""

import asyncio
from pathlib import Path

from outlast import Context, agent


async def pay(log: str, key: str) -> dict:
    with Path(log).open("a") as file:
        file.write(f"begun {key}\n")
    await asyncio.sleep(0.3)
    with Path(log).open("a") as file:
        file.write(f"paid {key}\n")
    return {"receipt": 1}


@agent("c17-repeat")
async def repeat(given: dict, ctx: Context) -> dict:
    calls = [
        ctx.once(
            "c17:repeat",
            lambda key: pay(given["log"], key),
            content=None,
            if_unsure="repeat",
        )
        for _ in range(2)
    ]
    return {"summary": str(await asyncio.gather(*calls))}


@agent("c17-park")
async def park(given: dict, ctx: Context) -> dict:
    calls = [
        ctx.once("c17:park", lambda key: pay(given["log"], key), content=None)
        for _ in range(2)
    ]
    return {"summary": str(await asyncio.gather(*calls))}


@agent("c17-across")
async def across(given: dict, ctx: Context) -> dict:
    paid = await ctx.once(
        "c17:across",
        lambda key: pay(given["log"], key),
        content=None,
        if_unsure=given["unsure"],
    )
    return {"summary": str(paid)}


@agent("c17-saves")
async def saves(given: dict, ctx: Context) -> dict:
    got = await ctx.resume(list, [])
    if got:
        return {"summary": f"resumed {got}"}
    done: list[int] = []

    async def step(n: int) -> None:
        await asyncio.sleep(0.01 * n)
        done.append(n)
        await ctx.save(list(done))

    await asyncio.gather(*(step(n) for n in range(8)))
    raise RuntimeError("once more")
