"""Missions that are cancelled while a plain agent, or one that swallows it, works."""

import asyncio
import os
import time
from pathlib import Path

from outlast import Context, agent


def note(given: dict, text: str) -> None:
    with Path(given["log"]).open("a") as file:
        file.write(f"{time.time():.1f} pid {os.getpid()} {text}\n")


@agent("c19-plain")
def plain(given: dict, ctx: Context) -> dict:
    for n in range(150):
        note(given, f"attempt {ctx.attempt} step {n}")
        ctx.emit(f"step {n}")
        time.sleep(0.2)
    return {}


@agent("c19-swallow")
async def swallow(given: dict, ctx: Context) -> dict:
    for n in range(1000):
        try:
            note(given, f"attempt {ctx.attempt} step {n}")
            ctx.emit(f"step {n}")
            await asyncio.sleep(0.2)
        except BaseException:
            note(given, "swallowed")
    return {}
