"""Child processes of an agent, the ways the standard library starts and ends them."""

import asyncio
import multiprocessing as mp
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from outlast import Policy, Context, agent


def square(x: int) -> int:
    return x * x


def idle() -> None:
    time.sleep(600)


def note(given: dict, text: str) -> None:
    with Path(given["log"]).open("a") as file:
        file.write(text + "\n")


@agent("c08-terminate", policy=Policy(failures=1))
def terminate(given: dict, ctx: Context) -> dict:
    note(given, f"attempt {ctx.attempt} pid {os.getpid()}")
    child = mp.get_context("fork").Process(target=idle)
    child.start()
    time.sleep(0.3)
    child.terminate()
    child.join(5)
    alive = child.is_alive()
    if alive:
        child.kill()
    time.sleep(1.0)
    note(given, f"attempt {ctx.attempt} alive after terminate: {alive}")
    return {"summary": f"attempt {ctx.attempt}, child survived terminate: {alive}"}


@agent("c08-pool", policy=Policy(failures=1))
def pool(given: dict, ctx: Context) -> dict:
    note(given, f"attempt {ctx.attempt} pid {os.getpid()}")
    with mp.get_context("fork").Pool(2) as workers:
        found = workers.map(square, range(5))
    note(given, f"attempt {ctx.attempt} after the pool")
    return {"summary": f"attempt {ctx.attempt}: {found}"}


@agent("c08-spawn", policy=Policy(failures=1))
def spawned(given: dict, ctx: Context) -> dict:
    with ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as workers:
        return {"summary": f"{list(workers.map(square, range(5)))}"}


@agent("c08-forkpool", policy=Policy(failures=1))
def forked(given: dict, ctx: Context) -> dict:
    with ProcessPoolExecutor(2, mp_context=mp.get_context("fork")) as workers:
        return {"summary": f"{list(workers.map(square, range(5)))}"}


@agent("c08-subprocess", policy=Policy(failures=1))
async def asyncio_subprocess(given: dict, ctx: Context) -> dict:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(6*7)", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return {"summary": out.decode().strip()}


@agent("c09-orphan")
async def orphan(given: dict, ctx: Context) -> dict:
    """A tool that runs a command for a while, and a process that is killed meanwhile."""
    code = (
        "import os,sys,time\n"
        "for n in range(100):\n"
        "    print(sys.argv[2], os.getpid(), n, file=open(sys.argv[1],'a'), flush=True)\n"
        "    time.sleep(0.2)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, given["log"], f"attempt-{ctx.attempt}"
    )
    while process.returncode is None:
        ctx.emit("compiling")
        if ctx.attempt == 1 and Path(given["log"]).exists():
            await asyncio.sleep(1)
            os.kill(os.getpid(), 9)
        await asyncio.sleep(0.2)
        if ctx.attempt > 1 and len(Path(given["log"]).read_text().splitlines()) > 30:
            process.kill()
            break
    return {"summary": f"attempt {ctx.attempt}"}
