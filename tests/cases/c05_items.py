"""Items whose agent raises or swallows CancelledError."""

import asyncio

from outlast import Context, agent


@agent("c05-item")
async def item(given: dict, ctx: Context) -> dict:
    how = given.get("how")
    if how == "cancelled":
        helper = asyncio.create_task(asyncio.sleep(60))
        helper.cancel()
        await helper
    if how == "swallow":
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass  # a retry decorator that catches BaseException
    await asyncio.sleep(0.01)
    return {"n": given["n"]}
