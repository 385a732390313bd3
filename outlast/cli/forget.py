"""
Forget missions and batches that have ended: old ones, or one by its name.
"""

import json

from outlast.cli.session import Session
from outlast.contracts.errors import BadInputError
from outlast.ledger.batches import INTERRUPTED
from outlast.ledger.retention import forget_batch, forget_mission, prune
from outlast.temporal.workflow_state import ENDED_OUTSIDE, interrupted


def show_pruned(session: Session, older_than_days: float, as_json: bool) -> None:
    older_than_s = older_than_days * 86_400
    pruned = prune(session.store, older_than_s, session.store.clock())
    print(json.dumps({"pruned": pruned}) if as_json else f"{len(pruned)} forgotten")


def show_forgotten(session: Session, name: str) -> None:
    batch = session.batches.find(name)
    if batch is not None:
        why = ENDED_OUTSIDE if batch.state == INTERRUPTED else ""
        _require_ended(name, why, batch.finished_at is not None)
        forget_batch(session.store, name)
        print(f"{name}: forgotten")
        return
    entry = session.require_mission(name)
    _require_ended(name, entry.interruption, entry.report is not None)
    forget_mission(session.store, name)
    print(f"{name}: forgotten; its report file, if any, is yours to delete")


def _require_ended(name: str, interruption: str, ended: bool) -> None:
    if interruption:
        raise BadInputError(interrupted(name, interruption))
    if not ended:
        raise BadInputError(
            f"{name} is under way, and its workers need its records: end it first with "
            f"outlast cancel {name}"
        )
