"""A module that prints when it is imported."""

from outlast import Context, agent

print("loading the model ...")


@agent("c30-prints")
async def prints(given: dict, ctx: Context) -> dict:
    print("thinking ...")
    return {"summary": "done"}
