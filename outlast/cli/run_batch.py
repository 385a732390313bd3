"""
The starter's verb `batch`: feed one, follow it, and tell how it ended.
"""

import asyncio
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from outlast.agents.agent_check import fault_of_input
from outlast.cli.entrypoint import EXIT_DEGRADED, EXIT_FAILED, EXIT_INTERRUPTED
from outlast.cli.follow import shown
from outlast.cli.mission_file import new_id
from outlast.cli.run_mission import (
    Options,
    cancel_on_stop,
    joined,
    reach_for_work,
    refuse_far_workers,
    tell_where,
)
from outlast.cli.stores import open_store
from outlast.contracts.batches import Batch, BatchReport
from outlast.ledger.batches import Batches
from outlast.process.called import tell
from outlast.process.json_output import answer, keep_for_answer
from outlast.process.safe_output import display_of
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.output_roots import writing_below
from outlast.telemetry import setup
from outlast.telemetry.spans import span
from outlast.temporal.batches import StartedBatch, agent_of, open_batch, resolve
from outlast.temporal.item_source import Source, source
from outlast.temporal.own_temporal import refuse_another

LOOK_S = 0.5
LINE_S = 2.0


def conduct_batch(
    where: str, role: str, name: str | None, tenant: str, options: Options
) -> None:
    """
    Feed a batch, follow it, tell how it ended, and exit by that.

    :raises BadInputError: before anything is started.
    """
    if options.as_json:
        keep_for_answer()
    agent = agent_of(role)
    with writing_below(settings().workers_output):
        given = source(where, partial(fault_of_input, agent), settings().largest_bytes)
    if not options.embedded:
        refuse_far_workers()
    stem = "batch" if where == "-" else Path(where).stem
    store = open_store()
    batch = resolve(role, name or new_id(stem), tenant, store)
    with ExitStack() as leaving:
        ready = joined(leaving) if options.embedded else None
        began = time.monotonic()
        try:
            report = asyncio.run(_carry_out(batch, given, store, options, ready))
        except (KeyboardInterrupt, asyncio.CancelledError):
            _tell_interrupted(batch, given)
            raise typer.Exit(EXIT_INTERRUPTED) from None
    seconds = time.monotonic() - began
    _tell(report, seconds, options)
    raise typer.Exit(code(report, options.strict))


def code(report: BatchReport, strict: bool) -> int:
    """
    Say what *report* exits with: one without any result has failed, one with some is
    like a mission that lacks something.
    """
    if report.cancelled or (report.items and not report.done):
        return EXIT_FAILED
    return EXIT_DEGRADED if report.dead and strict else 0


async def _carry_out(
    batch: Batch,
    given: Source,
    store: Store,
    options: Options,
    ready: dict[str, Any] | None,
) -> BatchReport:
    cancel_on_stop()
    setup.begin("starter")
    client = await reach_for_work(ready)
    await refuse_another(client, store)
    await asyncio.to_thread(open_batch, batch, store)
    tell_where(client, options)
    started = StartedBatch(batch, client, store)
    print(f"batch {batch.id}", file=sys.stderr)
    told = {"outlast.mission": batch.id, "outlast.tenant": batch.tenant}
    with span("batch", told):
        ending = asyncio.ensure_future(_feed_and_wait(started, given))
        await _follow(started, ending, options)
        return await ending


async def _feed_and_wait(started: StartedBatch, given: Source) -> BatchReport:
    await started.feed(given.items())
    return await started.report()


async def _follow(
    started: StartedBatch, ending: "asyncio.Future[BatchReport]", options: Options
) -> None:
    """
    Say how far the batch is until it ends.
    """
    console = Console(file=display_of(sys.stderr))
    live = console.is_terminal and not (options.plain or options.as_json)
    every = LOOK_S if live else LINE_S
    pace = Pace()
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
class Pace:
    """
    Tells the rate from look to look.
    """

    at: float = 0.0
    settled: int = 0
    rate: float = 0.0

    def take(self, settled: int) -> float:
        """
        Note how many are settled now; returns items a second.
        """
        now = time.monotonic()
        if self.at:
            self.rate = max(0, settled - self.settled) / (now - self.at)
        self.at, self.settled = now, settled
        return self.rate


def _line(started: StartedBatch, pace: Pace) -> str:
    name, batches = started.batch.id, Batches(started.store)
    count, failing = batches.count(name), batches.failing(name)
    settled = count.done + count.dead
    rate = pace.take(settled)
    left = f", {(count.items - settled) / rate:,.0f} s left" if rate else ""
    trouble = f", {failing:,} failing" if failing else ""
    dead = f", {count.dead:,} dead letters" if count.dead else ""
    return f"{settled:,} of {count.items:,}, {rate:,.0f}/s{left}{trouble}{dead}"


def _tell(report: BatchReport, seconds: float, options: Options) -> None:
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
        answer({**value, "cancelled": report.cancelled})
        return
    ended = "cancelled" if report.cancelled else "finished"
    print(
        f"{ended}: {report.done:,} of {report.items:,} items done in {seconds:.1f} s, "
        f"{value['rate']:,} a second"
    )
    if report.dead:
        tell(f"dead letters: {report.dead}; see outlast dead-letters {report.batch}")
    tell(f"results  outlast results {report.batch}")


def _tell_interrupted(batch: Batch, given: Source) -> None:
    more = "" if given.total is None else f"; outlast batch {given.name} "
    goes_on = f"{more}--agent {batch.role} --id {batch.id} goes on" if more else ""
    tell(
        f"\nbatch {batch.id} is kept, with the items that have come, and goes on as "
        f"soon as workers run{goes_on}",
        file=sys.stderr,
    )
