"""The same tool loop, with a budget of the mission's."""

from outlast import Context, agent


@agent("c01-spender")
async def spender(given: dict, ctx: Context) -> dict:
    calls = 0
    for _ in range(20):
        try:
            calls += 1
            await ctx.record_usage(tokens=1000)
        except Exception:
            pass
    return {"summary": f"{calls} calls made"}
