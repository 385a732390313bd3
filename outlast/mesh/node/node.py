"""
The peer among its surroundings: what happens goes into the core, what the core wants
is done.

Effects are carried out in their order, the durable log first. What holds a run back is
done at once, before anything else is.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from pydantic import ValidationError

from outlast.contracts.errors import BadMessageError
from outlast.contracts.models import Checkpoint, Mission
from outlast.contracts.policies import MESH_LOOK_S, MESH_TICK_S
from outlast.contracts.reports import Report
from outlast.mesh.core.effects import (
    Acknowledge,
    Announce,
    Cancel,
    Effect,
    Hold,
    Record,
    Run,
    Send,
)
from outlast.mesh.core.messages import pack
from outlast.mesh.core.ownership import Presence
from outlast.mesh.core.peer import PeerCore
from outlast.mesh.core.replicated_log import Change
from outlast.mesh.node.change_log import Diary
from outlast.mesh.node.endpoint import Endpoint
from outlast.mesh.node.event_store import EventLog
from outlast.mesh.node.handover import Reached, Watch
from outlast.mesh.node.membership import Heard, Member, Membership
from outlast.store.database import Store

logger = logging.getLogger("outlast.mesh")

READY = "ready"
ROLES = "roles"
ENDPOINT = "endpoint"
LOAD = "load"


class Shell:
    """
    Runs one peer until cancelled.

    :param place: of our Temporal: two peers of one place share their runs.
    """

    def __init__(
        self,
        core: PeerCore,
        membership: Membership,
        store: Store,
        endpoint: Endpoint,
        place: str,
    ) -> None:
        self.core = core
        self.membership = membership
        self.endpoint = endpoint
        self._store = store
        self._place = place
        self._log = EventLog(store, core.me.name)
        self._watch = Watch(store)
        self._diary = Diary(core.me.name)
        self._effects: asyncio.Queue[list[Effect]] = asyncio.Queue()
        self._waiting: dict[str, list[asyncio.Future[int]]] = {}
        self._sends: set[asyncio.Future[None]] = set()
        endpoint.tell(self._ended)

    async def run(self) -> None:
        """
        Keep the peer going. A log that cannot be written ends it.
        """
        held = self.core.started()
        kept = {(each.task, each.epoch) for each in held if isinstance(each, Hold)}
        self._take(held)
        self.endpoint.cancel_others(kept)
        self._see_members()
        async with asyncio.TaskGroup() as together:
            for each in (self._carry_out, self._listen, self._tick, self._look):
                together.create_task(each())

    @property
    def facts(self) -> dict[str, str]:
        """
        What the others are told of this peer.
        """
        roles = ",".join(sorted(self.core.me.roles))
        ready = "yes" if self.core.ready else ""
        return {
            ROLES: roles,
            READY: ready,
            ENDPOINT: self._place,
            LOAD: str(self.endpoint.load),
        }

    async def submit(self, mission: Mission, copies: int) -> int:
        """
        Hand *mission* to the mesh; returns in how many logs it is by then.

        :raises BadInputError: when the mesh cannot take it.
        """
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        effects = self.core.submitted(mission, copies)
        self._waiting.setdefault(mission.id, []).append(told)
        self._take(effects)
        return await told

    async def forget(self, peer: str) -> None:
        """
        Wait no longer for *peer*.

        :raises BadInputError: when it is alive or unknown.
        """
        self._take(self.core.forget(peer))
        await self.membership.forget(peer)

    async def leave(self) -> None:
        """
        Hold all runs, say what they have reached, and go.
        """
        self.endpoint.hold_all()
        await self._look_once()
        self._take(self.core.tick())
        await self._carry_out_once(self._gathered())
        if self._sends:
            await asyncio.wait(self._sends, timeout=1.0)
        await self.membership.stop()

    def _take(self, effects: list[Effect]) -> None:
        for each in effects:
            if isinstance(each, Hold | Cancel):
                self.endpoint.hold(each.task, each.epoch)
        if effects:
            self._effects.put_nowait(effects)

    async def _carry_out(self) -> None:
        while True:
            effects = await self._effects.get()
            await self._carry_out_once(effects + self._gathered())

    def _gathered(self) -> list[Effect]:
        """
        Take what has gathered, so that it becomes durable in one go.
        """
        gathered: list[Effect] = []
        while not self._effects.empty():
            gathered += self._effects.get_nowait()
        return gathered

    async def _carry_out_once(self, effects: list[Effect]) -> None:
        """
        Carry out *effects*, what is to be recorded of them in one transaction.
        """
        change = Change()
        for each in effects:
            if isinstance(each, Record):
                change.add(each.change)
        if change:
            await self._store.run(self._log.record, change)
        for each in effects:
            self._do(each)

    def _do(self, effect: Effect) -> None:
        self._diary.note(effect)
        match effect:
            case Send():
                self._send(effect)
            case Run():
                self.endpoint.run(effect)
            case Hold(task=task, epoch=epoch):
                self.endpoint.hold(task, epoch)
            case Cancel():
                self._cancel(effect)
            case Acknowledge(task=task, copies=copies):
                for told in self._waiting.pop(task, []):
                    told.set_result(copies)
            case Announce(ready=ready):
                self._in_background(self.membership.tell({READY: "yes" * ready}))

    def _send(self, send: Send) -> None:
        try:
            data = pack(send.message)
        except BadMessageError as error:
            logger.error("mesh.unsent to %s: %s", send.to, error)
            return
        self._in_background(self.membership.send(send.to, data))

    def _cancel(self, cancel: Cancel) -> None:
        by = cancel.by
        if by and by.epoch == cancel.epoch and self._shares(by.owner):
            self.endpoint.drop(cancel.task, cancel.epoch)
            return  # it is one run, on one server, whoever watches it
        self.endpoint.cancel(cancel.task, cancel.epoch)

    def _shares(self, peer: str) -> bool:
        return any(
            each.name == peer and each.facts.get(ENDPOINT) == self._place
            for each in self.membership.members()
        )

    def _in_background(self, doing: Coroutine[Any, Any, None]) -> None:
        # A peer that is cut off would hold up what is for the others.
        task = asyncio.ensure_future(doing)
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    def _ended(self, task: str, epoch: int, report: Report) -> None:
        """
        Tell the core that a run has ended.
        """
        self._take(self.core.finished(task, epoch, report))

    async def _listen(self) -> None:
        async for each in self.membership.happenings():
            if isinstance(each, Heard):
                self._take(self.core.heard(each.sender, each.data))
            else:
                self._see_members()

    def _see_members(self) -> None:
        live = presences(self.membership.members())
        self._diary.see(each.name for each in live)
        self._take(self.core.members(live))

    async def _tick(self) -> None:
        while True:
            self._take(self.core.tick())
            self.endpoint.renew()
            await asyncio.sleep(MESH_TICK_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(MESH_LOOK_S)
            await self._look_once()
            await self.membership.tell({LOAD: str(self.endpoint.load)})

    async def _look_once(self) -> None:
        """
        Tell the core what the runs here have reached.
        """
        begun = self.endpoint.begun
        for each in await self._store.run(self._watch.look, list(begun)):
            self._take(self._reached(*begun[each.mission], each))

    def _reached(self, task: str, epoch: int, reached: Reached) -> list[Effect]:
        part, round_ = reached.part, reached.round
        if isinstance(reached.made, Checkpoint):
            return self.core.progressed(task, epoch, part, round_, reached.made)
        return self.core.part_finished(task, epoch, part, round_, reached.made)


def presences(members: Iterable[Member]) -> list[Presence]:
    """
    Read what live peers say of themselves; who says nonsense is not there.
    """
    found = []
    for each in members:
        roles = frozenset(role for role in each.facts.get(ROLES, "").split(",") if role)
        ready = each.facts.get(READY) == "yes"
        try:
            found.append(Presence(name=each.name, roles=roles, ready=ready))
        except ValidationError:
            logger.warning("mesh.nonsense: %r is no peer of ours", each.name)
    return found
