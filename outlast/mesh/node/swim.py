"""
Membership by SWIM with Lifeguard, as the library kinship does it.

Its protocol runs on a thread of its own, so nothing that this process does makes it
look dead. Every seed and every peer that was seen once is tried again until it answers.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import kinship

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import SWIM
from outlast.mesh.node.membership import (
    MemberInfo,
    MembersChanged,
    MembershipEvent,
    MessageReceived,
    PeerConfig,
)
from outlast.mesh.node.swim_config import METADATA_BYTES, swim_config

logger = logging.getLogger("outlast.mesh")

SWIM_LEAVE_S = 1.0
ADDRESS_CONNECT_S = 0.5


class Swim:
    """
    This peer's place in the mesh: the live peers, and a way to send to each.
    """

    def __init__(self, config: PeerConfig, metadata: Mapping[str, str]) -> None:
        self.config = config
        self._metadata = dict(metadata)
        self._cluster = kinship.Cluster(swim_config(config, self._metadata))
        self._events: Any = None
        self._known: dict[str, str] = {}  # where each peer was seen last
        self._announced: set[str] = set()
        self._conflicts: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent = 0
        self._deaths = 0

    async def start(self) -> None:
        """
        Join the mesh, and look for the other peers until stopped.

        :raises BadInputError: when the address or the name is taken.
        """
        logging.getLogger("kinship").setLevel(logging.ERROR)  # its warnings are ours
        kinship.log_to_python()
        try:
            await self._cluster.start()
        except OSError as error:
            raise BadInputError(
                f"the mesh cannot listen on {self.config.bind}: {error}"
            ) from None
        self._events = self._cluster.events()
        try:
            await self._reject_duplicate_name()
        except BadInputError:
            await self._cluster.close()
            raise
        self._begin(self._rejoin_absent())

    @property
    def address(self) -> str:
        return self._cluster.local.addr

    async def stop(self) -> None:
        """
        Tell the others that this peer leaves.
        """
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(kinship.KinshipError):
            await self._cluster.leave(SWIM_LEAVE_S)
            await self._cluster.close()

    def members(self) -> list[MemberInfo]:
        """
        List the live peers, this one included.
        """
        live = [_member(each) for each in self._cluster.members()]
        self._known.update({each.name: each.address for each in live})
        return live

    async def send(self, to: str, data: bytes) -> None:
        """
        Send *data* to the live peer *to*; whether it arrives is not known.
        """
        try:
            await self._cluster.send(to, data)
        except kinship.KinshipError:
            self._unsent += 1

    async def set_metadata(self, metadata: Mapping[str, str]) -> None:
        """
        Change what all others know of this peer.

        :raises BadInputError: when it is more than a datagram holds.
        """
        changed = {**self._metadata, **metadata}
        if changed == self._metadata:
            return
        self._metadata = changed
        try:
            await self._cluster.set_meta(changed)
        except kinship.MetaTooLarge:
            raise BadInputError(
                f"what peer {self.config.name!r} tells of itself is over "
                f"{METADATA_BYTES} bytes: give it fewer roles (--roles)"
            ) from None
        except kinship.KinshipClosed:
            pass

    async def forget(self, name: str) -> None:
        self._known.pop(name, None)

    async def events(self) -> AsyncIterator[MembershipEvent]:
        """
        Yield what happens from now on, until stopped. For one reader.
        """
        async for event in self._events:
            if isinstance(event, kinship.UserMessage):
                yield MessageReceived(event.sender.name, event.data)
            elif isinstance(event, kinship.NameConflict):
                self._report_conflict(event)
            else:
                self._deaths += isinstance(event, kinship.MemberDead)
                yield MembersChanged()

    def _report_conflict(self, conflict: kinship.NameConflict) -> None:
        """
        Log once for each address that its peer has another one's name. It is refused
        when it starts, unless a split kept both from knowing.
        """
        if conflict.other_addr not in self._conflicts:
            self._conflicts.add(conflict.other_addr)
            logger.error(
                "mesh.name_conflict: %s is at %s and at %s, which is ignored",
                conflict.member.name,
                conflict.member.addr,
                conflict.other_addr,
            )

    def counts(self) -> dict[str, int]:
        stats = self._cluster.stats()
        return {
            "packets": stats.packets_received,
            "sent": stats.user_messages_sent,
            "heard": stats.user_messages_received,
            "deaths": self._deaths,
            "unsent": self._unsent + stats.user_messages_dropped,
            "refused": stats.decode_errors + stats.decrypt_failures,
        }

    async def _rejoin_absent(self) -> None:
        """
        Join the peers that are not there, also those that were: a split mesh heals.
        """
        while True:
            for address in await self._absent():
                self._begin(self._join(address))
            await asyncio.sleep(SWIM.rejoin_s)

    async def _absent(self) -> set[str]:
        live = {each.address for each in self.members()}
        wanted = set(self._known.values())
        for seed in self.config.seeds:
            wanted |= await resolve(seed)
        return wanted - live

    async def _join(self, address: str) -> None:
        try:
            await self._cluster.join([address])
        except kinship.JoinError:
            if address not in self._announced:
                self._announced.add(address)
                logger.warning(
                    "mesh.silent: no peer answers at %s, tried again every %g s",
                    address,
                    SWIM.rejoin_s,
                )
        except kinship.KinshipClosed:
            pass
        else:
            self._announced.discard(address)

    async def _reject_duplicate_name(self) -> None:
        """
        Join once, and see whether a peer of this name is there already. It may be an
        earlier life of this peer, for which the others still wait: it does not answer.

        :raises BadInputError: when it answers.
        """
        await asyncio.gather(*(self._join(each) for each in await self._absent()))
        if not self._cluster.stats().name_conflicts:
            return
        async with asyncio.timeout(ADDRESS_CONNECT_S):
            async for event in self._events:
                if isinstance(event, kinship.NameConflict):
                    break
        if await answers(event.other_addr):
            raise BadInputError(
                f"another peer named {self.config.name!r} is alive at "
                f"{event.other_addr}: choose another --peer"
            )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _member(raw: kinship.Member) -> MemberInfo:
    return MemberInfo(raw.name, raw.addr, raw.meta)


async def resolve(address: str) -> set[str]:
    """
    Look up what *address* means now: kinship shows members by number.
    """
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )
    except OSError:
        return {address}  # joining it will fail, and say so
    return {_shown(*where[:2]) for *_, where in found}


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ADDRESS_CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:  # TimeoutError too
        return False
    writer.close()
    return True
