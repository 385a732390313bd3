"""An agent in a folder with a helper beside it."""

from c25_helpers import greet

from outlast import Context, agent


@agent("c25-greet")
async def hello(given: dict, ctx: Context) -> dict:
    return {"summary": greet()}
