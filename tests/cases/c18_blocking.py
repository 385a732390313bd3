"""An ordinary blocking client in an async agent: in the effect, and beside it."""

import time
from pathlib import Path

from outlast import Context, agent


def pay(log: str, key: str) -> dict:
    with Path(log).open("a") as file:
        file.write(f"request {key}\n")
    time.sleep(1.6)  # requests.post to a payment service on a slow day
    with Path(log).open("a") as file:
        file.write(f"answer {key}\n")
    return {"receipt": 1}


@agent("c18-effect")
async def effect(given: dict, ctx: Context) -> dict:
    paid = await ctx.once(
        "c18:pay", lambda key: pay(given["log"], key), content=None, if_unsure="repeat"
    )
    return {"summary": str(paid)}


@agent("c18-effect-park")
async def effect_park(given: dict, ctx: Context) -> dict:
    paid = await ctx.once(
        "c18:pay-park", lambda key: pay(given["log"], key), content=None
    )
    return {"summary": str(paid)}


@agent("c18-plain")
def plain(given: dict, ctx: Context) -> dict:
    paying = ctx.once("c18:pay-plain", lambda key: pay(given["log"], key), content=None)
    return {"summary": str(ctx.run_sync(paying))}


@agent("c18-look")
async def look(given: dict, ctx: Context) -> dict:
    time.sleep(1.6)  # a blocking read
    return {"summary": "looked"}
