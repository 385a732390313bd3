"""
What a peer knows of the others by their membership, and what each says of itself.

Both may be late or wrong, and what is sent may be lost: the mesh stays correct in
either case.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from outlast.contracts.errors import BadInputError
from outlast.mesh.core.ownership import LivePeer
from outlast.temporal.connect import on_loopback

logger = logging.getLogger("outlast.mesh")


@dataclass(frozen=True)
class PeerConfig:
    """
    Where a peer is found, and where it looks for others. Addresses are host:port.

    :param key: 32 bytes in base64, the same for all; None for no encryption.
    """

    name: str
    bind: str
    seeds: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)


def require_encryption(peer: PeerConfig) -> None:
    """
    :raises BadInputError: when *peer* would send in clear text beyond loopback.
    """
    if peer.key is None and not on_loopback(peer.bind):
        raise BadInputError(
            f"--bind {peer.bind} is not on loopback, where peers speak encrypted only: "
            "set OUTLAST_MESH_KEY, the same for all peers (outlast mesh key makes one)"
        )


@dataclass(frozen=True)
class PeerMetadata:
    """
    What a peer says of itself to all others.

    :param endpoint: names its Temporal: peers with the same one share their runs.
    :param load: how many runs it has.
    """

    roles: frozenset[str]
    ready: bool
    endpoint: str
    load: int

    def dump(self) -> dict[str, str]:
        return {
            "roles": ",".join(sorted(self.roles)),
            "ready": "yes" if self.ready else "",
            "endpoint": self.endpoint,
            "load": str(self.load),
        }


@dataclass(frozen=True)
class MemberInfo:
    """
    A live peer, with what it says of itself.
    """

    name: str
    address: str
    metadata: Mapping[str, str]

    @property
    def said(self) -> PeerMetadata:
        raw = self.metadata
        load = raw.get("load", "")
        return PeerMetadata(
            roles=frozenset(role for role in raw.get("roles", "").split(",") if role),
            ready=raw.get("ready") == "yes",
            endpoint=raw.get("endpoint", ""),
            load=int(load) if load.isdecimal() else 0,
        )


def live_peers(members: Iterable[MemberInfo]) -> list[LivePeer]:
    """
    Read what live peers say of themselves; one whose name or roles are invalid is left
    out.
    """
    found = []
    for each in members:
        said = each.said
        try:
            found.append(LivePeer(name=each.name, roles=said.roles, ready=said.ready))
        except ValidationError:
            logger.warning("mesh.malformed: %r is no peer of ours", each.name)
    return found


@dataclass(frozen=True)
class MessageReceived:
    """
    Bytes from a peer that calls itself *sender*.
    """

    sender: str
    data: bytes


@dataclass(frozen=True)
class MembersChanged:
    """
    A peer came, went or says something else of itself: look at `members`.
    """


MembershipEvent = MessageReceived | MembersChanged
