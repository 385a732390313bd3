"""
Conduct a batch: feed it, follow it, and print how it ended.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer
from rich.console import Console

from outlast.agents.agent_check import fault_of_input
from outlast.cli.entrypoint import EXIT_DEGRADED, EXIT_FAILED, in_session
from outlast.cli.follow import shown
from outlast.cli.mission_file import new_mission_id
from outlast.cli.run_mission import (
    RunOptions,
    connect_for_work,
    on_stack,
    print_address,
)
from outlast.cli.session import Session, require_local_workers
from outlast.contracts.batches import Batch, BatchReport
from outlast.ledger.batches import BatchRecords
from outlast.process.called import tell
from outlast.process.json_output import print_json_answer, reserve_stdout
from outlast.process.safe_output import display_of
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.output_roots import writing_within
from outlast.telemetry.process import telemetry
from outlast.temporal.batches import (
    BatchHandle,
    open_batch,
    require_agent,
    resolve_batch,
)
from outlast.temporal.item_source import ItemSource, item_source
from outlast.temporal.own_temporal import require_known_server

BATCH_CHECK_S = 0.5
BATCH_LINE_S = 2.0


def run_and_report_batch(
    where: str, role: str, name: str | None, tenant: str, options: RunOptions
) -> None:
    """
    Feed a batch, follow it, tell how it ended, and exit by that.

    :raises BadInputError: before anything is started.
    """
    if options.as_json:
        reserve_stdout()
    agent = require_agent(role)
    with writing_within(settings().workers_output):
        given = item_source(
            where, partial(fault_of_input, agent), settings().largest_bytes
        )
    if not options.embedded:
        require_local_workers()
    stem = "batch" if where == "-" else Path(where).stem
    name = name or new_mission_id(stem)
    in_session(
        _run_and_report, partial(resolve_batch, role, name, tenant), given, options
    )


def _run_and_report(
    session: Session,
    resolve: Callable[[Store], Batch],
    items: ItemSource,
    options: RunOptions,
) -> None:
    batch = resolve(session.store)
    again = f"outlast batch {items.name} --agent {batch.role} --id {batch.id}"
    goes_on = "" if items.total is None else f"; {again} goes on"
    kept = (
        f"\nbatch {batch.id} is kept, with the items that have come, and goes on as "
        f"soon as workers run{goes_on}"
    )
    with on_stack(session, options, kept):
        began = time.monotonic()
        report = asyncio.run(_run_batch(session, batch, items, options))
    _print_report(report, time.monotonic() - began, options)
    raise typer.Exit(exit_code_of_batch(report, options.strict))


def exit_code_of_batch(report: BatchReport, strict: bool) -> int:
    """
    Say what *report* exits with: one without any result has failed, one with some is
    like a mission that lacks something.
    """
    if report.cancelled or (report.items and not report.done):
        return EXIT_FAILED
    return EXIT_DEGRADED if report.dead and strict else 0


async def _run_batch(
    session: Session, batch: Batch, items: ItemSource, options: RunOptions
) -> BatchReport:
    client, store = await connect_for_work(session), session.store
    await require_known_server(client, store)
    await asyncio.to_thread(open_batch, batch, store)
    print_address(client, options)
    started = BatchHandle(batch, client, store)
    print(f"batch {batch.id}", file=sys.stderr)
    told = {"outlast.mission": batch.id, "outlast.tenant": batch.tenant}
    with telemetry.tracer.span("batch", told):
        ending = asyncio.ensure_future(_feed_and_wait(started, items))
        await _follow(started, ending, options)
        return await ending


async def _feed_and_wait(started: BatchHandle, items: ItemSource) -> BatchReport:
    await started.feed(items.items())
    return await started.report()


async def _follow(
    started: BatchHandle, ending: "asyncio.Future[BatchReport]", options: RunOptions
) -> None:
    console = Console(file=display_of(sys.stderr))
    live = console.is_terminal and not (options.plain or options.as_json)
    every = BATCH_CHECK_S if live else BATCH_LINE_S
    pace = Throughput()
    try:
        while not ending.done():
            await asyncio.wait([ending], timeout=every)
            if ending.done():
                break
            began = time.monotonic()
            line = await asyncio.to_thread(_line, started, pace)
            if live:
                console.print(shown(line), end="\r", overflow="ellipsis")
            else:
                print(line, file=sys.stderr, flush=True)
            # Counting a million takes a while: never more than a tenth of the time.
            every = max(every, 10 * (time.monotonic() - began))
    except asyncio.CancelledError:
        ending.cancel()
        raise


@dataclass
class Throughput:
    """
    Tells the rate from look to look.
    """

    at: float = 0.0
    settled: int = 0
    rate: float = 0.0

    def update(self, settled: int) -> float:
        """
        Note how many are settled now; returns items a second.
        """
        now = time.monotonic()
        if self.at:
            self.rate = max(0, settled - self.settled) / (now - self.at)
        self.at, self.settled = now, settled
        return self.rate


def _line(started: BatchHandle, pace: Throughput) -> str:
    name, batches = started.batch.id, BatchRecords(started.store)
    count, failing = batches.count(name), batches.failing(name)
    settled = count.done + count.dead
    rate = pace.update(settled)
    left = f", {(count.items - settled) / rate:,.0f} s left" if rate else ""
    trouble = f", {failing:,} failing" if failing else ""
    dead = f", {count.dead:,} dead letters" if count.dead else ""
    return f"{settled:,} of {count.items:,}, {rate:,.0f}/s{left}{trouble}{dead}"


def _print_report(report: BatchReport, seconds: float, options: RunOptions) -> None:
    settled = max(1, report.done + report.dead)
    value = {
        "batch": report.batch,
        "items": report.items,
        "done": report.done,
        "dead": report.dead,
        "seconds": round(seconds, 3),
        "rate": round(settled / seconds, 1),
        "events_per_item": round(report.events / settled, 4),
    }
    if options.as_json:
        print_json_answer({**value, "cancelled": report.cancelled})
        return
    ended = "cancelled" if report.cancelled else "finished"
    print(
        f"{ended}: {report.done:,} of {report.items:,} items done in {seconds:.1f} s, "
        f"{value['rate']:,} a second"
    )
    if report.dead:
        tell(f"dead letters: {report.dead}; see outlast dead-letters {report.batch}")
    tell(f"results  outlast results {report.batch}")
