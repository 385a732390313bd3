"""An agent that another module of the same crew imports too."""

from outlast import Context, agent


@agent("c25-a")
async def first(given: dict, ctx: Context) -> dict:
    return {"summary": "a"}
