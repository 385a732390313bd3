"""
Conduct a mission: find a server, start, follow, report.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from temporalio.client import Client as TemporalClient

from outlast.cli.entrypoint import (
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    in_session,
)
from outlast.cli.follow import follow, screen
from outlast.cli.session import Session, note, require_local_workers
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.dev.stack_client import CONNECT_LIMIT_S, UsedStack, running_stack
from outlast.process.json_output import reserve_stdout
from outlast.process.stop_signals import END_SIGNALS, on_stop
from outlast.settings import settings
from outlast.telemetry import setup
from outlast.telemetry.process import telemetry
from outlast.temporal.client import Client
from outlast.temporal.connect import describe_address
from outlast.temporal.missions import with_routes


@dataclass(frozen=True)
class RunOptions:
    """
    How to conduct and how to report.
    """

    embedded: bool
    as_json: bool
    plain: bool
    strict: bool


@dataclass(frozen=True)
class FinishedMission:
    """
    A mission that has ended, and what there is to say about it.
    """

    mission: Mission
    report: Report
    results: Mapping[str, Any]
    seconds: float
    ui: str | None
    ui_stays: bool = True  # when this command has ended


Print = Callable[[FinishedMission], None]


def run_and_report(
    mission: Mission, options: RunOptions, as_json: Print, as_text: Print
) -> None:
    """
    Start *mission*, follow it, print how it ended, and exit by its status.

    :raises BadInputError: before anything is started.
    """
    if options.as_json:
        reserve_stdout()
    mission = with_routes(mission)  # before anything is started
    if not options.embedded:
        require_local_workers()
    print_end = as_json if options.as_json else as_text
    in_session(_run_and_report, mission, options, print_end)


def _run_and_report(
    session: Session, mission: Mission, options: RunOptions, print_end: Print
) -> None:
    began = time.monotonic()
    home = " on the state in OUTLAST_HOME (`outlast dev`)" if options.embedded else ""
    kept = (
        f"\nmission {mission.id} is kept and goes on as soon as workers run{home}; "
        f"look with: outlast status {mission.id}"
    )
    with on_stack(session, options, kept):
        report = asyncio.run(_run_mission(session, mission, options))
        stack = session.stack
        print_end(
            FinishedMission(
                mission=mission,
                report=report,
                results=session.missions.results(mission.id),
                seconds=round(time.monotonic() - began, 3),
                ui=_ui(stack, mission),
                ui_stays=stack is not None and not stack.started,
            )
        )
    raise typer.Exit(_exit_code(report, options.strict))


async def _run_mission(
    session: Session, mission: Mission, options: RunOptions
) -> Report:
    temporal = await connect_for_work(session)
    told = {"outlast.mission": mission.id, "outlast.tenant": mission.tenant}
    with telemetry.tracer.span("mission", told):  # the root of its one trace
        started = await Client(temporal, session.store).start_resolved(mission)
        print_address(temporal, options)
        with screen(options.plain or options.as_json) as shown:
            shown.note(f"mission {mission.id}")
            report = await follow(started, shown)
        telemetry.tracer.describe({"outlast.status": report.status.value})
        return report


@contextmanager
def on_stack(session: Session, options: RunOptions, kept: str) -> Iterator[None]:
    """
    With --embedded have *session* use this home's stack, starting one if there is none.

    :param kept: what is said when Ctrl-C or SIGTERM ends the command.
    """
    with ExitStack() as leaving:
        if options.embedded:
            session.stack = leaving.enter_context(running_stack(settings(), note))
        try:
            yield
        except (KeyboardInterrupt, asyncio.CancelledError):
            note(kept)
            raise typer.Exit(EXIT_INTERRUPTED) from None


async def connect_for_work(session: Session) -> TemporalClient:
    """
    Connect for new work: also to a stack that is about to be started. SIGTERM and a
    closed terminal cancel the current task from here on, as Ctrl-C does by itself.
    """
    if (task := asyncio.current_task()) is not None:
        on_stop(task.cancel, END_SIGNALS)
    setup.start_telemetry("starter")
    return await session.client(CONNECT_LIMIT_S)


def print_address(client: TemporalClient, options: RunOptions) -> None:
    """
    Say where new work has gone, if not to the home's own stack for certain.
    """
    if not options.embedded:
        note(f"on Temporal {describe_address(client)}")


def _ui(stack: UsedStack | None, mission: Mission) -> str | None:
    if stack is None:
        return None
    return f"{stack.line.ui}/namespaces/default/workflows/{mission.id}"


def _exit_code(report: Report, strict: bool) -> int:
    if report.status is MissionStatus.COMPLETED:
        return 0
    if report.status is MissionStatus.DEGRADED:
        return EXIT_DEGRADED if strict else 0
    return EXIT_FAILED
