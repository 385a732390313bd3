"""
What a mission has done so far: read from one peer's ledger, put into another's.

Progress travels as checkpoints and results only. What was put in is found by the
mission's attempts as if they had left it there themselves.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.mesh_timing import MESH_EVENT_BYTES
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.contracts.tasks import Task
from outlast.ledger.checkpoints import checkpoint_of, checkpoint_row
from outlast.ledger.statements import RECORD_RESULT, SAVE_CHECKPOINT
from outlast.mesh.core.events import SubtaskFinished
from outlast.mesh.core.projection import Progressed
from outlast.store.database import Store
from outlast.store.schema import checkpoints, results

# A row that is written while we look has a time from before.
READ_MARGIN_S = 2.0
MAX_INLINE_BYTES = CHECKPOINT_BYTES - 1024


@dataclass(frozen=True)
class Progress:
    """
    One part's progress: a checkpoint, or the text of its result.
    """

    mission: str
    subtask: str
    round: int
    result: Checkpoint | str


class ProgressReader:
    """
    Looks for what missions have reached since the last look. Methods block.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self._store = store
        self._clock = clock or store.clock
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}

    def read(self, missions: list[str]) -> list[Progress]:
        """
        Collect what is new of *missions*.
        """
        if not missions:
            self._seen.clear()
            return []
        since = self._clock() - READ_MARGIN_S
        with self._store.read() as connection:
            found = [*self._saved(connection, missions, since)]
            found += self._finished(connection, missions, since)
        self._seen = {key: v for key, v in self._seen.items() if key[0] in missions}
        return found

    def _saved(
        self, connection: sa.Connection, missions: list[str], since: float
    ) -> Iterator[Progress]:
        body = checkpoints.c.body
        told = [each for each in checkpoints.c if each is not body]
        # What does not fit into an event is not even read.
        fits = sa.func.length(body) <= MESH_EVENT_BYTES
        query = sa.select(*told, sa.case((fits, body)).label("body")).where(
            checkpoints.c.mission.in_(missions), checkpoints.c.saved_at >= since
        )
        for row in connection.execute(query.order_by(checkpoints.c.seq)):
            if self._is_new(row.mission, row.task, row.round, row.seq):
                whole = _externalize(checkpoint_of(row), row.body)
                yield Progress(row.mission, row.task, row.round, whole)

    def _finished(
        self, connection: sa.Connection, missions: list[str], since: float
    ) -> Iterator[Progress]:
        # What does not fit into an event is not even read.
        size = sa.func.length(results.c.answer) + sa.func.length(results.c.result)
        query = sa.select(results).where(
            results.c.mission.in_(missions),
            results.c.recorded_at >= since,
            size <= MESH_EVENT_BYTES,
        )
        for row in connection.execute(query):
            if _is_local_only(row.answer):
                continue
            if self._is_new(row.mission, row.task, row.round, float("inf")):
                whole = f'{{"answer": {row.answer}, "result": {row.result}}}'
                yield Progress(row.mission, row.task, row.round, whole)

    def _is_new(self, mission: str, part: str, round_: int, seq: float) -> bool:
        last = self._seen.get((mission, part), (0, 0.0))
        if (round_, seq) <= last:
            return False
        self._seen[mission, part] = round_, seq
        return True


def current(parts: Iterable[Progressed], tasks: Iterable[Task]) -> list[Progressed]:
    """
    Leave out of *parts*, of a mission that was asked for *tasks*, what was made of
    something that has been begun anew since: beside it the old would count as done.
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
            for source in _downstream(each.subtask, sources)
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


def _downstream(part: str, sources: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    wave = {part}
    while wave := set().union(*(sources.get(each, ()) for each in wave)) - found:
        found |= wave
    return found


def import_progress(
    store: Store,
    mission: str,
    parts: Iterable[Progressed],
) -> None:
    """
    Have *mission*, which has not begun here, go on from *parts*. Any attempt's fence is
    higher than theirs, and its rounds start again at 1.
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
            folded, body = _inline(each.checkpoint)
            saved = {**checkpoint_row(folded), "body": body, "saved_at": now_s}
            connection.execute(SAVE_CHECKPOINT, {**key, **saved})


def _externalize(checkpoint: Checkpoint, body: bytes | None) -> Checkpoint:
    """
    Put a large value back into its checkpoint, if it can travel at all.
    """
    if body is None:
        return checkpoint
    return checkpoint.model_copy(update={"value": json.loads(body), "blob": None})


def _inline(checkpoint: Checkpoint) -> tuple[Checkpoint, bytes | None]:
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
    Say whether a result is none elsewhere: the items that it has fanned out, and large
    inputs of its follow-up tasks, are in this peer's store only, and what it has
    rejected may be done again by now.
    """
    told = json.loads(answer)
    return (
        told.get("fan_out") is not None
        or told.get("redo_request") is not None
        or any(task.get("stored") for task in told.get("follow_ups", ()))
    )
