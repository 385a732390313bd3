"""
What came of a mission or batch: its results, and how far a batch is.
"""

import json
import re
import sys
from collections.abc import Iterator

from outlast.cli.session import Session
from outlast.ledger.batches import INTERRUPTED
from outlast.ledger.item_results import ItemResults
from outlast.process.called import tell
from outlast.process.safe_output import stream_error
from outlast.temporal.workflow_state import ENDED_OUTSIDE, interrupted


def show_results(session: Session, name: str) -> None:
    for line in result_lines(session, name):
        print(line)
        if stream_error(sys.stdout):
            return


def result_lines(session: Session, name: str) -> Iterator[str]:
    """
    Read results one at a time: a JSON line for each task of the mission *name*, or for
    each item of the batch, in the order of the items.

    :raises BadInputError: when there is no such mission or batch.
    """
    if session.missions.find(name) is not None:
        results = session.missions.results(name)
        for task in results:
            yield f'{{"task": "{task}", "result": {ascii_json(results.text(task))}}}'
        return
    session.require_batch(name)
    for number, result, degraded in ItemResults(session.store).results(name):
        more = f', "degraded": {json.dumps(degraded)}' if degraded else ""
        yield f'{{"item": {number}, "result": {ascii_json(result)}{more}}}'


def ascii_json(text: str) -> str:
    """
    Write the letters of the JSON *text* that not every terminal or pipe can take as
    their numbers; its numbers stay as they are written.
    """
    if text.isascii() and text.isprintable():
        return text
    return re.sub(r"[^ -~]", lambda found: json.dumps(found[0])[1:-1], text)


async def show_batch(session: Session, batch: str, as_json: bool) -> None:
    await session.reconcile(batch)
    entry, count = session.require_batch(batch), session.batches.count(batch)
    if as_json:
        value = {
            "batch": batch,
            "status": entry.state,
            "items": count.items,
            "done": count.done,
            "dead": count.dead,
            "failing": session.batches.failing(batch),
        }
        print(json.dumps(value))
        return
    left = f"{count.done:,} of {count.items:,} done, {count.dead:,} dead letters"
    print(f"{batch}  {entry.state}  {left}")
    if entry.state == INTERRUPTED:
        tell(interrupted(batch, ENDED_OUTSIDE))
