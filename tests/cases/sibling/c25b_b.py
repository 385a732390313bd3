"""Uses the agent beside it as a function."""

from c25b_a import first

from outlast import Context, agent


@agent("c25-b")
async def second(given: dict, ctx: Context) -> dict:
    return await first(given, ctx)
