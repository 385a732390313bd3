"""
What of the log may go: what nobody in the mesh will ever ask for again.

Fold what everybody has; what that fold does not need, no later fold needs either. Who
was forgotten meanwhile lacks something that is gone, and rebuilds its log.
"""

from collections.abc import Iterable

from outlast.contracts.mesh_timing import MESH_KEEP_S
from outlast.mesh.core.events import (
    AnyFact,
    CheckpointSaved,
    Key,
    MeshEvent,
    SubtaskFinished,
    TaskAdopted,
)
from outlast.mesh.core.projection import MeshState, MeshTask
from outlast.mesh.core.replicated_log import VersionVector, intersect


def compactable(
    log: Iterable[MeshEvent], known: Iterable[VersionVector], now_s: float
) -> list[Key]:
    """
    List the events of *log* that peers which all have *known* can do without.

    :param now_s: by the wall clock; it decides only how long finished tasks are kept.
    """
    shared = intersect(known)
    stable = [each for each in log if each.seq <= shared.get(each.origin, 0)]
    view = MeshState(stable)
    return [each.key for each in stable if _is_compactable(each, view, now_s)]


def _is_compactable(event: MeshEvent, view: MeshState, now_s: float) -> bool:
    fact = event.fact
    task = getattr(fact, "task", None)
    if fact is None or task is None:
        return False
    mesh_task = view.of(task)
    if not mesh_task.open and now_s - mesh_task.newest_s > MESH_KEEP_S:
        return True
    return _is_superseded(fact, mesh_task)


def _is_superseded(fact: AnyFact, mesh_task: MeshTask) -> bool:
    """
    Whether *fact* is progress that later progress has passed.
    """
    done = mesh_task.result is not None
    match fact:
        case CheckpointSaved():
            return done or mesh_task.subtasks.get(fact.subtask) is not fact
        case SubtaskFinished():
            return mesh_task.subtasks.get(fact.subtask) is not fact
        case TaskAdopted():
            return done
        case _:
            return False
