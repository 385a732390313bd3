"""
What a mission has done so far: read from one peer's ledger, written into another's.

Progress travels as checkpoints and results only. The mission's attempts find what was
written as if they had left it there themselves.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.ids import MeshRunId
from outlast.contracts.mesh_timing import MESH_EVENT_BYTES
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.contracts.tasks import Task
from outlast.ledger.checkpoints import (
    SAVE_CHECKPOINT,
    checkpoint_of,
    checkpoint_row,
)
from outlast.ledger.results import RECORD_RESULT
from outlast.mesh.core.events import CheckpointSaved, Progressed, SubtaskFinished
from outlast.store.database import Store
from outlast.store.schema import checkpoints, results

# A row that is written during a read has a time from before it.
READ_MARGIN_S = 2.0
MAX_INLINE_BYTES = CHECKPOINT_BYTES - 1024


class ProgressReader:
    """
    Reads what missions have reached since the last read. Methods block.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self._store = store
        self._clock = clock or store.clock
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}

    def read(self, runs: Mapping[str, MeshRunId]) -> list[Progressed]:
        """
        Collect what is new of *runs*, by the missions as which they run here.
        """
        if not runs:
            self._seen.clear()
            return []
        since = self._clock() - READ_MARGIN_S
        with self._store.read() as connection:
            found: list[Progressed] = [
                *self._saved(connection, runs, since),
                *self._finished(connection, runs, since),
            ]
        self._seen = {key: v for key, v in self._seen.items() if key[0] in runs}
        return found

    def _saved(
        self, connection: sa.Connection, runs: Mapping[str, MeshRunId], since: float
    ) -> Iterator[CheckpointSaved]:
        body = checkpoints.c.body
        others = [each for each in checkpoints.c if each is not body]
        # What does not fit into an event is not even read.
        fits = sa.func.length(body) <= MESH_EVENT_BYTES
        query = sa.select(*others, sa.case((fits, body)).label("body")).where(
            checkpoints.c.mission.in_(runs), checkpoints.c.saved_at >= since
        )
        for row in connection.execute(query.order_by(checkpoints.c.seq)):
            if self._is_new(row.mission, row.task, row.round, row.seq):
                whole = _inline(checkpoint_of(row), row.body)
                place = _place(runs[row.mission], row.task, row.round)
                yield CheckpointSaved(**place, checkpoint=whole)

    def _finished(
        self, connection: sa.Connection, runs: Mapping[str, MeshRunId], since: float
    ) -> Iterator[SubtaskFinished]:
        # What does not fit into an event is not even read.
        size = sa.func.length(results.c.answer) + sa.func.length(results.c.result)
        query = sa.select(results).where(
            results.c.mission.in_(runs),
            results.c.recorded_at >= since,
            size <= MESH_EVENT_BYTES,
        )
        for row in connection.execute(query):
            if _is_local_only(row.answer):
                continue
            if self._is_new(row.mission, row.task, row.round, float("inf")):
                whole = f'{{"answer": {row.answer}, "result": {row.result}}}'
                place = _place(runs[row.mission], row.task, row.round)
                yield SubtaskFinished(**place, answer=whole)

    def _is_new(self, mission: str, part: str, round_: int, seq: float) -> bool:
        last = self._seen.get((mission, part), (0, 0.0))
        if (round_, seq) <= last:
            return False
        self._seen[mission, part] = round_, seq
        return True


def _place(run: MeshRunId, subtask: str, round_: int) -> dict[str, Any]:
    return {**run._asdict(), "subtask": subtask, "round": round_}


def current(parts: Iterable[Progressed], tasks: Iterable[Task]) -> list[Progressed]:
    """
    Leave out of *parts*, of a mission that was asked for *tasks*, what was made of a
    task that has been redone since: beside its new result the old would count as done.
    """
    found = list(parts)
    sources = _sources(found, tasks)
    reached = {each.subtask: (each.epoch, each.round) for each in found}
    # This costs at most what would have been done again anyway. A task that an unknown
    # author has asked for is done again too: its author is, and may ask otherwise.
    return [
        each
        for each in found
        if each.subtask in sources
        and all(
            reached.get(source, (0, 0)) <= reached[each.subtask]
            for source in _upstream(each.subtask, sources)
        )
    ]


def _sources(parts: Iterable[Progressed], tasks: Iterable[Task]) -> dict[str, set[str]]:
    """
    List what each task is made of: its needs, and the task that has asked for it.
    """
    sources = {task.id: {*task.needs} for task in tasks}
    for each in parts:
        if isinstance(each, SubtaskFinished):
            asked = json.loads(each.answer)["answer"].get("follow_ups", [])
            sources |= {task["id"]: {each.subtask, *task["needs"]} for task in asked}
    return sources


def _upstream(part: str, sources: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    wave = {part}
    while wave := set().union(*(sources.get(each, ()) for each in wave)) - found:
        found |= wave
    return found


def import_progress(store: Store, mission: str, parts: Iterable[Progressed]) -> None:
    """
    Let *mission*, which has not begun here, continue from *parts*. Any attempt's fence
    is higher than theirs, and its rounds start again at 1.
    """
    now_s = store.clock()
    with store.write(durable=False) as connection:
        for each in parts:
            key = {"mission": mission, "task": each.subtask, "round": 1, "fence": 0}
            if isinstance(each, SubtaskFinished):
                kept = json.loads(each.answer)
                row = {name: json.dumps(kept[name]) for name in ("answer", "result")}
                connection.execute(RECORD_RESULT, {**key, **row, "recorded_at": now_s})
                continue
            stored, body = _externalize(each.checkpoint)
            saved = {**checkpoint_row(stored), "body": body, "saved_at": now_s}
            connection.execute(SAVE_CHECKPOINT, {**key, **saved})


def _inline(checkpoint: Checkpoint, body: bytes | None) -> Checkpoint:
    """
    Put a large value back into its checkpoint; without *body* it cannot travel.
    """
    if body is None:
        return checkpoint
    return checkpoint.model_copy(update={"value": json.loads(body), "blob": None})


def _externalize(checkpoint: Checkpoint) -> tuple[Checkpoint, bytes | None]:
    """
    Take a value that is too large for a heartbeat out of its checkpoint.
    """
    body = json.dumps(checkpoint.value).encode()
    if len(body) <= MAX_INLINE_BYTES:
        return checkpoint, None
    digest = hashlib.sha256(body).hexdigest()
    return checkpoint.model_copy(update={"value": None, "blob": digest}), body


def _is_local_only(answer: str) -> bool:
    """
    Whether a result is of no use elsewhere: the items that it has fanned out, and
    large inputs of its follow-up tasks, are in this peer's store only, and what it has
    rejected may have been redone by now.
    """
    told = json.loads(answer)
    return (
        told.get("fan_out") is not None
        or told.get("redo_request") is not None
        or any(task.get("stored") for task in told.get("follow_ups", ()))
    )
