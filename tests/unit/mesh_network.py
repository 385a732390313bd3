"""
A mesh that exists in memory only: a virtual clock, a network that loses and delays,
disks that survive a crash, and a membership that is as late as the real one.

All chance comes from one seed, so each run can be run again.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.ids import MeshRunId
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.contracts.tasks import Task
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
from outlast.mesh.core.events import CheckpointSaved, MeshEvent
from outlast.mesh.core.messages import pack
from outlast.mesh.core.ownership import LivePeer
from outlast.mesh.core.peer import Clocks, PeerStateMachine
from outlast.mesh.core.replicated_log import ReplicatedLog, covers

TICK_S = 0.1
DETECT_S = 1.4  # from death to everybody's knowing it
JOIN_S = 0.3  # from being reachable to being seen
STEP_S = 0.2  # a run's work between two checkpoints
STEPS = 10

ROLE = "rehearsal"


def mission(name: str) -> Mission:
    return Mission(id=name, goal="try it", tasks=[Task(id="only", role=ROLE)])


@dataclass
class Disk:
    """
    What a peer has written down. A crash leaves it; an old copy of it may return.
    """

    events: dict[tuple[str, int], MeshEvent] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)

    def record(self, record: RecordChange) -> None:
        change = record.change
        for each in change.events:
            self.events.setdefault(each.key, each)
        for key in change.dropped:
            self.events.pop(key, None)
        for mine, new in (
            (self.heads, change.high_water),
            (self.floors, change.low_water),
        ):
            for origin, number in new.items():
                mine[origin] = max(number, mine.get(origin, 0))

    def load(self) -> ReplicatedLog:
        return ReplicatedLog(list(self.events.values()), self.heads, self.floors)

    def copy(self) -> "Disk":
        return Disk(dict(self.events), dict(self.heads), dict(self.floors))


@dataclass
class Work:
    """
    A run on a peer's endpoint.
    """

    epoch: int
    step: int
    going: bool = True


@dataclass
class Node:
    """
    One peer's process, its disk, and the endpoint that outlives the process.
    """

    name: str
    disk: Disk = field(default_factory=Disk)
    core: PeerStateMachine | None = None
    life: int = 0
    frozen: bool = False
    froze_s: float = 0.0
    waiting: list[Callable[[], None]] = field(default_factory=list)  # while frozen
    runs: dict[str, Work] = field(default_factory=dict)
    ready: bool = False
    seen: set[str] = field(default_factory=set)

    @property
    def up(self) -> bool:
        return self.core is not None


class Network:
    """
    Peers by name, and what happens to them, by a clock that only we turn.
    """

    def __init__(self, names: Iterable[str], seed: int, loss: float = 0.0) -> None:
        self.draw = random.Random(seed)
        self.now_s = 1000.0
        self.loss = loss
        self.latency_s = (0.001, 0.05)
        self.nodes = {name: Node(name) for name in names}
        self.sides: dict[str, int] = dict.fromkeys(self.nodes, 0)
        self.acknowledged: dict[str, int] = {}
        self.sent: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.started_runs: list[tuple[float, str, str, int, int]] = []
        self.steps: list[tuple[float, str, str, int]] = []
        self.cancelled: list[CancelRun] = []  # of what was running
        self.blind: list[tuple[float, str, str]] = []  # runs begun unknowingly
        self._told: dict[str, list[tuple[str, int, dict[str, int]]]] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._lost_s: dict[tuple[str, str], float] = {}
        self._found_s: dict[tuple[str, str], float] = {}
        for name in self.nodes:
            self.start(name)
            self.at(self.draw.random() * TICK_S, self._ticking(name))

    # -- what a test does

    def start(self, name: str, disk: Disk | None = None) -> None:
        node = self.nodes[name]
        node.disk = disk if disk is not None else node.disk
        node.life += 1
        node.seen = set()
        node.ready = node.frozen = False
        node.waiting.clear()
        clocks = Clocks(lambda: self.now_s, lambda: self.now_s + 1e9)
        self._remember_what_others_know(name)
        node.core = PeerStateMachine(
            LivePeer(name=name, roles=frozenset({ROLE})),
            int(self.now_s * 1000),
            node.disk.load(),
            clocks,
            random.Random(self.draw.random()),
        )
        self.carry_out(node, node.core.on_start())

    def crash(self, name: str) -> None:
        """
        Kill the peer, its endpoint and its runs; its disk stays.
        """
        node = self.nodes[name]
        node.core = None
        node.runs.clear()

    def freeze(self, name: str) -> None:
        self.nodes[name].frozen = True
        self.nodes[name].froze_s = self.now_s
        self._excuse(name)

    def wake(self, name: str) -> None:
        node = self.nodes[name]
        node.frozen = False
        if self.now_s - node.froze_s >= DETECT_S:  # it may have been declared dead
            self._remember_what_others_know(name)
        pending = [*node.waiting, lambda: self._tick(node)]  # both are overdue
        node.waiting.clear()
        self.draw.shuffle(pending)
        for act in pending:
            act()

    def split(self, *groups: Iterable[str]) -> None:
        for number, group in enumerate(groups):
            for name in group:
                self.sides[name] = number
        self._excuse()

    def heal(self) -> None:
        self.sides = dict.fromkeys(self.nodes, 0)

    def submit(self, name: str, task: str, copies: int = 2) -> None:
        node = self.nodes[name]
        assert node.core is not None
        self.carry_out(node, node.core.on_submit(mission(task), copies))

    def run(self, seconds: float) -> None:
        """
        Let *seconds* pass.
        """
        end = self.now_s + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now_s, _, act = heapq.heappop(self._queue)
            act()
        self.now_s = end

    def sleep(self, seconds: float) -> None:
        """
        Let *seconds* pass in which no machine runs.
        """
        self.now_s += seconds
        self._queue = [(at_s + seconds, *rest) for at_s, *rest in self._queue]

    def run_until(self, met: Callable[[], bool], within_s: float) -> float:
        """
        Let time pass until *met*; returns how much it took.
        """
        began = self.now_s
        while not met():
            if self.now_s - began > within_s:
                raise AssertionError(f"not met within {within_s} s")
            self.run(TICK_S)
        return self.now_s - began

    # -- what a test looks at

    @property
    def cores(self) -> list[PeerStateMachine]:
        return [node.core for node in self.nodes.values() if node.core is not None]

    def equal(self) -> bool:
        """
        Whether all live peers have the same log, save what some have compacted.
        """
        first, *others = (core.log for core in self.cores)
        bodies = {each.key: each.body for each in first}
        return all(
            other.high_water == first.high_water
            and all(bodies.get(each.key, each.body) == each.body for each in other)
            for other in others
        )

    def all_finished(self, tasks: Iterable[str]) -> bool:
        return all(
            core.state.of(task).result is not None
            for core in self.cores
            for task in tasks
        )

    def standing(self, task: str) -> set[str]:
        """
        The digests of the result that stands, one if all peers agree.
        """
        results = [core.state.of(task).result for core in self.cores]
        return {result.model_dump_json() if result else "none" for result in results}

    def running(self, task: str) -> list[str]:
        return [
            name
            for name, node in self.nodes.items()
            if task in node.runs and node.runs[task].going
        ]

    # -- the machinery

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._count, act))

    def reachable(self, one: str, other: str) -> bool:
        return self.sides[one] == self.sides[other]

    def carry_out(self, node: Node, effects: list[MeshEffect]) -> None:
        assert not any(isinstance(each, RecordChange) for each in effects[1:])
        for each in effects:
            match each:
                case RecordChange():
                    node.disk.record(each)
                case SendMessage():
                    self._send(node, each)
                case StartRun():
                    self._run(node, each)
                case SuspendRun() | CancelRun():
                    self._stop(node, each)
                case AckSubmission():
                    self.acknowledged[each.task] = each.copies
                case AnnounceReady():
                    node.ready = each.ready

    def _stop(self, node: Node, stop: SuspendRun | CancelRun) -> None:
        work = node.runs.get(stop.run.task)
        if work is None or work.epoch != stop.run.epoch:
            return
        work.going = False
        if isinstance(stop, CancelRun):
            self.cancelled.append(stop)
            del node.runs[stop.run.task]

    def _send(self, node: Node, send: SendMessage) -> None:
        packed = pack(send.message)
        self.sent[node.name] += 1
        self.sent_bytes[node.name] += len(packed)
        for _ in range(2 if self.draw.random() < self.loss / 4 else 1):
            if self.draw.random() >= self.loss:
                delay_s = self.draw.uniform(*self.latency_s)
                self.at(delay_s, self._delivering(node.name, send.to, packed))

    def _delivering(self, by: str, to: str, packed: bytes) -> Callable[[], None]:
        life = self.nodes[to].life

        def deliver() -> None:
            node = self.nodes[to]
            if node.core is None or node.life != life or not self.reachable(by, to):
                return
            if node.frozen:
                node.waiting.append(deliver)
                return
            self.carry_out(node, node.core.on_message(by, packed))

        return deliver

    def _run(self, node: Node, wanted: StartRun) -> None:
        run = wanted.run
        if not self._is_in_the_know(node):
            self.blind.append((self.now_s, node.name, run.task))
        part = wanted.progress.get("only")
        step = part.checkpoint.seq if isinstance(part, CheckpointSaved) else 0
        found = node.runs.get(run.task)
        if found and found.epoch == run.epoch:
            found.going = True
            return
        node.runs[run.task] = Work(run.epoch, step)
        note = (self.now_s, node.name, run.task, run.epoch, step)
        self.started_runs.append(note)
        self.at(STEP_S, self._stepping(node.name, run.task, run.epoch))

    def _remember_what_others_know(self, name: str) -> None:
        """
        Who begins or wakes must know all this before it runs anything.
        """
        self._told[name] = [
            (other.name, other.life, dict(other.core.log.high_water))
            for other in self.nodes.values()
            if other.core is not None
            and not other.frozen
            and other.name != name
            and self.reachable(name, other.name)
        ]

    def _excuse(self, away: str = "") -> None:
        """
        What cannot be asked for any more need not be known.
        """
        for name, told in self._told.items():
            self._told[name] = [
                each
                for each in told
                if each[0] != away and self.reachable(name, each[0])
            ]

    def _is_in_the_know(self, node: Node) -> bool:
        """
        Whether *node* has what those had that it could have asked ever since.
        """
        assert node.core is not None
        return all(
            covers(node.core.log.high_water, heads)
            for other, life, heads in self._told[node.name]
            if self.nodes[other].life == life and self.nodes[other].up
        )

    def _stepping(self, name: str, task: str, epoch: int) -> Callable[[], None]:
        def step() -> None:
            node = self.nodes[name]
            work = node.runs.get(task)
            if work is None or work.epoch != epoch or node.core is None:
                return
            if node.frozen or not work.going:
                self.at(STEP_S, step)
                return
            work.step += 1
            self.steps.append((self.now_s, name, task, epoch))
            if work.step >= STEPS:
                del node.runs[task]
                report = Report(mission=task, status=MissionStatus.COMPLETED, tasks=[])
                self.carry_out(
                    node, node.core.on_finished(MeshRunId(task, epoch), report)
                )
                return
            saved = Checkpoint(seq=work.step, route=ROLE, value=work.step)
            fact = CheckpointSaved(
                task=task, epoch=epoch, subtask="only", checkpoint=saved
            )
            self.carry_out(node, node.core.on_progress(fact))
            self.at(STEP_S, step)

        return step

    def _ticking(self, name: str) -> Callable[[], None]:
        def tick() -> None:
            self.at(TICK_S * self.draw.uniform(0.8, 1.2), tick)
            self._tick(self.nodes[name])

        return tick

    def _tick(self, node: Node) -> None:
        if node.core is not None and not node.frozen:
            self.carry_out(node, node.core.on_members(self._live(node)))
            self.carry_out(node, node.core.on_tick())

    def _live(self, node: Node) -> list[LivePeer]:
        """
        What the membership of *node* shows: late by as much as the real one.
        """
        for other in self.nodes.values():
            if other.name == node.name:
                continue
            pair = node.name, other.name
            if other.up and not other.frozen and self.reachable(*pair):
                self._lost_s.pop(pair, None)
                since = self._found_s.setdefault(pair, self.now_s)
                if self.now_s - since >= JOIN_S:
                    node.seen.add(other.name)
            else:
                self._found_s.pop(pair, None)
                since = self._lost_s.setdefault(pair, self.now_s)
                if self.now_s - since >= DETECT_S:
                    node.seen.discard(other.name)
        return [
            LivePeer(name=name, roles=frozenset({ROLE}), ready=self.nodes[name].ready)
            for name in sorted(node.seen)
        ]
