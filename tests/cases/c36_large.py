"""A result over the cap, from an agent that cannot know."""

from pathlib import Path

from outlast import Context, agent


@agent("c36-large")
async def large(given: dict, ctx: Context) -> dict:
    with Path(given["log"]).open("a") as file:
        file.write(f"attempt {ctx.attempt}: the model is paid\n")
    return {"summary": "a long page", "page": "x" * 70_000}


@agent("c36-recursion")
async def recursion(given: dict, ctx: Context) -> dict:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    return {"n": deeper(0)}


@agent("c36-memory")
async def memory(given: dict, ctx: Context) -> dict:
    return {"n": len(bytearray(1 << 50))}


@agent("c36-nested")
async def nested(given: dict, ctx: Context) -> dict:
    value: list = []
    for _ in range(5000):
        value = [value]
    return {"n": value}
