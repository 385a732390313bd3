"""
How programs of this package are started and ended: this very copy, from whatever
folder, by the interpreter that runs us.
"""

import asyncio
import os
import sys
from pathlib import Path
from site import getsitepackages

# Where the package is imported from: `site-packages`, or a checkout.
PLACE = str(Path(__file__).parents[2])


def module_command(name: str) -> list[str]:
    """
    Make the command that runs our module *name*. The current folder is not searched:
    another copy may lie there, or a user's modules with names of the library's.
    """
    return [sys.executable, "-P", "-m", name]


def child_environment() -> dict[str, str]:
    """
    Make the environment in which such a command finds us, installed or not.
    """
    path = os.environ.get("PYTHONPATH", "")
    if PLACE in (*getsitepackages(), *path.split(os.pathsep)):
        return dict(os.environ)
    found = os.pathsep.join(filter(None, [PLACE, path]))
    return {**os.environ, "PYTHONPATH": found}


async def end_process(process: asyncio.subprocess.Process, limit_s: float) -> None:
    """
    Ask *process* to end by SIGTERM, and kill it after *limit_s* seconds.
    """
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError:
        process.kill()
        await process.wait()
