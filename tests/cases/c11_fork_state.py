"""What a module makes when it is imported, used by every process that is forked from it."""

import asyncio
import os
import random
import uuid
from pathlib import Path

from outlast import Context, agent

RNG = random.Random()  # seeded from the kernel, once
WORKER = uuid.uuid4().hex[:8]  # "who am I"
BORN_AS = os.getpid()


@agent("c11-ids")
async def ids(given: dict, ctx: Context) -> dict:
    ticket = RNG.getrandbits(64)
    line = f"pid {os.getpid()} born_as {BORN_AS} worker {WORKER} ticket {ticket:x} global {random.getrandbits(32):x}"
    with Path(given["log"]).open("a") as file:
        file.write(line + "\n")
    await asyncio.sleep(0.5)
    return {"summary": f"{ticket:x}"}
