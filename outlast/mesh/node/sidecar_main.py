"""
The gossip process of a peer, beside its fleet: no agent shares it, so none blocks it.

It takes its place in the mesh first, which refuses what cannot be, and imports what is
heavy while its peers see it already. When its parent is gone it goes at once.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.mesh.node.membership import Place
from outlast.mesh.node.swim import Swim
from outlast.process.json_output import answer, keep_for_answer
from outlast.process.programs import module
from outlast.process.safe_output import guard_streams
from outlast.settings import Settings, settings

if TYPE_CHECKING:
    from outlast.mesh.node.node import Shell

BAD_INPUT = 2  # tells the parent that trying again changes nothing


def main() -> NoReturn:
    """
    Be the gossip of a peer until told to stop, then end the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, by SIGTERM
    keep_for_answer()  # agents' modules may print
    guard_streams()
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    for library in ("alembic", "temporalio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    code = 1
    try:
        asyncio.run(_gossip(_place(sys.argv[1:])))
        code = 0
    except OutlastError as error:
        _tell({"refused": str(error)})
        code = BAD_INPUT if isinstance(error, BadInputError) else 1
    except BaseException:
        logging.getLogger("outlast.mesh").exception("gossip.failed")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(line: dict[str, str]) -> None:
    """
    Say *line* to the fleet.
    """
    answer(line)


async def _gossip(place: Place) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))  # nobody writes there
    membership = Swim(place, {})
    await membership.start()
    _tell({"mesh": membership.address})
    await _serve(membership, settings(), stop)


async def _serve(membership: Swim, chosen: Settings, stop: asyncio.Event) -> None:
    from outlast.mesh.node.control_api import Desk
    from outlast.mesh.node.control_socket import Control

    shell = await asyncio.to_thread(_put_together, membership, chosen)
    await membership.tell(shell.facts)
    control = Control(chosen.home, Desk(shell).answer)
    await control.start()
    running = asyncio.create_task(shell.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        running.cancel()
        await shell.leave()
    finally:
        control.close()


def _put_together(membership: Swim, chosen: Settings) -> "Shell":
    """
    Load the agents and the log, and make the peer of them.

    :raises BadInputError: when the agents cannot be loaded or a role is unknown.
    """
    from outlast.agents.agent_loading import load, playing
    from outlast.dev.locks import home_of
    from outlast.ledger.run_permits import host_s, permits_of
    from outlast.mesh.core.ownership import Presence
    from outlast.mesh.core.peer import Clocks, PeerCore
    from outlast.mesh.node.endpoint import Endpoint, Line
    from outlast.mesh.node.event_store import EventLog
    from outlast.mesh.node.node import Shell
    from outlast.process.opening import open_store

    name = membership.place.name
    roles = playing(load(chosen.modules), chosen.role_names)
    store = open_store(chosen)
    me = Presence(name=name, roles=frozenset(roles))
    log = EventLog(store, name).load()
    core = PeerCore(me, int(time.time() * 1000), log, Clocks(host_s, time.time))
    permits = permits_of(home_of(chosen))
    line = Line(name)
    endpoint = Endpoint(store, permits, line)
    return Shell(core, membership, store, endpoint, line.place(store.id))


def command(place: Place) -> list[str]:
    """
    Say how a process is started that takes *place*. Its key is in the environment.
    """
    joins = [part for seed in place.seeds for part in ("--join", seed)]
    program = module("outlast.mesh.node.sidecar_main")
    return [*program, "--peer", place.name, "--bind", place.bind, *joins]


def _place(arguments: list[str]) -> Place:
    reader = argparse.ArgumentParser()
    reader.add_argument("--peer", required=True)
    reader.add_argument("--bind", required=True)
    reader.add_argument("--join", action="append", default=[])
    told = reader.parse_args(arguments)
    key = settings().mesh_key
    secret = None if key is None else key.get_secret_value()
    return Place(told.peer, told.bind, tuple(told.join), secret)


if __name__ == "__main__":
    main()
