"""
The peer among its surroundings: what happens goes into the core, and its effects are
applied.

Effects are applied in their order, the durable log first. What suspends a run is done
at once, before anything else is.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from outlast.contracts.errors import MalformedMessageError
from outlast.contracts.ids import MeshRunId
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
from outlast.mesh.core.peer import PeerStateMachine
from outlast.mesh.core.replicated_log import LogChange
from outlast.mesh.node.change_log import ChangeLog
from outlast.mesh.node.endpoint import TemporalEndpoint
from outlast.mesh.node.event_store import EventStore
from outlast.mesh.node.handover import ProgressReader
from outlast.mesh.node.membership import (
    MessageReceived,
    PeerMetadata,
    live_peers,
)
from outlast.mesh.node.swim import Swim
from outlast.store.database import Store

logger = logging.getLogger("outlast.mesh")


class PeerNode:
    """
    Runs one peer until cancelled.

    :param endpoint_name: of its Temporal: two peers with the same one share their runs.
    """

    def __init__(
        self,
        core: PeerStateMachine,
        membership: Swim,
        store: Store,
        endpoint: TemporalEndpoint,
        endpoint_name: str,
    ) -> None:
        self.state_machine = core
        self.membership = membership
        self.endpoint = endpoint
        self._store = store
        self._endpoint_name = endpoint_name
        self._ready = False
        self._event_store = EventStore(store, core.me.name)
        self._progress_reader = ProgressReader(store)
        self._change_log = ChangeLog(core.me.name)
        self._effects: asyncio.Queue[list[MeshEffect]] = asyncio.Queue()
        self._waiting: dict[str, list[asyncio.Future[int]]] = {}
        self._sends: set[asyncio.Future[None]] = set()
        endpoint.on_ended(self._on_ended)

    async def run(self) -> None:
        """
        Keep the peer going. A log that cannot be written ends it.
        """
        effects = self.state_machine.on_start()
        kept = {each.run for each in effects if isinstance(each, SuspendRun)}
        self._enqueue(effects)
        self.endpoint.cancel_others(kept)
        self._on_members_changed()
        async with asyncio.TaskGroup() as together:
            for loop in (
                self._apply_effects,
                self._listen,
                self._tick,
                self._read_progress,
            ):
                together.create_task(loop())

    async def _apply_effects(self) -> None:
        while True:
            effects = await self._effects.get()
            await self._apply_batch(effects + self._drain_effects())

    async def _listen(self) -> None:
        async for event in self.membership.events():
            if isinstance(event, MessageReceived):
                self._enqueue(self.state_machine.on_message(event.sender, event.data))
            else:
                self._on_members_changed()

    async def _tick(self) -> None:
        while True:
            self._enqueue(self.state_machine.on_tick())
            self.endpoint.renew_permits()
            await asyncio.sleep(MESH_TICK_S)

    async def _read_progress(self) -> None:
        while True:
            await asyncio.sleep(MESH_CHECK_S)
            await self._read_progress_once()
            await self.announce()

    async def announce(self) -> None:
        """
        Tell the other peers what this one says of itself.

        :raises BadInputError: when it plays too many roles to say so.
        """
        roles, load = self.state_machine.me.roles, self.endpoint.load
        said = PeerMetadata(roles, self._ready, self._endpoint_name, load)
        await self.membership.set_metadata(said.dump())

    async def submit(self, mission: Mission, copies: int) -> int:
        """
        Hand *mission* to the mesh; returns in how many logs it is by then.

        :raises BadInputError: when the mesh cannot take it.
        """
        acknowledged: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        effects = self.state_machine.on_submit(mission, copies)
        self._waiting.setdefault(mission.id, []).append(acknowledged)
        self._enqueue(effects)
        return await acknowledged

    async def forget(self, peer: str) -> None:
        """
        Wait no longer for *peer*.

        :raises BadInputError: when it is alive or unknown.
        """
        self._enqueue(self.state_machine.on_forget(peer))
        await self.membership.forget(peer)

    async def leave_mesh(self) -> None:
        """
        Suspend all runs, send what they have reached, and leave.
        """
        self.endpoint.suspend_all()
        await self._read_progress_once()
        self._enqueue(self.state_machine.on_tick())
        await self._apply_batch(self._drain_effects())
        if self._sends:
            await asyncio.wait(self._sends, timeout=1.0)
        await self.membership.stop()

    def _on_members_changed(self) -> None:
        live = live_peers(self.membership.members())
        self._change_log.log_members(each.name for each in live)
        self._enqueue(self.state_machine.on_members(live))

    def _on_ended(self, run: MeshRunId, report: Report) -> None:
        self._enqueue(self.state_machine.on_finished(run, report))

    async def _read_progress_once(self) -> None:
        running = self.endpoint.running
        for fact in await self._store.run(self._progress_reader.read, running):
            self._enqueue(self.state_machine.on_progress(fact))

    def _enqueue(self, effects: list[MeshEffect]) -> None:
        for each in effects:
            if isinstance(each, SuspendRun | CancelRun):
                self.endpoint.suspend(each.run)
        if effects:
            self._effects.put_nowait(effects)

    def _drain_effects(self) -> list[MeshEffect]:
        """
        Take what has gathered, so that it becomes durable in one transaction.
        """
        gathered: list[MeshEffect] = []
        while not self._effects.empty():
            gathered += self._effects.get_nowait()
        return gathered

    async def _apply_batch(self, effects: list[MeshEffect]) -> None:
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
            case SuspendRun(run=run):
                self.endpoint.suspend(run)
            case CancelRun():
                self._cancel(effect)
            case AckSubmission(task=task, copies=copies):
                for acknowledged in self._waiting.pop(task, []):
                    acknowledged.set_result(copies)
            case AnnounceReady(ready=ready):
                self._ready = ready
                self._in_background(self.announce())

    def _send(self, send: SendMessage) -> None:
        try:
            data = pack(send.message)
        except MalformedMessageError as error:
            logger.error("mesh.unsent to %s: %s", send.to, error)
            return
        self._in_background(self.membership.send(send.to, data))

    def _cancel(self, cancel: CancelRun) -> None:
        by = cancel.by
        if by and by.epoch == cancel.run.epoch and self._shares_endpoint(by.owner):
            # It is one run on one server, whichever peer watches it.
            self.endpoint.forget_run(cancel.run)
        else:
            self.endpoint.cancel(cancel.run)

    def _shares_endpoint(self, peer: str) -> bool:
        return any(
            each.name == peer and each.said.endpoint == self._endpoint_name
            for each in self.membership.members()
        )

    def _in_background(self, doing: Coroutine[Any, Any, None]) -> None:
        # Sending to a peer that is cut off would delay what is for the others.
        task = asyncio.ensure_future(doing)
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)
