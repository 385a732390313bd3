"""
How commands are written that a person is to paste: the way they called this program.

In messages, also in those that are stored, a command is written `outlast VERB` or
`outlast-worker`, as it is called where it is installed. Who has called it in another
way, as `python starter.py` in a checkout, is shown the command in that way.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

USUAL, WORKER = "outlast", "outlast-worker"
# Handed down to the processes that we start: what these say is read by the same person.
CALLED = "OUTLAST_CALLED"

# How each way to start workers is called to start a mission.
CLIENTS = {"outlast-worker": "outlast", "worker.py": "starter.py"}
CLIENTS |= {"outlast.worker": "outlast"}
_NAMED = re.compile(r"(?<![\w./'-])(?<!-m )outlast(-worker\b|(?= [a-z]))")


def note_call() -> None:
    """
    Remember how this process was called, unless the one that started it was called by
    a person, or the environment says how people call us, as from outside a container.
    """
    if not os.environ.get(CALLED):
        os.environ[CALLED] = called(sys.argv, sys.orig_argv)


def called(given: Sequence[str], whole: Sequence[str]) -> str:
    """
    Say how a person who typed *whole* calls the client, *given* being sys.argv.
    """
    script = Path(given[0])
    if script.name in (USUAL, WORKER):
        found = shutil.which(script.name)
        known = found is not None and Path(found).resolve() == script.resolve()
        return USUAL if known else shlex.quote(str(script.with_name(USUAL)))
    *before, last = whole[: len(whole) - len(given) + 1]
    folder, slash, name = last.rpartition("/")
    return shlex.join([*before, f"{folder}{slash}{CLIENTS.get(name, name)}"])


def as_called(text: str) -> str:
    """
    Write the commands in *text* of ours in the way that this program was called.
    """
    client = os.environ.get(CALLED) or USUAL
    if client == USUAL:
        return text
    return _NAMED.sub(lambda found: worker(client) if found[1] else client, text)


def worker(client: str) -> str:
    """
    Say how a person who calls the client as *client* starts workers.
    """
    if client.endswith("starter.py"):
        return f"{client.removesuffix('starter.py')}worker.py"
    if client.endswith("-m outlast"):
        return f"{client}.worker"
    return f"{client}-worker" if client.endswith("/outlast") else WORKER


def tell(text: str, file: TextIO | None = None) -> None:
    print(as_called(text), file=file, flush=True)
