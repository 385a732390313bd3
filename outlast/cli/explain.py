"""
The story of a mission, one line an attempt: where, what noticed its end, how long
that took, and at which step it went on.
"""

import json
import time
from textwrap import indent
from typing import Any

from outlast.cli.session import Session
from outlast.contracts.failures import FailureType
from outlast.ledger.attempts import NO_END
from outlast.process.called import tell
from outlast.temporal.client import state_word


def show_attempts(
    session: Session, mission: str, as_json: bool, traces: bool = False
) -> None:
    """
    Print the story.

    :param traces: with the traceback of each attempt that raised.
    :raises BadInputError: when the ledger does not know the mission.
    """
    entry = session.require_mission(mission)
    attempts = session.missions.attempts(mission)
    if not traces:
        attempts = [{**each, "traceback": None} for each in attempts]
    if as_json:
        print(json.dumps({"mission": mission, "attempts": attempts}))
        return
    print(f"{mission}  {state_word(entry)}  {entry.goal}")
    for attempt in attempts:
        tell(line(attempt, entry.report is not None))
        if attempt["traceback"]:
            print(indent(attempt["traceback"].rstrip(), "    "))
    if entry.report is not None:
        for task in entry.report.tasks:
            if task.approval:
                print(f"{task.id} was {task.approval}")
        for reason in entry.report.degraded:
            tell(f"lacks: {reason}")


def line(attempt: dict[str, Any], over: bool) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(attempt["started_at"]))
    told = [f"{at} {attempt['task']:<14} attempt {attempt['attempt']}"]
    told.append(f"{attempt['route']} on {attempt['host']} pid {attempt['pid']}")
    if attempt["previous_failure"]:
        told.append(f"after {attempt['previous_failure']}")
    if attempt["recovery_s"] is not None:
        told.append(f"{attempt['recovery_s']:.2f} s after the last sign")
    if attempt["resumed_seq"]:
        told.append(f"resumed after step {attempt['resumed_seq']}")
    told.append(_end_of(attempt, over))
    return " | ".join(told)


def _end_of(attempt: dict[str, Any], over: bool) -> str:
    if attempt["ended_at"] is None:
        return NO_END if over else f"{NO_END} yet"
    if attempt["failure_type"] == FailureType.NOT_RECORDED:
        return NO_END  # when its line was closed says nothing of when it died
    took = attempt["ended_at"] - attempt["started_at"]
    return f"{_end_text(attempt)} after {took:.2f} s"


def _end_text(attempt: dict[str, Any]) -> str:
    """
    Tell a request for approval as one: the agent raises it, but nothing has failed.
    """
    asks = attempt["failure_type"] == FailureType.APPROVAL_NEEDED
    return (
        f"asks for approval of {attempt['end_reason']}"
        if asks
        else attempt["end_reason"]
    )
