"""A plain agent with one call into C that keeps the interpreter for a few seconds."""

import time
from pathlib import Path

from outlast import Context, agent


@agent("c38-native")
def native(given: dict, ctx: Context) -> dict:
    began = time.monotonic()
    with Path(given["log"]).open("a") as file:
        file.write(f"attempt {ctx.attempt} begins\n")
    total = sum(range(given["n"]))  # one opcode: no other thread runs meanwhile
    with Path(given["log"]).open("a") as file:
        file.write(
            f"attempt {ctx.attempt} done after {time.monotonic() - began:.1f} s\n"
        )
    return {"summary": str(total)}
