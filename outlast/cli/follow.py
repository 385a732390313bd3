"""
Follow a mission while it runs: a live board on a terminal, plain lines elsewhere.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from outlast.cli.snapshot import MissionSnapshot, PendingTasks, snapshot, task_line
from outlast.contracts.approvals import ApprovalRequest
from outlast.contracts.progress import MissionProgress
from outlast.contracts.reports import Outcome, Report
from outlast.contracts.text import visible_line
from outlast.process.called import as_called, tell
from outlast.process.safe_output import display_of
from outlast.temporal.client import Handle

FOLLOW_CHECK_S = 0.25
# Before this long nothing is said: a server that restarts is back by then.
NO_WORKER_AFTER_S = 3.0

COLOURS = {
    "done": "green",
    "degraded": "yellow",
    "skipped": "yellow",
    "parked": "magenta",
    "dead": "red",
}
LIVE_COLOURS = {"parked": "magenta", "retries": "yellow"}


class MissionScreen(Protocol):
    """
    Where a mission is followed.
    """

    def show(self, view: MissionSnapshot) -> None:
        """
        Show the mission as it is now.
        """

    def note(self, text: str) -> None:
        """
        Say something beside it.
        """


async def follow(started: Handle, screen: MissionScreen) -> Report:
    report = asyncio.ensure_future(started.result())
    seen_at = time.monotonic()
    noted, watched = False, PendingTasks()
    while not report.done():
        view = await snapshot(started.workflow, watched)
        if view is not None:
            screen.show(view)
            seen_at, noted = time.monotonic(), False
        elif time.monotonic() - seen_at > NO_WORKER_AFTER_S and not noted:
            screen.note("no answer from the server or a workflow process; waiting")
            noted = True
        await asyncio.wait([report], timeout=FOLLOW_CHECK_S)
    ended = report.result()
    screen.show(MissionSnapshot(_final(ended)))
    return ended


def _final(report: Report) -> MissionProgress:
    return MissionProgress(
        mission=report.mission,
        paused=False,
        waiting=[],
        running=[],
        settled=report.tasks,
    )


class PlainScreen:
    """
    Plain lines on standard error: one when a task starts, one when it ends.
    """

    def __init__(self) -> None:
        self._shown: set[tuple[str, ...]] = set()
        self._waiting_since: dict[str, float] = {}

    def show(self, view: MissionSnapshot) -> None:
        for running in view.progress.running:
            self._once(running.id, "running", f"on {running.route}")
            asked = view.request(running.id)
            if running.waiting_for:
                request = asked.request if asked else ""
                self._once(running.id, "parked", running.waiting_for, request)
            for command in approval_commands(asked, view):
                self._once(running.id, "answer", command, command)
            self._print_unstarted(running.id, view)
        for outcome in view.progress.settled:
            self._once(outcome.id, outcome.status, _outcome_text(outcome))

    def note(self, text: str) -> None:
        tell(text, file=sys.stderr)

    def _print_unstarted(self, task: str, view: MissionSnapshot) -> None:
        waits = view.unstarted.get(task)
        if waits is None or waits.backs_off:
            self._waiting_since.pop(task, None)
        if waits is None:
            return
        if waits.backs_off:
            self._once(task, "retries", waits.text, str(waits.attempt))
            return
        since = self._waiting_since.setdefault(task, time.monotonic())
        if time.monotonic() - since > NO_WORKER_AFTER_S:
            self._once(task, "waits", waits.text, str(waits.attempt))

    def _once(self, task: str, state: str, more: str, which: str = "") -> None:
        told = (task, state, which)
        if told not in self._shown:
            self._shown.add(told)
            self.note(f"{task:<16} {state:<9} {more}".rstrip())


class LiveScreen:
    """
    A live table on the terminal.
    """

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, view: MissionSnapshot) -> None:
        table = Table(box=None, pad_edge=False)
        for column in ("task", "state"):
            table.add_column(column, no_wrap=True)
        table.add_column("", overflow="fold")  # the only one that gives up room
        for outcome in view.progress.settled:
            colour = COLOURS[outcome.status]
            state = f"[{colour}]{outcome.status}[/]"
            table.add_row(outcome.id, state, shown(as_called(_outcome_text(outcome))))
        for running in view.progress.running:
            state, said = task_line(running, view)
            if state in LIVE_COLOURS:
                state = f"[{LIVE_COLOURS[state]}]{state}[/]"
            table.add_row(running.id, state, shown(said))
            for command in approval_commands(view.request(running.id), view):
                table.add_row("", "", shown(command))
        for task in view.progress.waiting:
            table.add_row(task, "[dim]waiting[/]", "")
        if view.progress.paused:
            table.caption = "paused"
        self._live.update(table, refresh=True)

    def note(self, text: str) -> None:
        self._live.console.print(shown(as_called(text)))


def approval_commands(
    asked: ApprovalRequest | None, view: MissionSnapshot
) -> list[str]:
    if asked is None:
        return []
    answer = asked.command(view.progress.mission)
    return [as_called(f"outlast {word} {answer}") for word in ("approve", "reject")]


@contextmanager
def screen(plain: bool) -> Iterator[MissionScreen]:
    """
    Choose where to show: a board on a terminal, lines when *plain* or without one.
    """
    console = Console(file=display_of(sys.stderr))
    if plain or not console.is_terminal:
        yield PlainScreen()
        return
    # Not redirected: what is written beside it goes through the safe stream.
    with Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        yield LiveScreen(live)


def shown(text: str) -> Text:
    """
    Make *text* a line of a live display: no markup, and nothing a terminal obeys.
    """
    return Text(visible_line(text))


def _outcome_text(outcome: Outcome) -> str:
    again = f"{outcome.attempts} attempts" if outcome.attempts > 1 else ""
    return "; ".join(each for each in (again, *outcome.reasons) if each)
