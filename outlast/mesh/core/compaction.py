"""
What of the log may go: what nobody in the mesh will ever ask for again.

Fold what everybody has; what that fold does not need, no later fold needs either. Who
was forgotten meanwhile lacks something that is gone, and rebuilds its log.
"""

from collections.abc import Iterable

from outlast.contracts.policies import MESH_KEEP_S
from outlast.mesh.core.events import (
    AnyFact,
    CheckpointSaved,
    Event,
    Key,
    PartFinished,
    TaskAdopted,
)
from outlast.mesh.core.projection import Standing, View
from outlast.mesh.core.replicated_log import Vector, meet


def needless(log: Iterable[Event], known: Iterable[Vector], now_s: float) -> list[Key]:
    """
    List the events of *log* that peers which all have *known* can do without.

    :param now_s: by the wall clock; it decides only how long finished tasks are kept.
    """
    shared = meet(known)
    stable = [each for each in log if each.seq <= shared.get(each.origin, 0)]
    view = View(stable)
    return [each.key for each in stable if _is_needless(each, view, now_s)]


def _is_needless(event: Event, view: View, now_s: float) -> bool:
    fact = event.fact
    task = getattr(fact, "task", None)
    if fact is None or task is None:
        return False
    standing = view.of(task)
    if not standing.open and now_s - standing.newest_s > MESH_KEEP_S:
        return True
    return _is_passed(fact, standing)


def _is_passed(fact: AnyFact, standing: Standing) -> bool:
    """
    Whether *fact* is progress that later progress has passed.
    """
    done = standing.result is not None
    match fact:
        case CheckpointSaved():
            return done or standing.parts.get(fact.part) is not fact
        case PartFinished():
            return standing.parts.get(fact.part) is not fact
        case TaskAdopted():
            return done
        case _:
            return False
