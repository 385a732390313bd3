"""
How a peer continues another one's task: what it must adopt, start, resume or cancel.

`decide_adoption` is the only place that adopts; `reconcile` makes the runs in hand
follow the log.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from outlast.contracts.ids import MeshRunId
from outlast.contracts.mesh_timing import MESH_RECENT_S
from outlast.mesh.core.effects import CancelRun, StartRun, SuspendRun
from outlast.mesh.core.events import TaskAdopted
from outlast.mesh.core.local_log import LocalLog
from outlast.mesh.core.ownership import LivePeer, owner_of
from outlast.mesh.core.projection import MeshState, MeshTask


class AdoptionDecision(Enum):
    """
    Whether a peer takes a task on.
    """

    ADOPT = "adopt"
    WAIT = "wait"  # its owner may be alive after all
    LEAVE = "leave"


def decide_adoption(
    task: MeshTask,
    me: LivePeer,
    live: Collection[LivePeer],
    spoke_recently: Callable[[str], bool],
) -> AdoptionDecision:
    """
    Decide whether *me*, one of the peers that *live*, takes *task* on. Only a peer
    that has caught up adopts.

    :param spoke_recently: whether a peer has sent a message in the last moments. Where
        a split heals, messages come before the membership shows their sender.
    """
    if task.submission is None or not (me.ready and task.open):
        return AdoptionDecision.LEAVE
    adopted = task.adopted
    owner = owner_of(task.task, task.submission.roles, adopted, live)
    if owner != me.name or (adopted and adopted.owner == me.name):
        return AdoptionDecision.LEAVE
    seen = {each.name for each in live}
    if adopted and adopted.owner not in seen and spoke_recently(adopted.owner):
        return AdoptionDecision.WAIT
    return AdoptionDecision.ADOPT


@dataclass(frozen=True)
class ActiveRun:
    """
    A run on this peer's endpoint. A suspended one waits until it is known whose it is.
    """

    epoch: int
    suspended: bool = False


def reconcile(
    run: ActiveRun | None, task: MeshTask, me: LivePeer
) -> tuple[ActiveRun | None, list[StartRun | CancelRun]]:
    """
    Make the *run* in hand follow what the log says of *task*; returns the run that is
    in hand then. Only a peer that has caught up starts or resumes.
    """
    effects: list[StartRun | CancelRun] = []
    adopted = task.adopted if task.open else None
    mine = adopted if adopted and adopted.owner == me.name else None
    if run and (mine is None or mine.epoch != run.epoch):
        effects.append(CancelRun(MeshRunId(task.task, run.epoch), adopted))
        run = None
    if me.ready and mine and task.submission and (run is None or run.suspended):
        run = ActiveRun(mine.epoch)
        wanted = MeshRunId(task.task, mine.epoch)
        mission, progress = task.submission.mission, dict(task.subtasks)
        effects.append(StartRun(wanted, mission, progress))
    return run, effects


def unfinished_runs(state: MeshState, me: str) -> dict[str, ActiveRun]:
    """
    The runs that earlier lives of the peer *me* began: its endpoint may still run them.
    """
    found = {}
    for name, task in state.tasks.items():
        mine = {each.epoch for each in task.adoptions if each.owner == me}
        ended = {each.epoch for each in task.finishes.values() if each.owner == me}
        if mine and max(mine) not in ended:
            found[name] = ActiveRun(max(mine))
    return found


class TaskAssigner:
    """
    The peer *me* among the *others* that live, and its runs, at most one a task.
    """

    def __init__(
        self, me: LivePeer, log: LocalLog, clock_s: Callable[[], float]
    ) -> None:
        self.me = me
        self.others: dict[str, LivePeer] = {}
        self._log = log
        self._clock_s = clock_s
        self._runs = unfinished_runs(log.state, me.name)
        self._contact_s: dict[str, float] = {}
        self._uncertain: set[str] = set()  # tasks whose owner may be alive after all

    def __contains__(self, run: MeshRunId) -> bool:
        found = self._runs.get(run.task)
        return found is not None and found.epoch == run.epoch

    @property
    def live(self) -> dict[str, LivePeer]:
        return {**self.others, self.me.name: self.me}

    def note_contact(self, peer: str) -> None:
        self._contact_s[peer] = self._clock_s()

    def suspend_all(self) -> list[SuspendRun]:
        going = {task: run for task, run in self._runs.items() if not run.suspended}
        self._runs |= {task: ActiveRun(run.epoch, True) for task, run in going.items()}
        return [SuspendRun(MeshRunId(task, run.epoch)) for task, run in going.items()]

    def end(self, run: MeshRunId) -> bool:
        """
        Let go of a run that has ended by itself; returns whether it was in hand.
        """
        in_hand = run in self
        if in_hand:
            del self._runs[run.task]
        return in_hand

    def assign_all(self) -> list[StartRun | CancelRun]:
        """
        Decide on everything again: other peers live now, or this one has caught up.
        """
        return self.assign(self._log.state.open | set(self._runs))

    def assign_uncertain(self) -> list[StartRun | CancelRun]:
        """
        Decide on the tasks that had to wait, since their owner might be alive.
        """
        tasks, self._uncertain = self._uncertain, set()
        return self.assign(tasks)

    def assign(self, tasks: Iterable[str]) -> list[StartRun | CancelRun]:
        """
        Adopt what is this peer's of *tasks*, and cancel what is not.
        """
        effects: list[StartRun | CancelRun] = []
        live = self.live.values()
        for name in sorted(tasks):
            task = self._log.state.of(name)
            match decide_adoption(task, self.me, live, self._spoke_recently):
                case AdoptionDecision.ADOPT:
                    epoch = task.adopted.epoch + 1 if task.adopted else 1
                    self._log.write(
                        TaskAdopted(task=name, epoch=epoch, owner=self.me.name)
                    )
                case AdoptionDecision.WAIT:
                    self._uncertain.add(name)
            run, todo = reconcile(self._runs.pop(name, None), task, self.me)
            if run:
                self._runs[name] = run
            effects += todo
        return effects

    def _spoke_recently(self, peer: str) -> bool:
        last_s = self._contact_s.get(peer)
        return last_s is not None and self._clock_s() - last_s < MESH_RECENT_S
