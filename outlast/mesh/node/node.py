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

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import MalformedMessageError
from outlast.contracts.mesh_timing import MESH_CHECK_S, MESH_TICK_S
from outlast.contracts.missions import Mission
from outlast.contracts.reports import Report
from outlast.mesh.core.effects import (
    AckSubmission,
    AnnounceReady,
    CancelRun,
    MeshEffect,
    RecordChange,
    SendMessage,
    StartRun,
    SuspendRun,
)
from outlast.mesh.core.messages import pack
from outlast.mesh.core.ownership import LivePeer
from outlast.mesh.core.peer import PeerStateMachine
from outlast.mesh.core.replicated_log import LogChange
from outlast.mesh.node.change_log import ChangeLog
from outlast.mesh.node.endpoint import TemporalEndpoint
from outlast.mesh.node.event_store import EventStore
from outlast.mesh.node.handover import Progress, ProgressReader
from outlast.mesh.node.membership import MemberInfo, Membership, MessageReceived
from outlast.store.database import Store

logger = logging.getLogger("outlast.mesh")

READY_FACT = "ready"
ROLES_FACT = "roles"
ENDPOINT_FACT = "endpoint"
LOAD_FACT = "load"


class PeerNode:
    """
    Runs one peer until cancelled.

    :param place: of our Temporal: two peers of one place share their runs.
    """

    def __init__(
        self,
        core: PeerStateMachine,
        membership: Membership,
        store: Store,
        endpoint: TemporalEndpoint,
        place: str,
    ) -> None:
        self.state_machine = core
        self.membership = membership
        self.endpoint = endpoint
        self._store = store
        self._config = place
        self._event_store = EventStore(store, core.me.name)
        self._progress_reader = ProgressReader(store)
        self._change_log = ChangeLog(core.me.name)
        self._effects: asyncio.Queue[list[MeshEffect]] = asyncio.Queue()
        self._waiting: dict[str, list[asyncio.Future[int]]] = {}
        self._sends: set[asyncio.Future[None]] = set()
        endpoint.on_ended(self._ended)

    async def run(self) -> None:
        """
        Keep the peer going. A log that cannot be written ends it.
        """
        held = self.state_machine.on_start()
        kept = {
            (each.task, each.epoch) for each in held if isinstance(each, SuspendRun)
        }
        self._enqueue(held)
        self.endpoint.cancel_others(kept)
        self._update_members()
        async with asyncio.TaskGroup() as together:
            for each in (
                self._apply_effects,
                self._listen,
                self._tick,
                self._read_progress,
            ):
                together.create_task(each())

    @property
    def metadata(self) -> dict[str, str]:
        """
        What the others are told of this peer.
        """
        roles = ",".join(sorted(self.state_machine.me.roles))
        ready = "yes" if self.state_machine.ready else ""
        return {
            ROLES_FACT: roles,
            READY_FACT: ready,
            ENDPOINT_FACT: self._config,
            LOAD_FACT: str(self.endpoint.load),
        }

    async def submit(self, mission: Mission, copies: int) -> int:
        """
        Hand *mission* to the mesh; returns in how many logs it is by then.

        :raises BadInputError: when the mesh cannot take it.
        """
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        effects = self.state_machine.on_submit(mission, copies)
        self._waiting.setdefault(mission.id, []).append(told)
        self._enqueue(effects)
        return await told

    async def forget(self, peer: str) -> None:
        """
        Wait no longer for *peer*.

        :raises BadInputError: when it is alive or unknown.
        """
        self._enqueue(self.state_machine.on_forget(peer))
        await self.membership.forget(peer)

    async def leave_mesh(self) -> None:
        """
        Hold all runs, say what they have reached, and go.
        """
        self.endpoint.suspend_all()
        await self._read_progress_once()
        self._enqueue(self.state_machine.on_tick())
        await self._apply_batch(self._next_batch())
        if self._sends:
            await asyncio.wait(self._sends, timeout=1.0)
        await self.membership.stop()

    def _enqueue(self, effects: list[MeshEffect]) -> None:
        for each in effects:
            if isinstance(each, SuspendRun | CancelRun):
                self.endpoint.suspend(each.task, each.epoch)
        if effects:
            self._effects.put_nowait(effects)

    async def _apply_effects(self) -> None:
        while True:
            effects = await self._effects.get()
            await self._apply_batch(effects + self._next_batch())

    def _next_batch(self) -> list[MeshEffect]:
        """
        Take what has gathered, so that it becomes durable in one go.
        """
        gathered: list[MeshEffect] = []
        while not self._effects.empty():
            gathered += self._effects.get_nowait()
        return gathered

    async def _apply_batch(self, effects: list[MeshEffect]) -> None:
        """
        Carry out *effects*, what is to be recorded of them in one transaction.
        """
        change = LogChange()
        for each in effects:
            if isinstance(each, RecordChange):
                change.add(each.change)
        if change:
            await self._store.run(self._event_store.record, change)
        for each in effects:
            self._apply(each)

    def _apply(self, effect: MeshEffect) -> None:
        self._change_log.log_effect(effect)
        match effect:
            case SendMessage():
                self._send(effect)
            case StartRun():
                self.endpoint.run(effect)
            case SuspendRun(task=task, epoch=epoch):
                self.endpoint.suspend(task, epoch)
            case CancelRun():
                self._cancel(effect)
            case AckSubmission(task=task, copies=copies):
                for told in self._waiting.pop(task, []):
                    told.set_result(copies)
            case AnnounceReady(ready=ready):
                self._in_background(
                    self.membership.set_metadata({READY_FACT: "yes" * ready})
                )

    def _send(self, send: SendMessage) -> None:
        try:
            data = pack(send.message)
        except MalformedMessageError as error:
            logger.error("mesh.unsent to %s: %s", send.to, error)
            return
        self._in_background(self.membership.send(send.to, data))

    def _cancel(self, cancel: CancelRun) -> None:
        by = cancel.by
        if by and by.epoch == cancel.epoch and self._same_store(by.owner):
            self.endpoint.forget_run(cancel.task, cancel.epoch)
            return  # it is one run, on one server, whoever watches it
        self.endpoint.cancel(cancel.task, cancel.epoch)

    def _same_store(self, peer: str) -> bool:
        return any(
            each.name == peer and each.metadata.get(ENDPOINT_FACT) == self._config
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
        self._enqueue(self.state_machine.on_finished(task, epoch, report))

    async def _listen(self) -> None:
        async for each in self.membership.events():
            if isinstance(each, MessageReceived):
                self._enqueue(self.state_machine.on_message(each.sender, each.data))
            else:
                self._update_members()

    def _update_members(self) -> None:
        live = live_peers(self.membership.members())
        self._change_log.log_members(each.name for each in live)
        self._enqueue(self.state_machine.on_members(live))

    async def _tick(self) -> None:
        while True:
            self._enqueue(self.state_machine.on_tick())
            self.endpoint.renew_permits()
            await asyncio.sleep(MESH_TICK_S)

    async def _read_progress(self) -> None:
        while True:
            await asyncio.sleep(MESH_CHECK_S)
            await self._read_progress_once()
            await self.membership.set_metadata({LOAD_FACT: str(self.endpoint.load)})

    async def _read_progress_once(self) -> None:
        """
        Tell the core what the runs here have reached.
        """
        running = self.endpoint.running
        for each in await self._store.run(self._progress_reader.read, list(running)):
            self._enqueue(self._on_progress(*running[each.mission], each))

    def _on_progress(
        self, task: str, epoch: int, reached: Progress
    ) -> list[MeshEffect]:
        part, round_ = reached.subtask, reached.round
        if isinstance(reached.result, Checkpoint):
            return self.state_machine.on_checkpoint(
                task, epoch, part, round_, reached.result
            )
        return self.state_machine.on_subtask_finished(
            task, epoch, part, round_, reached.result
        )


def live_peers(members: Iterable[MemberInfo]) -> list[LivePeer]:
    """
    Read what live peers say of themselves; who says nonsense is not there.
    """
    found = []
    for each in members:
        roles = frozenset(
            role for role in each.metadata.get(ROLES_FACT, "").split(",") if role
        )
        ready = each.metadata.get(READY_FACT) == "yes"
        try:
            found.append(LivePeer(name=each.name, roles=roles, ready=ready))
        except ValidationError:
            logger.warning("mesh.malformed: %r is no peer of ours", each.name)
    return found
