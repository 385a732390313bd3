"""
Conduct a mission from the starter: find a server, start, follow, report.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import typer
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from outlast.cli.entrypoint import EXIT_DEGRADED, EXIT_FAILED, EXIT_INTERRUPTED
from outlast.cli.follow import follow, screen
from outlast.cli.stores import open_store
from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.contracts.failures import FailureType
from outlast.contracts.missions import Mission
from outlast.contracts.reports import MissionStatus, Report
from outlast.dev.stack_client import (
    CONNECT_LIMIT_S,
    find_stack,
    running_stack,
    temporal_of,
)
from outlast.dev.stack_state import logs_text
from outlast.ledger.batches import INTERRUPTED, BatchRecords
from outlast.ledger.missions import MissionRecords
from outlast.process.called import tell
from outlast.process.json_output import reserve_stdout
from outlast.process.stop_signals import END_SIGNALS, on_stop
from outlast.settings import has_configured_temporal, settings
from outlast.telemetry import setup
from outlast.telemetry.spans import describe, span
from outlast.temporal.connect import connect, describe_address, require_shared_store
from outlast.temporal.missions import (
    UNKNOWN_TO_STORE,
    MissionHandle,
    start_resolved,
    with_routes,
)
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.payload_storage import with_storage
from outlast.temporal.reconcile import ENDED_OUTSIDE, Reconciler, interrupted

UPDATE_LIMIT_S = 10.0
RECONCILE_LIMIT_S = 5.0
UPDATES_PAST_TENSE = {
    "approve": "approved",
    "reject": "rejected",
    "pause": "paused",
    "unpause": "goes on",
    "cancel": "cancelled",
    "redrive": "redriven",
}


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
    Start *mission*, follow it, tell how it ended, and exit by its status.

    :raises BadInputError: before anything is started.
    """
    if options.as_json:
        reserve_stdout()
    mission = with_routes(mission)  # before anything is started
    if not options.embedded:
        require_local_workers()
    began = time.monotonic()
    with ExitStack() as leaving:
        ready = use_stack(leaving) if options.embedded else None
        try:
            started, report = asyncio.run(_run_mission(mission, options, ready))
        except (KeyboardInterrupt, asyncio.CancelledError):
            _print_interrupted(mission, options)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        conducted = FinishedMission(
            mission=mission,
            report=report,
            results=started.records.results(mission.id),
            seconds=round(time.monotonic() - began, 3),
            ui=_ui(ready, mission),
            ui_stays=ready is not None and not ready["started"],
        )
        (as_json if options.as_json else as_text)(conducted)
    raise typer.Exit(_exit_code(report, options.strict))


def use_stack(leaving: ExitStack) -> dict[str, Any]:
    """
    Use this home's stack until *leaving*; says so when one has to be started.
    """
    return leaving.enter_context(running_stack(settings(), _note))


async def with_client(act: Callable[[Client], Awaitable[Any]]) -> Any:
    """
    Do *act* with a client of the server that this home uses.
    """
    return await act(await connect_default())


async def connect_default(
    ready: dict[str, Any] | None = None, wait_s: float = 0.0
) -> Client:
    """
    Connect to the stack that says it is *ready*, else to the Temporal of the
    environment, else to the stack on this home, waiting for one that is starting.

    :param wait_s: how long to wait for a stack of which there is no sign yet.
    :raises UnavailableError: when there is none, or it does not answer.
    """
    if ready is None:
        where = await temporal_of(settings(), _note, wait_s)
        return with_storage(await connect(where, quiet=True), open_store)
    try:
        return with_storage(await connect(ready["address"], quiet=True), open_store)
    except UnavailableError as error:
        raise UnavailableError(
            f"{error} ({logs_text(settings().home.resolve())})"
        ) from None


async def connect_for_work(ready: dict[str, Any] | None) -> Client:
    """
    Connect as `connect_default` does, for new work.
    """
    return await connect_default(ready, CONNECT_LIMIT_S)


async def reconciled(*names: str) -> None:
    """
    Make the records of these missions and batches true, or of all that are under way,
    where the server that they are on answers.
    """
    if not has_configured_temporal() and find_stack(settings()) is None:
        return  # what listens at the usual port may be somebody else's
    with contextlib.suppress(OutlastError, RPCError, TimeoutError):
        async with asyncio.timeout(RECONCILE_LIMIT_S):
            client, store = await connect_default(), open_store()
            await require_known_server(client, store)
            reconciler = Reconciler(client, store)
            await (reconciler.check(names) if names else reconciler.all())


async def why_refused(mission: str) -> str:
    """
    Say why a mission has no record that Temporal alone had started, where its workflow
    has refused its input; "" where it has not, or nobody answers.
    """
    with contextlib.suppress(OutlastError, RPCError, TimeoutError):
        async with asyncio.timeout(RECONCILE_LIMIT_S):
            handle = (await connect_default()).get_workflow_handle(mission)
            if (await handle.describe()).status is WorkflowExecutionStatus.FAILED:
                return await _refusal_text(handle)
    return ""


async def _refusal_text(handle: WorkflowHandle[Any, Any]) -> str:
    try:
        await handle.result()
    except WorkflowFailureError as error:
        cause = error.cause
        if isinstance(cause, ApplicationError) and cause.type == FailureType.BAD_INPUT:
            return f"{handle.id} was refused: {cause.message}"
    return ""


def print_address(client: Client, options: RunOptions) -> None:
    """
    Say where new work has gone, if not to the home's own stack for certain.
    """
    if not options.embedded:
        _note(f"on Temporal {describe_address(client)}")


def require_local_workers() -> None:
    """
    Make sure, before the store is written, that the workers have the same one.

    :raises BadInputError: when they are elsewhere and the store is a file here.
    """
    if has_configured_temporal() or find_stack(settings()) is None:
        require_shared_store(settings())


async def update(client: Client, mission: str, name: str, *args: Any) -> None:
    """
    Send an update to a running mission.

    :raises BadInputError: when there is no such mission under way, or it refuses, in
        its own words.
    """
    handle = client.get_workflow_handle(mission)
    try:
        async with asyncio.timeout(UPDATE_LIMIT_S):
            await handle.execute_update(name, args=list(args))
    except WorkflowUpdateFailedError as error:
        raise BadInputError(_error_text(error)) from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            await reconciled(mission)
            raise BadInputError(_why_unknown(mission)) from None
        raise UnavailableError(f"{mission}: {error.message}") from None
    except TimeoutError:
        raise UnavailableError(
            f"{mission}: no workflow process answers within {UPDATE_LIMIT_S:g} s; "
            "start workers with outlast-worker"
        ) from None
    print(f"{mission}: {UPDATES_PAST_TENSE[name]}")


def _error_text(refused: WorkflowUpdateFailedError) -> str:
    """
    Read why an update was refused, without the type that the error travelled as.
    """
    cause = refused.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause)


def _note(text: str) -> None:
    tell(text, file=sys.stderr)


def _why_unknown(mission: str) -> str:
    store = open_store()
    mine = MissionRecords(store).find(mission)
    if mine is not None and mine.interruption:
        return interrupted(mission, mine.interruption)
    entry = mine or BatchRecords(store).find(mission)
    if entry is not None and entry.state == INTERRUPTED:
        return interrupted(mission, ENDED_OUTSIDE)
    if entry is not None and entry.finished_at is None:
        return f"{mission}: {UNKNOWN_TO_STORE}"
    return f"no mission {mission!r} is under way"


async def _run_mission(
    mission: Mission, options: RunOptions, ready: dict[str, Any] | None
) -> tuple[MissionHandle, Report]:
    cancel_on_stop()
    setup.start_telemetry("starter")
    client = await connect_for_work(ready)
    told = {"outlast.mission": mission.id, "outlast.tenant": mission.tenant}
    with span("mission", told):  # the root of its one trace
        started = await start_resolved(mission, client)
        print_address(client, options)
        with screen(options.plain or options.as_json) as shown:
            shown.note(f"mission {mission.id}")
            report = await follow(started, shown)
        describe({"outlast.status": report.status.value})
        return started, report


def cancel_on_stop() -> None:
    """
    Have the current task cancelled at SIGTERM or when the terminal is closed, as
    Ctrl-C does by itself.
    """
    task = asyncio.current_task()
    if task is not None:
        on_stop(task.cancel, END_SIGNALS)


def _print_interrupted(mission: Mission, options: RunOptions) -> None:
    where = " on the state in OUTLAST_HOME (`outlast dev`)" if options.embedded else ""
    tell(
        f"\nmission {mission.id} is kept and goes on as soon as workers run{where}; "
        f"look with: outlast status {mission.id}",
        file=sys.stderr,
    )


def _ui(ready: dict[str, Any] | None, mission: Mission) -> str | None:
    return f"{ready['ui']}/namespaces/default/workflows/{mission.id}" if ready else None


def _exit_code(report: Report, strict: bool) -> int:
    if report.status is MissionStatus.COMPLETED:
        return 0
    if report.status is MissionStatus.DEGRADED:
        return EXIT_DEGRADED if strict else 0
    return EXIT_FAILED
