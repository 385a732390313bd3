"""Asks to be tried later, as when a service said so; meanwhile the server's clock is set back."""

from datetime import timedelta

from outlast import Context, TryLater, agent


@agent("c26-later")
async def later(given: dict, ctx: Context) -> dict:
    n = await ctx.resume(int, 0)
    if n == 0:
        await ctx.save(1)
        raise TryLater(timedelta(seconds=6))
    return {"summary": f"attempt {ctx.attempt}"}
