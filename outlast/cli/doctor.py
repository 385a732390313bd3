"""
Examine this machine, the store and the server, and predict the recoveries.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from outlast.agents.agent_loading import load
from outlast.agents.shared_globals import Written, written_globals
from outlast.cli.builds import wants
from outlast.cli.entrypoint import EXIT_BAD_INPUT, EXIT_FAILED
from outlast.cli.run_mission import reach
from outlast.cli.stores import open_store
from outlast.cli.stuck_workflows import wedged_among
from outlast.contracts.errors import OutlastError, UnavailableError
from outlast.contracts.policies import STOCK_TIMER_SLACK_S, recovery
from outlast.dev.server import find_cli
from outlast.fleet.store_watch import waited_words
from outlast.ledger.batches import INTERRUPTED, Batches
from outlast.ledger.missions import Books
from outlast.process.called import tell
from outlast.process.home import why_readable
from outlast.process.json_output import answer, keep_for_answer
from outlast.settings import settings
from outlast.temporal.connect import where_is
from outlast.temporal.deployments import builds
from outlast.temporal.missions import tags_known
from outlast.temporal.own_temporal import refuse_another
from outlast.temporal.reconcile import (
    ENDED_BY_OTHERS,
    disagreements,
    interrupted,
    running_in,
)
from outlast.temporal.sdk import INSTALLED, untested

AGENTS = "agents"


@dataclass(frozen=True)
class Finding:
    """
    One thing that was looked at.
    """

    what: str
    well: bool
    told: str
    warning: bool = False  # something to know, and nothing that must be mended


async def examine(as_json: bool) -> int:
    """
    Print what was found; returns 1 where something is not well, 2 where that is the
    agents.
    """
    if as_json:
        keep_for_answer()
    findings = [_try("python", _python), _sdk(), _try("server binary", find_cli)]
    findings += [_home(), _try("store", _store), _waits(), _try(AGENTS, _agents)]
    findings += shared_globals()
    findings += await _server()
    if as_json:
        answer({"findings": [vars(each) for each in findings]})
    else:
        for each in findings:
            tell(f"{_mark(each):<4} {each.what:<14} {each.told}")
        print("\npredicted worst recovery, on servers as we start them / untuned:")
        print("\n".join(_bounds()))
    if all(each.well for each in findings):
        return 0
    usable = all(each.well for each in findings if each.what == AGENTS)
    return EXIT_FAILED if usable else EXIT_BAD_INPUT


def _mark(finding: Finding) -> str:
    if finding.warning:
        return "warn"
    return "ok" if finding.well else "BAD"


def shared_globals() -> Iterator[Finding]:
    """
    Warn of the globals that functions of agents' modules write, one line each: attempts
    that share a process share them.
    """
    try:
        agents = load(settings().modules).values()
    except OutlastError:
        return  # told already
    modules = {
        inspect.unwrap(each.play).__module__ for each in agents if not each.isolated
    }
    for file in sorted(filter(None, map(_file_of, modules))):
        for each in _written(Path(file)):
            told = (
                f"{file}:{each.line}: {each.name} is written by a function, and shared "
                "by all attempts in a process: keep it in ctx or in variables of the "
                'attempt, or declare the agent with isolation="process"'
            )
            yield Finding("shared global", True, told, warning=True)


def _written(file: Path) -> list[Written]:
    try:
        return written_globals(file.read_text(errors="replace"))
    except (OSError, SyntaxError, ValueError):
        return []  # it was loaded from elsewhere, as from an archive


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except OutlastError as error:
        return Finding(what, False, str(error))


def _python() -> str:
    return sys.version.split()[0]


def _sdk() -> Finding:
    told = untested()
    return Finding("temporalio", True, told or INSTALLED, warning=told is not None)


def _home() -> Finding:
    home = settings().home.resolve()
    told = why_readable(home)
    return Finding("home", True, told or str(home), warning=told is not None)


def _store() -> str:
    store = open_store()
    store.probe()
    audit = Books(store).audit()
    return f"{store.place}: {audit.accepted} missions, {len(audit.open)} open"


def _waits() -> Finding:
    """
    Say what the workers of this home wait for.
    """
    told = waited_words(settings().home.resolve())
    return Finding("waited for", not told, told or "nothing")


def _agents() -> str:
    return ", ".join(sorted(load(settings().modules)))


async def _server() -> list[Finding]:
    try:
        client = await reach()
    except OutlastError as error:
        return [Finding("server", False, str(error))]
    where = f"{where_is(client)}, namespace {client.namespace}"
    found = [Finding("server", True, where)]
    tags = await tags_known(client)
    told = "registered" if tags else "not registered: the Web UI shows no status column"
    found.append(Finding("search tags", True, told))
    # At once: where the server answers nothing, each of them waits for 10 s.
    looks = _own_temporal(client), _records(client), _builds(client), _wedged(client)
    own, records, builds_, wedged = await asyncio.gather(*looks)
    return [*found, own, records, *_interrupted(), builds_, wedged]


async def _own_temporal(client: Client) -> Finding:
    """
    Find whether the store's missions live on this server.
    """
    try:
        await refuse_another(client, open_store())
    except OutlastError as error:
        return Finding("missions", False, str(error))
    return Finding("missions", True, "live on this server")


async def _records(client: Client) -> Finding:
    """
    Hold the store's records against what the server runs, where it is theirs.
    """
    store = open_store()
    try:
        await refuse_another(client, store)
        amiss = await disagreements(client, store)
    except (OutlastError, RPCError) as error:
        return Finding("records", True, f"not compared: {error}")
    told = "; ".join(amiss) or "as the server has it"
    return Finding("records", not amiss, told)


def _interrupted() -> Iterator[Finding]:
    """
    Name the missions that others have ended: a person must say what becomes of them.
    """
    store = open_store()
    missions = Books(store).audit().interrupted
    found = [(each.id, each.interruption) for each in missions]
    batches = [e.id for e in Batches(store).entries() if e.state == INTERRUPTED]
    for name, why in [*found, *((batch, ENDED_BY_OTHERS) for batch in batches)]:
        yield Finding("interrupted", True, interrupted(name, why), warning=True)


async def _builds(client: Client) -> Finding:
    """
    Find builds that missions wait for while nobody polls with them.
    """
    try:
        known = await builds(client)
    except UnavailableError as error:
        return Finding("builds", True, str(error))
    missing = "; ".join(f"{each.build}: {wants(each)}" for each in known if wants(each))
    told = ", ".join(f"{each.build} {each.status}" for each in known) or "none"
    return Finding("builds", not missing, missing or told)


async def _wedged(client: Client) -> Finding:
    names = set(Books(open_store()).audit().open)
    with suppress(RPCError):  # also those of which nobody has a record
        names |= await running_in(client)
    try:
        wedged = await wedged_among(client, names)
    except UnavailableError as error:
        return Finding("wedged", True, str(error))
    return Finding("wedged", not wedged, "; ".join(wedged) or "none")


def _bounds() -> Iterator[str]:
    timing = settings().timing
    stock = timing.model_copy(update={"timer_slack_s": STOCK_TIMER_SLACK_S})
    for tuned, untuned in zip(recovery(timing), recovery(stock), strict=True):
        yield (
            f"  {tuned.fault:<40} {tuned.worst_s:4.2f} s / {untuned.worst_s:4.2f} s"
            f"   ({tuned.by})"
        )
