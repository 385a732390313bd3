"""
The status board of a running mission in the Web UI: its current details, in Markdown.

They answer a query, and the Web UI shows what is larger than a payload as a reference.
So the board of a large mission shows first what a person needs.
"""

from collections.abc import Iterable, Iterator

from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.progress import MissionProgress, RunningTask
from outlast.contracts.reports import Outcome, TaskStatus
from outlast.contracts.sizes import BOARD_BYTES
from outlast.contracts.text import markdown_cell

# The board of a larger mission shows only what runs and what ended last: rendering all
# of it for each change would cost more than running the mission.
MAX_BOARD_ROWS = 50
# Most lines of what a person is asked: the page has no room for more.
MAX_BOARD_LINES = 40
REQUESTS_BYTES = BOARD_BYTES // 3

BOARD_MARKS = {
    "done": "✅",
    "degraded": "🟡",
    "skipped": "⏭",
    "parked": "🅿",
    "dead": "❌",
}


def render_board(progress: MissionProgress, tasks: int = 0) -> str:
    """
    Render the board of *progress*, one row a task; it may hold only some of *tasks*.
    """
    head = ["**paused**", ""] if progress.paused else []
    head += ["| | task | role | |", "|-|-|-|-|"]
    return "\n".join([*head, *_table(progress, tasks), *_requests(progress)])


def _table(progress: MissionProgress, tasks: int) -> list[str]:
    """
    List a row for every task, or only for those that run, lack something or wait.
    """
    total = len(progress.settled) + len(progress.running) + len(progress.waiting)
    total = max(tasks, total)
    rows = list(_within(_by_state(progress), BOARD_BYTES - REQUESTS_BYTES))
    if len(rows) == total:
        return rows
    rows = list(_within(_by_need(progress), BOARD_BYTES - REQUESTS_BYTES))
    more = f"`outlast status {progress.mission}`"
    return [*rows, f"| | and {total - len(rows)} more | | {more} |"]


def _by_state(progress: MissionProgress) -> Iterator[str]:
    yield from (_ended_row(progress.mission, each) for each in progress.settled)
    yield from map(_running, progress.running)
    yield from map(_waiting, progress.waiting)


def _by_need(progress: MissionProgress) -> Iterator[str]:
    lacking = (each for each in progress.settled if each.status is not TaskStatus.DONE)
    done = (each for each in progress.settled if each.status is TaskStatus.DONE)
    yield from map(_running, progress.running)
    yield from (_ended_row(progress.mission, each) for each in lacking)
    yield from map(_waiting, progress.waiting)
    yield from (_ended_row(progress.mission, each) for each in done)


def _requests(progress: MissionProgress) -> list[str]:
    some = progress.approval_requests[:MAX_BOARD_LINES]
    lines = [
        line for each in some for line in _approval_request(progress.mission, each)
    ]
    shown = list(_within(lines[:MAX_BOARD_LINES], REQUESTS_BYTES))
    if len(shown) == len(lines):
        return shown
    return [*shown, f"- and more: `outlast parked {progress.mission}`"]


def _within(lines: Iterable[str], most: int) -> Iterator[str]:
    """
    Return as many of *lines*, from the first on, as fit into *most* bytes.
    """
    for line in lines:
        most -= len(line.encode()) + 1
        if most < 0:
            return
        yield line


def _approval_request(mission: str, asked: ApprovalRequest) -> list[str]:
    answer = asked.command(mission)
    return [
        "",
        f"**{asked.id}** waits for approval before its {asked.before}: "
        f"`outlast approve {answer}` or `reject`",
        *(f"- {markdown_cell(each.describe)}" for each in asked.effects),
    ]


def _running(running: RunningTask) -> str:
    mark = BOARD_MARKS["parked"] if running.waiting_for else "▶"
    told = markdown_cell(running.waiting_for or "running")
    return f"| {mark} | {running.id} | {running.route} | {told} |"


def _waiting(task: str) -> str:
    return f"| … | {task} | | waiting |"


def _ended_row(mission: str, outcome: Outcome) -> str:
    told = markdown_cell("; ".join(outcome.reasons) or outcome.status.value)
    if outcome.status in (TaskStatus.DEAD, TaskStatus.PARKED):
        told += f"; again: `outlast redrive {mission} --task {outcome.id}`"
    return (
        f"| {BOARD_MARKS[outcome.status]} | {outcome.id} | {outcome.route} | {told} |"
    )
