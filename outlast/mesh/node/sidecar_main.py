"""
The gossip process of a peer, beside its fleet: no agent shares it, so none blocks it.

It joins the mesh first, which refuses a name or an address that is taken, and imports
what is heavy while its peers see it already. When its parent is gone it exits at once.
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
from outlast.mesh.node.membership import PeerConfig
from outlast.mesh.node.swim import Swim
from outlast.process.json_output import print_json_answer, reserve_stdout
from outlast.process.programs import module_command
from outlast.process.safe_output import make_streams_safe
from outlast.settings import Settings, settings

if TYPE_CHECKING:
    from outlast.mesh.node.node import PeerNode

EXIT_MESH_BAD_INPUT = 2  # tells the parent that trying again changes nothing


def main() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, by SIGTERM
    reserve_stdout()  # agents' modules may print
    make_streams_safe()
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    for library in ("alembic", "temporalio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    code = 1
    try:
        asyncio.run(_run_membership(_peer_config(sys.argv[1:])))
        code = 0
    except OutlastError as error:
        print_json_answer({"refused": str(error)})
        code = EXIT_MESH_BAD_INPUT if isinstance(error, BadInputError) else 1
    except BaseException:
        logging.getLogger("outlast.mesh").exception("sidecar.failed")
    finally:
        sys.stderr.flush()
        os._exit(code)


async def _run_membership(place: PeerConfig) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))  # its end
    membership = Swim(place, {})
    await membership.start()
    print_json_answer({"mesh": membership.address})
    await _serve_control(membership, settings(), stop)


async def _serve_control(
    membership: Swim, chosen: Settings, stop: asyncio.Event
) -> None:
    from outlast.mesh.node.control_api import ControlApi
    from outlast.mesh.node.control_socket import ControlSocket

    node = await asyncio.to_thread(_build_node, membership, chosen)
    await node.announce()
    control = ControlSocket(chosen.home, ControlApi(node).handle)
    await control.start()
    running = asyncio.create_task(node.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        running.cancel()
        await node.leave_mesh()
    finally:
        control.close()


def _build_node(membership: Swim, chosen: Settings) -> "PeerNode":
    """
    Load the agents and the log, and build the peer.

    :raises BadInputError: when the agents cannot be loaded or a role is unknown.
    """
    from outlast.agents.agent_loading import for_roles, load_agents
    from outlast.dev.locks import ensure_home
    from outlast.ledger.run_permits import boot_clock_s, run_permits
    from outlast.mesh.core.ownership import LivePeer
    from outlast.mesh.core.peer import Clocks, PeerStateMachine
    from outlast.mesh.node.endpoint import TemporalEndpoint
    from outlast.mesh.node.event_store import EventStore
    from outlast.mesh.node.mission_runs import LazyClient, endpoint_name
    from outlast.mesh.node.node import PeerNode
    from outlast.process.opening import open_store

    name = membership.config.name
    roles = for_roles(load_agents(chosen.modules), chosen.role_names)
    store = open_store(chosen)
    me = LivePeer(name=name, roles=frozenset(roles))
    log = EventStore(store, name).load()
    core = PeerStateMachine(
        me, int(time.time() * 1000), log, Clocks(boot_clock_s, time.time)
    )
    permits = run_permits(ensure_home(chosen))
    endpoint = TemporalEndpoint(store, permits, LazyClient(name))
    return PeerNode(core, membership, store, endpoint, endpoint_name(store.id))


def sidecar_command(place: PeerConfig) -> list[str]:
    """
    The command that starts the sidecar at *place*; its key is in the environment.
    """
    joins = [part for seed in place.seeds for part in ("--join", seed)]
    program = module_command("outlast.mesh.node.sidecar_main")
    return [*program, "--peer", place.name, "--bind", place.bind, *joins]


def _peer_config(arguments: list[str]) -> PeerConfig:
    reader = argparse.ArgumentParser()
    reader.add_argument("--peer", required=True)
    reader.add_argument("--bind", required=True)
    reader.add_argument("--join", action="append", default=[])
    told = reader.parse_args(arguments)
    key = settings().mesh_key
    secret = None if key is None else key.get_secret_value()
    return PeerConfig(told.peer, told.bind, tuple(told.join), secret)


if __name__ == "__main__":
    main()
