"""
A fleet that is a peer: its place in the mesh, and a Temporal of its own where none is
named.
"""

import re
import sys
from importlib.util import find_spec

from outlast.contracts.errors import BadInputError
from outlast.dev.stack import Announce, Stack
from outlast.mesh.node.membership import PeerConfig, require_encryption
from outlast.settings import Settings

ADDRESS_PATTERN = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[^:\s]+):\d{1,5}$")
PEER_NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


def peer_config(
    chosen: Settings, name: str, bind: str, seeds: tuple[str, ...]
) -> PeerConfig:
    """
    Check where a peer wants to be, before anything starts.

    :raises BadInputError: in one sentence.
    """
    if find_spec("kinship") is None:
        raise BadInputError("a mesh needs kinship: pip install 'outlast[mesh]'")
    if not PEER_NAME_PATTERN.match(name):
        raise BadInputError(
            f"--peer {name!r} is no name: up to 64 letters, digits, dots and dashes"
        )
    for option, address in [("--bind", bind), *(("--join", each) for each in seeds)]:
        if (
            not ADDRESS_PATTERN.match(address)
            or int(address.rpartition(":")[2]) > 65_535
        ):
            raise BadInputError(
                f"{option} {address} is not HOST:PORT, as in 10.0.0.7:7946"
            )
    key = None if chosen.mesh_key is None else chosen.mesh_key.get_secret_value()
    config = PeerConfig(name, bind, seeds, key)
    require_encryption(config)
    return config


async def with_own_temporal(chosen: Settings, announce: Announce) -> int:
    """
    Run this very command once more, beside an embedded server of its own.
    """
    stack = Stack(chosen, fleet_options=tuple(sys.argv[1:]))
    return await stack.run(announce)
