"""
Ports of this machine for embedded servers: asked, usual or free ones.
"""

import os
import random
import socket
from typing import NamedTuple

from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.dev.locks import lock_port

DEV_HOST = "127.0.0.1"
DEV_PORT = 7233
DEV_UI_PORT = 8233
# Below what the kernel hands out by itself: what is free here now is not the source
# port of somebody's connection, or a server's inner port, a moment later.
FREE_PORTS = range(20_000, 32_000)


class Ports(NamedTuple):
    """
    Where a server listens.
    """

    port: int
    ui_port: int


def choose_ports(
    port: int | None, ui_port: int | None, usual: Ports | None = None
) -> Ports:
    """
    Take the asked ports, or the *usual* ones, or free ones where those are taken.

    :raises BadInputError: when an asked port is in use.
    """
    if port is not None and port == ui_port:
        raise BadInputError(
            f"port {port} cannot serve both Temporal and its Web UI: choose two"
        )
    wanted = [*([usual] if usual else []), Ports(DEV_PORT, DEV_UI_PORT)]
    chosen = _port(port, [each.port for each in wanted], {ui_port})
    return Ports(chosen, _port(ui_port, [each.ui_port for each in wanted], {chosen}))


def free_port() -> int:
    """
    Find a port that nobody uses, and nobody is likely to be given.

    :raises UnavailableError: when none is found.
    """
    for port in random.sample(FREE_PORTS, 100):
        if _free(port):
            return port
    raise UnavailableError(
        f"no free port in {FREE_PORTS.start}-{FREE_PORTS.stop}: choose one with --port"
    )


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((DEV_HOST, port)) == 0


def _port(asked: int | None, wanted: list[int], taken: set[int | None]) -> int:
    if asked is not None:
        if not 1 <= asked <= 65535:
            raise BadInputError(
                f"port {asked} is not between 1 and 65535; choose another one"
            )
        if not _free(asked):
            raise BadInputError(f"port {asked} is in use; choose another one")
        return asked
    free = (each for each in wanted if each not in taken and _free(each))
    return next(free, None) or free_port()


def _free(port: int) -> bool:
    claim = lock_port(port)
    if claim is None:
        return False  # a server that begins does not listen yet
    os.close(claim)
    with socket.socket() as probe:
        # As the server does it: a port that a dead one just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((DEV_HOST, port))
        except OSError:
            return False
    return not is_listening(port)
