"""
The story of a mission, one line an attempt: where, what noticed its end, how long
that took, and at which step it went on.
"""

import json
import time
from typing import Any

from outlast.cli.home import open_store
from outlast.contracts.errors import BadInputError
from outlast.store.books import Books


def show_story(mission: str, as_json: bool) -> None:
    """
    Print the story.

    :raises BadInputError: when the ledger does not know the mission.
    """
    books = Books(open_store())
    entry = books.find(mission)
    if entry is None:
        raise BadInputError(f"no mission {mission!r} is in the ledger")
    attempts = books.attempts(mission)
    if as_json:
        print(json.dumps({"mission": mission, "attempts": attempts}))
        return
    print(f"{mission}  {entry.state}  {entry.goal}")
    for attempt in attempts:
        print(line(attempt, entry.report is not None))
    if entry.report is not None:
        for reason in entry.report.degraded:
            print(f"lacks: {reason}")


def line(attempt: dict[str, Any], over: bool) -> str:
    """
    Tell one attempt of a mission that is *over* or not.
    """
    at = time.strftime("%H:%M:%S", time.localtime(attempt["started_at"]))
    told = [f"{at} {attempt['task']:<14} attempt {attempt['attempt']}"]
    told.append(f"{attempt['route']} on {attempt['host']} pid {attempt['pid']}")
    if attempt["noticed_by"]:
        told.append(f"after {attempt['noticed_by']}")
    if attempt["after_s"] is not None:
        told.append(f"{attempt['after_s']:.2f} s after the last sign")
    if attempt["resumed_seq"]:
        told.append(f"resumed after step {attempt['resumed_seq']}")
    told.append(_ending(attempt, over))
    return " | ".join(told)


def _ending(attempt: dict[str, Any], over: bool) -> str:
    if attempt["ended_at"] is None:
        return "died" if over else "died, or runs still"
    took = attempt["ended_at"] - attempt["started_at"]
    return f"{attempt['ending']} after {took:.2f} s"
