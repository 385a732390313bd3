"""
One peer of the mesh, without any I/O: what happens goes in, what to do comes out.

Each input returns the effects to carry out, in their order. A peer owns nothing before
it has caught up; what it writes is durable before it is said or begun.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from outlast.contracts.errors import BadInputError, BadMessageError
from outlast.contracts.ids import OriginId, parse
from outlast.contracts.models import Checkpoint, Mission
from outlast.contracts.policies import MESH_COPIES, MESH_FROZEN_S
from outlast.contracts.reports import Report, Status
from outlast.mesh.core.acks import Receipts
from outlast.mesh.core.anti_entropy import Gossip
from outlast.mesh.core.assignment import Duty
from outlast.mesh.core.checkpoint_throttle import Progress
from outlast.mesh.core.effects import Announce, Effect, Record
from outlast.mesh.core.events import (
    AnyFact,
    CheckpointSaved,
    PartFinished,
)
from outlast.mesh.core.housekeeping import Upkeep
from outlast.mesh.core.limits import finish, fits, submission
from outlast.mesh.core.local_log import Journal
from outlast.mesh.core.messages import unpack
from outlast.mesh.core.ownership import Presence
from outlast.mesh.core.projection import Progressed, View
from outlast.mesh.core.replicated_log import Change, EventSet


@dataclass(frozen=True)
class Clocks:
    """
    The two clocks of a peer.

    :param now_s: only goes forward, and goes on while the machine sleeps.
    :param wall_s: seconds since 1970, for people.
    """

    now_s: Callable[[], float]
    wall_s: Callable[[], float]


@dataclass(frozen=True)
class Seen:
    """
    What the shell shows of this peer: copies, taken at one moment.
    """

    ready: bool
    live: list[Presence]
    refused: dict[str, int]
    unread: int
    events: int
    peers: list[str] = field(default_factory=list)


class PeerCore:
    """
    The peer *me*, with the *log* that its earlier lives have left.

    :param life: the wall clock's milliseconds at the start of this process: no two
        lives of a peer have the same.
    :raises BadInputError: from `submitted` and `forget` alone.
    """

    def __init__(
        self,
        me: Presence,
        life: int,
        log: EventSet,
        clocks: Clocks,
        draw: random.Random | None = None,
    ) -> None:
        known = [parse(OriginId, each) for each in log.heads]
        mine = [each.life for each in known if each and each.peer == me.name]
        life = max([life, *(each + 1 for each in mine)])
        name = me.name
        self.me = me.model_copy(update={"ready": False})
        self.log = log
        self._clocks = clocks
        self._journal = Journal(log, str(OriginId(name, life)), clocks.wall_s)
        self._gossip = Gossip(name, life, log, clocks.now_s, draw or random.Random())
        self._upkeep = Upkeep(name, self._journal, self._gossip, clocks.wall_s)
        self._duty = Duty(name, self._journal, clocks.now_s)
        self._progress = Progress()
        self._receipts = Receipts()
        self._others: dict[str, Presence] = {}
        self._see(self.me)
        self._input_s = clocks.now_s()
        self._out: list[Effect] = []

    @property
    def view(self) -> View:
        """
        What its log adds up to.
        """
        return self._journal.view

    @property
    def ready(self) -> bool:
        """
        Whether it has caught up, and may own tasks.
        """
        return self.me.ready

    @property
    def live(self) -> list[Presence]:
        """
        The peers that are alive as far as it knows, itself among them.
        """
        return [self._duty.live[name] for name in sorted(self._duty.live)]

    def seen(self) -> Seen:
        """
        Show it as it is now.
        """
        return Seen(
            ready=self.ready,
            live=self.live,
            refused=dict(self._gossip.refused),
            unread=self.view.unread,
            events=len(self.log),
            peers=sorted(self.view.peers),
        )

    def started(self) -> list[Effect]:
        """
        The first input: what earlier lives ran is held until it is known whose it is.
        """
        with self._input() as out:
            out.append(Announce(False))
            out.extend(self._duty.runs.remember(self.view))
            self._gossip.look()
        return out

    def submitted(self, mission: Mission, copies: int = MESH_COPIES) -> list[Effect]:
        """
        Somebody asks for *mission*. The same again joins the first.

        :raises BadInputError: when its id was used for something else, or it is too
            large to be sent.
        """
        fact = submission(mission, copies)
        known = self.view.of(mission.id).submission
        if known is not None and known.digest != fact.digest:
            raise BadInputError(
                f"mission {mission.id!r} exists with other content; choose another id"
            )
        with self._input() as out:
            if known is None:
                self._write(fact)
            key = self.view.of(mission.id).submitted_as
            assert key is not None
            self._receipts.owe(mission.id, key, copies, self._input_s)
        return out

    def heard(self, peer: str, packed: bytes) -> list[Effect]:
        """
        *peer* says something. What cannot be read is counted in `refused`.
        """
        with self._input() as out:
            try:
                message = unpack(packed)
            except BadMessageError:
                self._gossip.refused["garbage"] += 1
                return out
            if message.sender != peer or peer == self.me.name:
                self._gossip.refused["impostor"] += 1
                return out
            self._duty.hear(peer)
            change, sends = self._gossip.hear(message)
            self._follow(change)
            out.extend(sends)
        return out

    def members(self, live: Iterable[Presence]) -> list[Effect]:
        """
        The membership shows who is alive; suspects are, until they are found dead.
        """
        with self._input() as out:
            found = {each.name: each for each in live if each.name != self.me.name}
            changed = found != self._others
            self._others = found
            self._see(self.me)
            out.extend(self._gossip.meet(found))
            if changed:
                out.extend(self._duty.settle_all())
        return out

    def tick(self) -> list[Effect]:
        """
        Time passes. Wanted every 0.1 s or so, at the latest every half MESH_FROZEN_S.
        """
        with self._input() as out:
            self._write(*self._progress.due(self._input_s))
            out.extend(self._gossip.tick())
            out.extend(self._duty.settle_unsure())
            if self.ready:
                self._write(*self._upkeep.memberships(self._others, self._input_s))
                self._follow(self._upkeep.compact(self._input_s))
        return out

    def progressed(
        self, task: str, epoch: int, part: str, round_: int, checkpoint: Checkpoint
    ) -> list[Effect]:
        """
        The run of *task* in *epoch* has saved a checkpoint in *part*. One whose value
        is too large to travel is of no use to others.
        """
        if checkpoint.blob is not None:
            return []
        told = {"task": task, "epoch": epoch, "part": part, "round": round_}
        return self._reached(CheckpointSaved(**told, checkpoint=checkpoint))

    def part_finished(
        self, task: str, epoch: int, part: str, round_: int, answer: str
    ) -> list[Effect]:
        """
        The run of *task* in *epoch* has a result for *part*, as the ledger's text.
        """
        told = {"task": task, "epoch": epoch, "part": part, "round": round_}
        return self._reached(PartFinished(**told, answer=answer))

    def finished(self, task: str, epoch: int, report: Report) -> list[Effect]:
        """
        The run of *task* in *epoch* has ended. A run that was cancelled because it is
        somebody else's has no result; one that ended nevertheless is evidence.
        """
        with self._input() as out:
            mine = self._duty.runs.ended(task, epoch)
            if not mine and report.status is Status.CANCELLED:
                return out
            knew = [each.name for each in self.live]
            end = finish(task, epoch, self.me.name, report, knew)
            self._write(*self._progress.take(task), end)
        return out

    def forget(self, peer: str) -> list[Effect]:
        """
        Wait no longer for *peer*; if it returns, it joins again and rebuilds its log.

        :raises BadInputError: when it is alive, or not of the mesh.
        """
        if peer in self._duty.live:
            raise BadInputError(f"peer {peer!r} is alive: stop it first")
        if peer not in self.view.peers:
            raise BadInputError(f"there is no peer {peer!r} in this mesh")
        with self._input() as out:
            self._write(self._upkeep.forget(peer))
        return out

    @contextmanager
    def _input(self) -> Iterator[list[Effect]]:
        """
        Frame an input: look for a gap in time before it, and put what it has changed
        before all that follows from it.
        """
        now_s = self._clocks.now_s()
        self._out = []
        if now_s - self._input_s > MESH_FROZEN_S:
            # Somebody may have taken everything over meanwhile.
            self._gossip.look()
            self._note_readiness()
        self._input_s = now_s
        yield self._out
        self._note_readiness()
        self._out += self._receipts.ready(self._gossip.copies, now_s)
        after = self._journal.unsent()
        if after is not None:
            self._out += self._gossip.push(self._journal.origin, after)
        change = self._journal.take()
        if change:
            self._out.insert(0, Record(change))

    def _note_readiness(self) -> None:
        ready = not self._gossip.behind
        if ready is self.me.ready:
            return
        self._see(self.me.model_copy(update={"ready": ready}))
        self._out.append(Announce(ready))
        self._out += self._duty.settle_all() if ready else self._duty.runs.hold()

    def _see(self, me: Presence) -> None:
        self.me = me
        self._duty.live = {**self._others, me.name: me}

    def _settle(self, tasks: set[str]) -> None:
        self._out += self._duty.settle(tasks)
        for task in tasks - self.view.open:
            self._progress.forget(task)

    def _write(self, *facts: AnyFact) -> None:
        self._settle(self._journal.write(*facts))

    def _follow(self, change: Change) -> None:
        self._settle(self._journal.follow(change))

    def _reached(self, fact: Progressed) -> list[Effect]:
        with self._input() as out:
            if (fact.task, fact.epoch) in self._duty.runs and fits(fact):
                self._progress.add(fact)
        return out
