"""
How a mission looks in the Web UI while it runs: its current details, as Markdown.
"""

from outlast.contracts.reports import Asked, Outcome, Progress, Running
from outlast.contracts.texts import markdown_cell

# What a person is asked, at most: the page has no room for more.
MOST_LINES = 40

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
    asked = [line for each in progress.asked for line in _asked(progress.mission, each)]
    if len(asked) > MOST_LINES:
        asked = [
            *asked[:MOST_LINES],
            f"- and more: `starter.py parked {progress.mission}`",
        ]
    return "\n".join([*head, "| | task | role | |", "|-|-|-|-|", *rows, *asked])


def _asked(mission: str, asked: Asked) -> list[str]:
    """
    List the effects that a person is asked about, and the command that answers.
    """
    answer = asked.answer(mission)
    return [
        "",
        f"**{asked.id}** waits for approval before its {asked.before}: "
        f"`starter.py approve {answer}` or `reject`",
        *(f"- {markdown_cell(each.about)}" for each in asked.effects),
    ]


def _running(running: Running) -> str:
    mark = MARKS["parked"] if running.waits else "▶"
    told = markdown_cell(running.waits or "running")
    return f"| {mark} | {running.id} | {running.route} | {told} |"


def _settled(outcome: Outcome) -> str:
    told = markdown_cell("; ".join(outcome.reasons) or outcome.status.value)
    return f"| {MARKS[outcome.status]} | {outcome.id} | {outcome.route} | {told} |"
