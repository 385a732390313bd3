"""
Membership by SWIM with Lifeguard, as the library kinship does it.

Its protocol runs on a thread of its own, so nothing that this process does makes it
look dead. A peer that was seen once, and every seed, is looked for again for ever.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import kinship

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import SWIM
from outlast.mesh.node.addresses import ADDRESS_CONNECT_S, answers, resolve
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


class Swim:
    """
    This peer's place in the mesh.
    """

    def __init__(self, place: PeerConfig, facts: Mapping[str, str]) -> None:
        self.config = place
        self._metadata = dict(facts)
        self._cluster = kinship.Cluster(swim_config(place, self._metadata))
        self._events: Any = None
        self._known: dict[str, str] = {}  # where each peer was seen last
        self._announces: set[str] = set()
        self._conflicts: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent = 0
        self._deaths = 0

    async def start(self) -> None:
        """
        Take our place and begin to look for the others, for ever.

        :raises BadInputError: when the place is taken, or the name is.
        """
        logging.getLogger("kinship").setLevel(logging.ERROR)  # we say it ourselves
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
        """
        Where this peer listens.
        """
        return self._cluster.local.addr

    async def stop(self) -> None:
        """
        Tell the others that we leave.
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

    async def set_metadata(self, facts: Mapping[str, str]) -> None:
        """
        Change what all others know of this peer.

        :raises BadInputError: when it is more than a datagram holds.
        """
        changed = {**self._metadata, **facts}
        if changed == self._metadata:
            return
        self._metadata = changed
        try:
            await self._cluster.set_meta(changed)
        except kinship.MetaTooLarge:
            raise BadInputError(
                f"what peer {self.config.name!r} tells of itself is over "
                f"{METADATA_BYTES} bytes: have it play fewer roles (--roles)"
            ) from None
        except kinship.KinshipClosed:
            pass

    async def forget(self, name: str) -> None:
        """
        Look no longer for the peer *name*.
        """
        self._known.pop(name, None)

    async def events(self) -> AsyncIterator[MembershipEvent]:
        """
        Tell what happens from now on, until stopped. For one reader.
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
        Say once of each place that its peer has another one's name: it is refused
        there, unless a split kept both from knowing.
        """
        if conflict.other_addr not in self._conflicts:
            self._conflicts.add(conflict.other_addr)
            name, here = conflict.member.name, conflict.member.addr
            logger.error(
                "mesh.name_conflict: %s is at %s and at %s, which is ignored",
                name,
                here,
                conflict.other_addr,
            )

    def counts(self) -> dict[str, int]:
        """
        Count what was sent, heard and refused so far.
        """
        told = self._cluster.stats()
        return {
            "packets": told.packets_received,
            "sent": told.user_messages_sent,
            "heard": told.user_messages_received,
            "deaths": self._deaths,
            "unsent": self._unsent + told.user_messages_dropped,
            "refused": told.decode_errors + told.decrypt_failures,
        }

    async def _rejoin_absent(self) -> None:
        """
        Join whoever is not there, also those who were: a mesh that was split heals.
        """
        while True:
            for address in await self._absent():
                self._begin(self._join(address))
            await asyncio.sleep(SWIM.rejoin_s)

    async def _absent(self) -> set[str]:
        """
        Say where nobody is alive of those that we look for.
        """
        live = {each.address for each in self.members()}
        wanted = set(self._known.values())
        for seed in self.config.seeds:
            wanted |= await resolve(seed)
        return wanted - live

    async def _join(self, address: str) -> None:
        try:
            await self._cluster.join([address])
        except kinship.JoinError:
            if address not in self._announces:
                self._announces.add(address)
                logger.warning(
                    "mesh.silent: no peer answers at %s, tried again every %g s",
                    address,
                    SWIM.rejoin_s,
                )
        except kinship.KinshipClosed:
            pass
        else:
            self._announces.discard(address)

    async def _reject_duplicate_name(self) -> None:
        """
        Join once, and see whether a peer of our name is there already. That may be an
        earlier life of ours, which the others still wait for: it does not answer.

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
