"""
Who else is there: the seam between the mesh and whatever detects failures.

What it says may be late or wrong, and what is sent may be lost: nothing of the mesh
hangs on either being true.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


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


@dataclass(frozen=True)
class MemberInfo:
    """
    A live peer, with what it says of itself.
    """

    name: str
    address: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class MessageReceived:
    """
    Bytes that came from a peer, by its own word.
    """

    sender: str
    data: bytes


@dataclass(frozen=True)
class MembersChanged:
    """
    Somebody came, went or says something else of itself: look at `members`.
    """


MembershipEvent = MessageReceived | MembersChanged


class Membership(Protocol):
    """
    The live peers of one mesh, and a way to send to each.
    """

    async def start(self) -> None:
        """
        Take our place and begin to look for the others, for ever.

        :raises BadInputError: in one sentence.
        """

    async def stop(self) -> None:
        """
        Tell the others that we leave.
        """

    def members(self) -> list[MemberInfo]:
        """
        List the live peers, this one included.
        """

    async def send(self, to: str, data: bytes) -> None:
        """
        Send *data* to the live peer *to*; whether it arrives is not known.
        """

    async def set_metadata(self, facts: Mapping[str, str]) -> None:
        """
        Change what all others know of this peer.
        """

    async def forget(self, name: str) -> None:
        """
        Look no longer for the peer *name*.
        """

    def events(self) -> AsyncIterator[MembershipEvent]:
        """
        Tell what happens from now on, until stopped. For one reader.
        """

    def counts(self) -> dict[str, int]:
        """
        Count what was sent, heard and refused so far.
        """
