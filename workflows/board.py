"""
How a mission looks in the Web UI while it runs: its current details, as Markdown.
"""

from outlast.contracts.reports import Outcome, Progress, Running
from outlast.contracts.texts import markdown_cell

MARKS = {
    "done": "✅",
    "degraded": "🟡",
    "skipped": "⏭",
    "parked": "🅿",
    "dead": "❌",
}


def board(progress: Progress) -> str:
    """
    Draw the board: one row a task.
    """
    rows = [_settled(each) for each in progress.settled]
    rows += [_running(each) for each in progress.running]
    rows += [f"| … | {task} | | waiting |" for task in progress.waiting]
    head = ["**paused**", ""] if progress.paused else []
    return "\n".join([*head, "| | task | role | |", "|-|-|-|-|", *rows])


def _running(running: Running) -> str:
    mark = MARKS["parked"] if running.waits else "▶"
    told = markdown_cell(running.waits or "running")
    return f"| {mark} | {running.id} | {running.route} | {told} |"


def _settled(outcome: Outcome) -> str:
    told = markdown_cell("; ".join(outcome.reasons) or outcome.status.value)
    return f"| {MARKS[outcome.status]} | {outcome.id} | {outcome.route} | {told} |"
