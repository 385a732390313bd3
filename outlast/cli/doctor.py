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

from outlast.agents.agent_loading import load_agents
from outlast.agents.shared_globals import WrittenGlobal, written_globals
from outlast.cli.builds import action_needed
from outlast.cli.entrypoint import EXIT_BAD_INPUT, EXIT_FAILED
from outlast.cli.session import Session
from outlast.cli.stuck_workflows import stuck_missions
from outlast.contracts.errors import OutlastError, UnavailableError
from outlast.contracts.timing import STOCK_TIMER_SLACK_S
from outlast.contracts.timing_validation import predict_recovery
from outlast.dev.server_command import find_cli
from outlast.fleet.store_watch import store_trouble_text
from outlast.ledger.audit import audit_ledger
from outlast.ledger.batches import INTERRUPTED
from outlast.ledger.circuit_decision import describe
from outlast.ledger.circuits import CircuitRecords
from outlast.process.called import tell
from outlast.process.home import why_readable
from outlast.process.json_output import print_json_answer, reserve_stdout
from outlast.settings import settings
from outlast.temporal.connect import describe_address
from outlast.temporal.deployments import list_builds
from outlast.temporal.missions import has_search_attributes
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.reconcile import disagreements
from outlast.temporal.sdk import SDK_VERSION, untested
from outlast.temporal.workflow_state import ENDED_OUTSIDE, interrupted, running_in

AGENTS_CHECK = "agents"


@dataclass(frozen=True)
class Check:
    """
    One thing that was looked at.
    """

    what: str
    ok: bool
    text: str
    warning: bool = False  # something to know, and nothing that must be mended


async def examine(session: Session, as_json: bool) -> int:
    """
    Print what was found; returns 1 where something is not well, 2 where that is the
    agents.
    """
    if as_json:
        reserve_stdout()
    findings = [
        _checked("python", lambda: sys.version.split()[0]),
        _sdk(),
        _checked("server binary", find_cli),
    ]
    findings += [
        _home(),
        _checked("store", lambda: _store(session)),
        _store_trouble(),
        _checked(AGENTS_CHECK, _agents),
    ]
    findings += shared_globals()
    with suppress(OutlastError):  # the store's trouble is among the findings already
        findings += away_services(CircuitRecords(session.store))
    findings += await _server(session)
    if as_json:
        print_json_answer({"findings": [vars(each) for each in findings]})
    else:
        for each in findings:
            tell(f"{_mark(each):<4} {each.what:<14} {each.text}")
        print("\npredicted worst recovery, on servers as we start them / untuned:")
        print("\n".join(_bounds()))
    if all(each.ok for each in findings):
        return 0
    usable = all(each.ok for each in findings if each.what == AGENTS_CHECK)
    return EXIT_FAILED if usable else EXIT_BAD_INPUT


def _mark(finding: Check) -> str:
    if finding.warning:
        return "warn"
    return "ok" if finding.ok else "BAD"


def away_services(circuits: CircuitRecords) -> Iterator[Check]:
    """
    Warn of the outside services that the crew does not call for now, one line each.
    """
    for tenant, service, circuit in circuits.away():
        in_s = max(0.0, circuit.probe_at - circuits.now())
        renew = "; renew its key or its account" if circuit.refused else ""
        told = f"{describe(service, circuit)}; next probe in {in_s:.1f} s{renew}"
        yield Check("service away", True, f"{told} (tenant {tenant})", warning=True)


def shared_globals() -> Iterator[Check]:
    """
    Warn of the globals that functions of agents' modules write, one line each: attempts
    that share a process share them.
    """
    try:
        agents = load_agents(settings().modules).values()
    except OutlastError:
        return  # told already
    modules = {
        inspect.unwrap(each.func).__module__ for each in agents if not each.isolated
    }
    for file in sorted(filter(None, map(_file_of, modules))):
        for each in _written(Path(file)):
            told = (
                f"{file}:{each.line}: {each.name} is written by a function, and shared "
                "by all attempts in a process: keep it in ctx or in variables of the "
                'attempt, or declare the agent with isolation="process"'
            )
            yield Check("shared global", True, told, warning=True)


def _written(file: Path) -> list[WrittenGlobal]:
    try:
        return written_globals(file.read_text(errors="replace"))
    except (OSError, SyntaxError, ValueError):
        return []  # it was loaded from elsewhere, as from an archive


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _checked(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except OutlastError as error:
        return Check(what, False, str(error))


def _sdk() -> Check:
    told = untested()
    return Check("temporalio", True, told or SDK_VERSION, warning=told is not None)


def _home() -> Check:
    home = settings().home.resolve()
    told = why_readable(home)
    return Check("home", True, told or str(home), warning=told is not None)


def _store(session: Session) -> str:
    session.store.probe()
    audit = audit_ledger(session.store)
    return f"{session.store.place}: {audit.accepted} missions, {len(audit.open)} open"


def _store_trouble() -> Check:
    told = store_trouble_text(settings().home.resolve())
    return Check("waited for", not told, told or "nothing")


def _agents() -> str:
    return ", ".join(sorted(load_agents(settings().modules)))


async def _server(session: Session) -> list[Check]:
    try:
        client = await session.client()
    except OutlastError as error:
        return [Check("server", False, str(error))]
    where = f"{describe_address(client)}, namespace {client.namespace}"
    found = [Check("server", True, where)]
    tags = await has_search_attributes(client)
    told = "registered" if tags else "not registered: the Web UI shows no status column"
    found.append(Check("search tags", True, told))
    # At once: where the server answers nothing, each of them waits for 10 s.
    looks = (
        _own_temporal(client, session),
        _records(client, session),
        _builds(client),
        _stuck_workflows(client, session),
    )
    own, records, builds_, stuck = await asyncio.gather(*looks)
    return [*found, own, records, *_interrupted(session), builds_, stuck]


async def _own_temporal(client: Client, session: Session) -> Check:
    try:
        await require_known_server(client, session.store)
    except OutlastError as error:
        return Check("missions", False, str(error))
    return Check("missions", True, "live on this server")


async def _records(client: Client, session: Session) -> Check:
    try:
        await require_known_server(client, session.store)
        amiss = await disagreements(client, session.store)
    except (OutlastError, RPCError) as error:
        return Check("records", True, f"not compared: {error}")
    told = "; ".join(amiss) or "as the server has it"
    return Check("records", not amiss, told)


def _interrupted(session: Session) -> Iterator[Check]:
    """
    Name the missions that others have ended: a person must say what becomes of them.
    """
    missions = audit_ledger(session.store).interrupted
    found = [(each.id, each.interruption) for each in missions]
    batches = [e.id for e in session.batches.records() if e.state == INTERRUPTED]
    for name, why in [*found, *((batch, ENDED_OUTSIDE) for batch in batches)]:
        yield Check("interrupted", True, interrupted(name, why), warning=True)


async def _builds(client: Client) -> Check:
    try:
        known = await list_builds(client)
    except UnavailableError as error:
        return Check("builds", True, str(error))
    missing = "; ".join(
        f"{each.build}: {action_needed(each)}" for each in known if action_needed(each)
    )
    told = ", ".join(f"{each.build} {each.status}" for each in known) or "none"
    return Check("builds", not missing, missing or told)


async def _stuck_workflows(client: Client, session: Session) -> Check:
    names = set(audit_ledger(session.store).open)
    with suppress(RPCError):  # also those of which nobody has a record
        names |= await running_in(client)
    try:
        stuck = await stuck_missions(client, names)
    except UnavailableError as error:
        return Check("stuck", True, str(error))
    return Check("stuck", not stuck, "; ".join(stuck) or "none")


def _bounds() -> Iterator[str]:
    timing = settings().timing
    stock = timing.model_copy(update={"timer_slack_s": STOCK_TIMER_SLACK_S})
    for tuned, untuned in zip(
        predict_recovery(timing), predict_recovery(stock), strict=True
    ):
        yield (
            f"  {tuned.fault:<40} {tuned.worst_s:4.2f} s / {untuned.worst_s:4.2f} s"
            f"   ({tuned.by})"
        )
