"""
The starter's verbs for batches: feed one and follow it, read what came of it.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from outlast.attempt.spans import span
from outlast.cli.edge import EXIT_DEGRADED, EXIT_FAILED, EXIT_INTERRUPTED
from outlast.cli.intake import new_id
from outlast.cli.missions import Options, reach, refuse_far_workers, with_client
from outlast.contracts.errors import BadInputError, RefusedError
from outlast.contracts.pool import Batch, BatchReport
from outlast.runtime import telemetry
from outlast.runtime.batch import (
    Given,
    StartedBatch,
    check,
    open_batch,
    read_lines,
    resolve,
    wake,
)
from outlast.runtime.connect import connect
from outlast.runtime.settings import settings
from outlast.runtime.use import used
from outlast.store.database import Store
from outlast.store.folder import scan
from outlast.store.items import Items

LOOK_S = 0.5
LINE_S = 2.0


@dataclass(frozen=True)
class Source:
    """
    Where items come from; *items* may be read more than once unless it is a pipe.
    """

    name: str
    total: int | None  # None for a pipe: known when it ends
    items: Callable[[], Iterator[Given]]


def source(where: str) -> Source:
    """
    Find the items at *where*: a file of JSON lines, a folder, or - for standard input.

    :raises BadInputError: naming the first line that is no item.
    """
    if where == "-":
        name = "standard input"
        return Source(name, None, lambda: read_lines(sys.stdin.buffer, name))
    path = Path(where).expanduser()
    if path.is_dir():
        return _folder(path)
    try:
        with path.open("rb") as file:
            total = check(read_lines(file, where))
    except OSError as error:
        raise BadInputError(f"{where} cannot be read: {error.strerror}") from None
    if not total:
        raise BadInputError(f"{where} holds no items")
    return Source(where, total, lambda: _read_file(path))


def _read_file(path: Path) -> Iterator[Given]:
    with path.open("rb") as file:
        yield from read_lines(file, str(path))


def _folder(path: Path) -> Source:
    """
    Make each document below *path* an item.
    """
    try:
        files = scan(path)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    if not files:
        raise BadInputError(f"{path} holds no document that can be read")
    bodies = [json.dumps({"path": str(each.file)}) for each in files]
    return Source(str(path), len(bodies), lambda: (Given(each) for each in bodies))


def conduct_batch(
    where: str, role: str, name: str | None, tenant: str, options: Options
) -> None:
    """
    Feed a batch, follow it, tell how it ended, and exit by that.

    :raises BadInputError: before anything is started.
    """
    given = source(where)
    if not options.embedded:
        refuse_far_workers()
    stem = "batch" if where == "-" else Path(where).stem
    store = Store(settings().store)
    batch = resolve(role, name or new_id(stem), tenant, store)
    with ExitStack() as leaving:
        ready = leaving.enter_context(used(settings())) if options.embedded else None
        began = time.monotonic()
        try:
            report = asyncio.run(_carry_out(batch, given, store, options, ready))
        except (KeyboardInterrupt, asyncio.CancelledError):
            _tell_interrupted(batch, given)
            raise typer.Exit(EXIT_INTERRUPTED) from None
    seconds = time.monotonic() - began
    _tell(report, seconds, options)
    if report.cancelled:
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(EXIT_DEGRADED if report.dead and options.strict else 0)


async def _carry_out(
    batch: Batch,
    given: Source,
    store: Store,
    options: Options,
    ready: dict[str, Any] | None,
) -> BatchReport:
    telemetry.begin("starter")
    client = await connect(ready["address"]) if ready else await reach()
    items = await asyncio.to_thread(open_batch, batch, store)
    started = StartedBatch(batch, client, items)
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
    console = Console(stderr=True)
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
                console.print(line, end="\r", highlight=False, overflow="ellipsis")
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
    name = started.batch.id
    count = started.items.count(name)
    failing = started.items.failing(name)
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
        print(json.dumps({**value, "cancelled": report.cancelled}))
        return
    ended = "cancelled" if report.cancelled else "finished"
    print(
        f"{ended}: {report.done:,} of {report.items:,} items done in {seconds:.1f} s, "
        f"{value['rate']:,} a second"
    )
    if report.dead:
        print(
            f"dead letters: {report.dead}; see starter.py dead-letters {report.batch}"
        )
    print(f"results  starter.py results {report.batch}")


def _tell_interrupted(batch: Batch, given: Source) -> None:
    more = "" if given.total is None else f"; starter.py batch {given.name} "
    goes_on = f"{more}--agent {batch.role} --id {batch.id} goes on" if more else ""
    print(
        f"\nbatch {batch.id} is kept, with the items that have come, and goes on as "
        f"soon as workers run{goes_on}",
        file=sys.stderr,
    )


def show_results(batch: str) -> None:
    """
    Print the results there are, one JSON line an item, in the order of the items.
    """
    items = known(batch)
    for number, result, degraded in items.results(batch):
        more = f', "degraded": {json.dumps(degraded)}' if degraded else ""
        print(f'{{"item": {number}, "result": {result}{more}}}')


def redrive(batch: str, item: int | None, cause: str | None) -> None:
    """
    Take dead letters back and have the pool work on them.
    """
    refuse_far_workers()
    items = known(batch)
    entry = items.find(batch)
    assert entry is not None
    again = resolve(entry.role, batch, entry.tenant, items.store)
    count = items.redrive(batch, item, cause)
    if not count:
        raise RefusedError(f"no dead letter of {batch!r} is meant by that")
    asyncio.run(with_client(lambda client: wake(client, again)))
    print(f"{batch}: {count} taken back; follow with: starter.py status {batch}")


def show_batch(batch: str, as_json: bool) -> None:
    """
    Print how far a batch is.
    """
    items = known(batch)
    entry, count = items.find(batch), items.count(batch)
    assert entry is not None
    value = {
        "batch": batch,
        "status": entry.state,
        "items": count.items,
        "done": count.done,
        "dead": count.dead,
        "failing": items.failing(batch),
    }
    if as_json:
        print(json.dumps(value))
    else:
        left = f"{count.done:,} of {count.items:,} done, {count.dead:,} dead letters"
        print(f"{batch}  {entry.state}  {left}")


def is_batch(name: str) -> bool:
    """
    Say whether *name* is a batch's.
    """
    return Items(Store(settings().store)).find(name) is not None


def known(batch: str) -> Items:
    """
    Open the books of *batch*.

    :raises BadInputError: when there is no such batch.
    """
    items = Items(Store(settings().store))
    if items.find(batch) is None:
        raise BadInputError(f"no batch {batch!r} is in the store")
    return items
