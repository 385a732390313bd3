"""
One peer of the mesh, without any I/O: what happens goes in, what to do comes out.

Each input returns the effects to carry out, in their order. A peer owns nothing before
it has caught up; what it writes is durable before it is sent or started.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from outlast.contracts.errors import BadInputError, MalformedMessageError
from outlast.contracts.ids import MeshRunId, OriginId, parse
from outlast.contracts.mesh_timing import MESH_COPIES, MESH_FROZEN_S
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.mesh.core.anti_entropy import AntiEntropy
from outlast.mesh.core.assignment import TaskAssigner
from outlast.mesh.core.effects import AnnounceReady, MeshEffect, RecordChange
from outlast.mesh.core.events import AnyFact, CheckpointSaved, Progressed
from outlast.mesh.core.housekeeping import Housekeeping
from outlast.mesh.core.limits import finished_event, fits_message, submitted_event
from outlast.mesh.core.local_log import CheckpointThrottle, LocalLog
from outlast.mesh.core.messages import unpack
from outlast.mesh.core.ownership import LivePeer
from outlast.mesh.core.peer_logs import PendingAcks
from outlast.mesh.core.projection import MeshState
from outlast.mesh.core.replicated_log import LogChange, ReplicatedLog


@dataclass(frozen=True)
class Clocks:
    """
    The two clocks of a peer.

    :param now_s: only goes forward, and goes on while the machine sleeps.
    :param wall_s: seconds since 1970, for people.
    """

    now_s: Callable[[], float]
    wall_s: Callable[[], float]


class PeerStateMachine:
    """
    The peer *me*, with the *log* that its earlier lives have left.

    :param life: the wall clock's milliseconds at the start of this process: no two
        lives of a peer have the same.
    :raises BadInputError: from `on_submit` and `on_forget` alone.
    """

    def __init__(
        self,
        me: LivePeer,
        life: int,
        log: ReplicatedLog,
        clocks: Clocks,
        draw: random.Random | None = None,
    ) -> None:
        name = me.name
        known = [parse(OriginId, each) for each in log.high_water]
        mine = [each.incarnation for each in known if each and each.peer == name]
        life = max([life, *(each + 1 for each in mine)])
        self.log = log
        self._clocks = clocks
        self._local_log = LocalLog(log, str(OriginId(name, life)), clocks.wall_s)
        self._anti_entropy = AntiEntropy(
            name, life, log, clocks.now_s, draw or random.Random()
        )
        self._housekeeping = Housekeeping(
            name, self._local_log, self._anti_entropy, clocks.wall_s
        )
        unready = me.model_copy(update={"ready": False})
        self._assigner = TaskAssigner(unready, self._local_log, clocks.now_s)
        self._throttle = CheckpointThrottle()
        self._acks = PendingAcks(self._anti_entropy.peer_logs)
        self._input_s = clocks.now_s()
        self._out: list[MeshEffect] = []

    @property
    def me(self) -> LivePeer:
        """
        What the others see of it; it is ready once it has caught up.
        """
        return self._assigner.me

    @property
    def state(self) -> MeshState:
        return self._local_log.state

    @property
    def live(self) -> list[LivePeer]:
        return [each for _, each in sorted(self._assigner.live.items())]

    @property
    def away(self) -> list[str]:
        """
        The peers of the mesh that it waits for.
        """
        return sorted(self.state.peers - set(self._assigner.live))

    @property
    def refused(self) -> dict[str, int]:
        return dict(self._anti_entropy.refused)

    def on_start(self) -> list[MeshEffect]:
        """
        The first input: what earlier lives began is suspended until it is known whose
        it is.
        """
        with self._transaction() as out:
            out.append(AnnounceReady(False))
            out.extend(self._assigner.suspend_all())
            self._anti_entropy.start_catch_up()
        return out

    def on_submit(
        self, mission: Mission, copies: int = MESH_COPIES
    ) -> list[MeshEffect]:
        """
        Somebody asks for *mission*. The same again joins the first.

        :raises BadInputError: when its id was used for something else, or it is too
            large to be sent.
        """
        fact = submitted_event(mission, copies)
        known = self.state.of(mission.id).submission
        if known is not None and known.digest != fact.digest:
            raise BadInputError(
                f"mission {mission.id!r} exists with other content; choose another id"
            )
        with self._transaction() as out:
            if known is None:
                self._write(fact)
            key = self.state.of(mission.id).submitted_as
            assert key is not None
            self._acks.add(mission.id, key, copies, self._input_s)
        return out

    def on_message(self, peer: str, packed: bytes) -> list[MeshEffect]:
        """
        *peer* says something. What cannot be read is counted in `refused`.
        """
        with self._transaction() as out:
            try:
                message = unpack(packed)
            except MalformedMessageError:
                self._anti_entropy.refused["garbage"] += 1
                return out
            if message.sender != peer or peer == self.me.name:
                self._anti_entropy.refused["impostor"] += 1
                return out
            self._assigner.note_contact(peer)
            change, sends = self._anti_entropy.on_message(message)
            self._follow(change)
            out.extend(sends)
        return out

    def on_members(self, live: Iterable[LivePeer]) -> list[MeshEffect]:
        """
        The membership shows who is alive; suspects are, until they are found dead.
        """
        with self._transaction() as out:
            others = {each.name: each for each in live if each.name != self.me.name}
            changed = others != self._assigner.others
            self._assigner.others = others
            out.extend(self._anti_entropy.set_peers(others))
            if changed:
                out.extend(self._assigner.assign_all())
        return out

    def on_tick(self) -> list[MeshEffect]:
        """
        Time passes. Wanted every 0.1 s or so, at the latest every half MESH_FROZEN_S.
        """
        with self._transaction() as out:
            self._write(*self._throttle.due(self._input_s))
            out.extend(self._anti_entropy.tick())
            out.extend(self._assigner.assign_uncertain())
            if self.me.ready:
                others = self._assigner.others
                self._write(*self._housekeeping.memberships(others, self._input_s))
                self._follow(self._housekeeping.compact(self._input_s))
        return out

    def on_progress(self, fact: Progressed) -> list[MeshEffect]:
        """
        A run has saved a checkpoint in one of its mission's tasks, or finished it. A
        checkpoint whose value is in this peer's store alone is of no use to others.
        """
        if isinstance(fact, CheckpointSaved) and fact.checkpoint.blob is not None:
            return []
        with self._transaction() as out:
            run = MeshRunId(fact.task, fact.epoch)
            if run in self._assigner and fits_message(fact):
                self._throttle.add(fact)
        return out

    def on_finished(self, run: MeshRunId, report: Report) -> list[MeshEffect]:
        """
        *run* has ended. A run that was cancelled because it is another peer's has no
        result; one that ended nevertheless is evidence.
        """
        with self._transaction() as out:
            mine = self._assigner.end(run)
            if not mine and report.status is MissionStatus.CANCELLED:
                return out
            knew = [each.name for each in self.live]
            end = finished_event(run, self.me.name, report, knew)
            self._write(*self._throttle.take(run.task), end)
        return out

    def on_forget(self, peer: str) -> list[MeshEffect]:
        """
        Wait no longer for *peer*; if it returns, it joins again and rebuilds its log.

        :raises BadInputError: when it is alive, or not of the mesh.
        """
        if peer in self._assigner.live:
            raise BadInputError(f"peer {peer!r} is alive: stop it first")
        if peer not in self.state.peers:
            raise BadInputError(f"there is no peer {peer!r} in this mesh")
        with self._transaction() as out:
            self._write(self._housekeeping.forget(peer))
        return out

    @contextmanager
    def _transaction(self) -> Iterator[list[MeshEffect]]:
        """
        Frame an input: look for a gap in time before it, and put what it has changed
        before all that follows from it.
        """
        now_s = self._clocks.now_s()
        self._out = []
        if now_s - self._input_s > MESH_FROZEN_S:
            # Other peers may have adopted everything meanwhile.
            self._anti_entropy.start_catch_up()
            self._note_readiness()
        self._input_s = now_s
        yield self._out
        self._note_readiness()
        self._out += self._acks.take_due(now_s)
        after = self._local_log.drain_unsent()
        if after is not None:
            self._out += self._anti_entropy.push(self._local_log.origin, after)
        change = self._local_log.drain_changes()
        if change:
            self._out.insert(0, RecordChange(change))

    def _note_readiness(self) -> None:
        ready, assigner = not self._anti_entropy.is_behind, self._assigner
        if ready is not self.me.ready:
            assigner.me = self.me.model_copy(update={"ready": ready})
            self._out.append(AnnounceReady(ready))
            self._out += assigner.assign_all() if ready else assigner.suspend_all()

    def _assign(self, tasks: set[str]) -> None:
        self._out += self._assigner.assign(tasks)
        for task in tasks - self.state.open:
            self._throttle.take(task)

    def _write(self, *facts: AnyFact) -> None:
        self._assign(self._local_log.write(*facts))

    def _follow(self, change: LogChange) -> None:
        self._assign(self._local_log.follow(change))
