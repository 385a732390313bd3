"""Guests of every kind, each beside innocents in the same processes."""

import argparse
import asyncio
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from outlast import Context, GiveUp, Policy, agent

ONCE = Policy(failures=1, stall_s=1.0)


@agent("innocent")
async def innocent(given: dict, ctx: Context) -> dict:
    """Works for three seconds and saves each step."""
    done = await ctx.resume(list, [])
    for step in range(len(done), 30):
        await asyncio.sleep(0.1)
        done.append(time.time())
        await ctx.save(done)
    gaps = [after - before for before, after in itertools.pairwise(done)]
    return {"attempt": ctx.attempt, "steps": len(done), "longest_gap_s": max(gaps)}


class Odd(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("it cannot even be printed")


@agent("raises-what-cannot-be-printed", policy=ONCE)
async def unprintable(given: dict, ctx: Context) -> dict:
    raise Odd


@agent("exits-in-a-task", policy=ONCE)
async def exits_in_a_task(given: dict, ctx: Context) -> dict:
    async def tool() -> None:
        argparse.ArgumentParser().parse_args(["--no-such-option"])

    await asyncio.create_task(tool())
    return {}


@agent("interrupts-in-a-forgotten-task", policy=ONCE)
async def forgotten(given: dict, ctx: Context) -> dict:
    async def tool() -> None:
        await asyncio.sleep(0.1)
        raise KeyboardInterrupt

    task = asyncio.create_task(tool())
    await asyncio.sleep(0.5)
    return {"forgotten": task.done()}


@agent("exits-in-a-thread", policy=ONCE)
def exits_in_a_thread(given: dict, ctx: Context) -> dict:
    sys.exit(5)


@agent("stops-the-loop", policy=ONCE)
async def stops_the_loop(given: dict, ctx: Context) -> dict:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    return {}


@agent("swallows-its-cancellation", policy=ONCE)
async def swallows(given: dict, ctx: Context) -> dict:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@agent("hangs-in-a-thread", policy=ONCE)
def hangs(given: dict, ctx: Context) -> dict:
    threading.Event().wait()
    return {}


@agent("leaves-a-process", policy=ONCE, isolation="process")
async def leaves(given: dict, ctx: Context) -> dict:
    left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    Path(given["log"]).write_text(str(left.pid))
    raise RuntimeError("and fails")


@agent("takes-sigterm", policy=ONCE)
async def takes_sigterm(given: dict, ctx: Context) -> dict:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return {}


@agent("eats-the-stack", policy=ONCE)
async def eats_the_stack(given: dict, ctx: Context) -> dict:
    return await eats_the_stack.play(given, ctx)


@agent("gives-up-in-a-group", policy=ONCE)
async def gives_up(given: dict, ctx: Context) -> dict:
    async def tool() -> None:
        raise GiveUp("there is no such account")

    async with asyncio.TaskGroup() as group:
        group.create_task(tool())
        group.create_task(asyncio.sleep(60))
    return {}


@agent("blocks-for-a-while", policy=ONCE)
async def blocks(given: dict, ctx: Context) -> dict:
    time.sleep(1.6)
    return {}


# -- what takes its process along


@agent("exits-hard", policy=Policy(crashes=1))
async def exits_hard(given: dict, ctx: Context) -> dict:
    await asyncio.sleep(1)
    os._exit(given.get("code", 3))


@agent("segfaults", policy=Policy(crashes=1))
async def segfaults(given: dict, ctx: Context) -> dict:
    await asyncio.sleep(1)
    ctypes.string_at(0)
    return {}
