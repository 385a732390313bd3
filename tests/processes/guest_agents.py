"""
Agents that start processes, exit, keep globals and take signals, as users' code does.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from outlast import Context, Policy, agent

if os.environ.get("GUEST_THREAD"):  # then workers are started by exec
    threading.Thread(target=threading.Event().wait, daemon=True).start()

SEEN: list[str] = []

# Says every 20 ms that it lives.
TICKING = """
import os, sys, time
while True:
    with open(sys.argv[1], "a") as log:
        log.write(sys.argv[2] + "\\n")
    time.sleep(0.02)
"""


def note(given: dict[str, Any], line: str) -> None:
    with Path(given["log"]).open("a") as log:
        log.write(f"{line}\n")


def tick(given: dict[str, Any], name: str) -> None:
    """
    Start one that leaves the session, with nothing in its environment.
    """
    command = [sys.executable, "-c", TICKING, given["log"], name]
    subprocess.Popen(command, start_new_session=True, env={})


@agent("killed")
def killed(given: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """
    Start a process and die once it works; on the next attempt, only look.
    """
    if ctx.attempt == 1:
        tick(given, "first")
        while not Path(given["log"]).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    note(given, "second attempt")
    time.sleep(0.3)
    return {}


@agent("exits")
async def exits(given: dict[str, Any], ctx: Context) -> dict[str, Any]:
    if ctx.attempt == 1:
        os._exit(given["code"])
    return {}


@agent("forks", policy=Policy(failures=1))
def forks(given: dict[str, Any], ctx: Context) -> dict[str, Any]:
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    child.join(10)
    with fork.Pool(2) as pool:
        mapped = pool.map(abs, [-1, 2])
    return {"summary": f"ended by {-(child.exitcode or 0)}, mapped {mapped}"}


@agent("isolated", isolation="process")
async def isolated(given: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """
    Leave a global and a process, and fail once.
    """
    SEEN.append(ctx.key)
    tick(given, f"attempt {ctx.attempt}")
    await asyncio.sleep(0.1)
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")
    note(given, "second attempt")
    await asyncio.sleep(0.2)
    return {"seen": len(SEEN), "pid": os.getpid()}


@agent("listens")
async def listens(given: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """
    Take SIGTERM for itself, as a tool with a graceful end does.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    note(given, json.dumps({"attempt": ctx.attempt}))
    await asyncio.sleep(0 if ctx.attempt > 1 else 600)
    return {}
